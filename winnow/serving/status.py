"""The status RPC that every service offers beside its own."""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import grpc

from winnow.distribution import NAME
from winnow.serving.release_status import ExperimentStatus, ReleaseState, ReleaseStatus
from winnow.v1 import status_pb2, status_pb2_grpc


class StatusService(status_pb2_grpc.StatusServiceServicer):
    """Implements winnow.v1.StatusService."""

    grpc_service_name = status_pb2.DESCRIPTOR.services_by_name["StatusService"].full_name

    def __init__(
        self,
        service: str,
        releases: Callable[[], Sequence[ReleaseStatus]],
        experiment: Callable[[], ExperimentStatus | None],
    ) -> None:
        self._service = service
        self._version = version(NAME)
        self._releases = releases
        self._experiment = experiment

    async def GetStatus(
        self, request: status_pb2.GetStatusRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> status_pb2.GetStatusResponse:
        """Say which releases are held, used and refused."""
        releases = self._releases()
        current = [release.release_id for release in releases if release.state is ReleaseState.CURRENT]
        return status_pb2.GetStatusResponse(
            service=self._service,
            version=self._version,
            release_id=current[0] if current else "",
            releases=[
                status_pb2.ReleaseStatus(
                    release_id=release.release_id,
                    state=status_pb2.ReleaseState.Value(f"RELEASE_STATE_{release.state.name}"),
                    reason=release.reason,
                    in_flight_count=release.in_flight_count,
                )
                for release in releases
            ],
            experiment=_experiment(self._experiment()),
        )


def _experiment(status: ExperimentStatus | None) -> status_pb2.ExperimentStatus | None:
    if status is None:
        return None
    return status_pb2.ExperimentStatus(
        name=status.name,
        arms=[
            status_pb2.ExperimentArmStatus(
                name=arm.name,
                release_id=arm.release_id,
                share=arm.share,
                shadow=arm.shadow,
                waits_for=arm.waits_for,
            )
            for arm in status.arms
        ],
        file_error=status.file_error,
    )
