"""The error that the clients raise."""

import grpc

from winnow.rpc.violations import Violation, violations_of


class WinnowError(Exception):
    """A call failed."""

    def __init__(self, code: grpc.StatusCode, message: str, violations: tuple[Violation, ...]) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        """The gRPC status."""
        self.message = message
        """The gateway's own text."""
        self.violations = violations
        """What is wrong with the request, field by field, up to 20 of them; empty unless INVALID_ARGUMENT."""

    def of_each_request(self) -> "WinnowError":
        """The same error for one request of a call that failed as a whole. A new object: each may be raised."""
        return WinnowError(self.code, self.message, self.violations)


def error_of(failure: grpc.RpcError) -> WinnowError:
    """Read a failed call."""
    return WinnowError(failure.code(), failure.details() or "", tuple(violations_of(failure)))
