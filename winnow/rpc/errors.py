"""Errors that a caller may see: each has its status code, and nothing but its own text reaches the caller."""

from collections.abc import Sequence

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from winnow.rpc.violations import Violation

STATUS_DETAILS = "grpc-status-details-bin"
# Details travel in trailers, which fail beyond 8 KB: 20 violations of at most 200 characters stay below that.
MAX_VIOLATIONS = 20
MAX_DESCRIPTION_CHARACTERS = 200
# The field of a violation that concerns the request as a whole.
WHOLE_REQUEST = "request"
# gRPC's own retries stop at a negative pushback (gRFC A6).
NO_RETRY = ("grpc-retry-pushback-ms", "-1")


class ServiceError(Exception):
    """An error whose code and text are meant for the caller."""

    code = grpc.StatusCode.INTERNAL

    def details(self) -> Sequence[AnyMessage]:
        """google.rpc details to send along."""
        return ()

    def status(self) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
        """Code, text and trailing metadata."""
        details = self.details()
        if not details:
            return self.code, str(self), ()
        number, _ = self.code.value
        status = status_pb2.Status(code=number, message=str(self), details=details)
        return self.code, str(self), ((STATUS_DETAILS, status.SerializeToString()),)


class InvalidRequestError(ServiceError):
    """The request is invalid: sending it again does not help."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = [
            Violation(field, description[:MAX_DESCRIPTION_CHARACTERS])
            for field, description in violations[:MAX_VIOLATIONS]
        ]
        more = len(violations) - 1
        first = self.violations[0]
        super().__init__(f"{first.field}: {first.description}" + (f" (and {more} more)" if more else ""))

    def within(self, parent: str) -> "InvalidRequestError":
        """The same error, as seen from the message whose field `parent` the request is."""
        return InvalidRequestError(
            [
                Violation(parent if field == WHOLE_REQUEST else f"{parent}.{field}", description)
                for field, description in self.violations
            ]
        )

    def details(self) -> Sequence[AnyMessage]:
        """google.rpc.BadRequest with one violation a field."""
        bad_request = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                for field, description in self.violations
            ]
        )
        return (_as_any(bad_request),)


class PermissionDeniedError(ServiceError):
    """The caller is known, by its certificate, and is not one who may call."""

    code = grpc.StatusCode.PERMISSION_DENIED


class ReleaseNotHeldError(ServiceError):
    """The stage does not hold the release that the request is pinned to."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class OverloadedError(ServiceError):
    """Work was rejected at once because it could not be done in time. Not to be retried at once."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds

    def details(self) -> Sequence[AnyMessage]:
        """google.rpc.RetryInfo: when another try may succeed."""
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromMicroseconds(int(self.retry_after_seconds * 1e6))
        return (_as_any(retry_info),)


class UnavailableError(ServiceError):
    """Loading, draining, or a stage that does not answer: a later try, or another replica, may succeed."""

    code = grpc.StatusCode.UNAVAILABLE


class StageUnavailableError(UnavailableError):
    """A stage gave no answer, although the gateway has retried: clients are told not to retry by themselves."""

    def status(self) -> tuple[grpc.StatusCode, str, tuple[tuple[str, str | bytes], ...]]:
        """See ServiceError.status."""
        code, text, metadata = super().status()
        return code, text, (*metadata, NO_RETRY)


class DeadlineError(ServiceError):
    """The deadline passed before there was an answer."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


def _as_any(message: error_details_pb2.BadRequest | error_details_pb2.RetryInfo) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
