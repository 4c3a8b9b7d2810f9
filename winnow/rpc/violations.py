"""What is wrong with a request, field by field, as it travels in the details of a failed call."""

from typing import NamedTuple

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2


class Violation(NamedTuple):
    """What is wrong with one field of a request."""

    field: str
    """Path of the field, for example `history[3]`."""
    description: str


def violations_of(error: grpc.RpcError) -> list[Violation]:
    """Read the field violations out of a failed call, as a client sees it; empty where there are none."""
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            if status.code == code_pb2.INVALID_ARGUMENT:
                bad_request = error_details_pb2.BadRequest()
                return [
                    Violation(violation.field, violation.description)
                    for detail in status.details
                    if detail.Unpack(bad_request)
                    for violation in bad_request.field_violations
                ]
    return []
