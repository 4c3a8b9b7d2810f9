"""What pages say where a gateway has no answer."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from grpc import StatusCode

from winnow.client import WinnowError
from winnow.explorer.inputs import Problem, problems_of

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call without an answer, in words for people."""

    heading: str
    text: str
    http_status: int
    problems: tuple[Problem, ...] = ()
    """What is wrong with the inputs, where that is the reason."""


async def attempt(call: Awaitable[Answer], target: str, timeout_seconds: float) -> Answer | Failure:
    """Wait for a call of a client. A failure is a value: the rest of the page can be shown."""
    try:
        return await call
    except WinnowError as error:
        return failure_of(error, target, timeout_seconds)
    except (TypeError, ValueError) as error:
        # What the client itself refuses.
        return _refused((Problem("", str(error)),))


def failure_of(error: WinnowError, target: str, timeout_seconds: float) -> Failure:
    """Say what happened and what can be done about it."""
    match error.code:
        case StatusCode.UNAVAILABLE:
            return Failure(
                heading="The gateway does not answer",
                text=f"Nothing answers at {target}, or it has no release yet. Is it running? (“{error.message[:200]}”)",
                http_status=502,
            )
        case StatusCode.DEADLINE_EXCEEDED:
            return Failure(
                heading="The gateway is slow",
                text=f"{target} had no answer within {timeout_seconds:g} seconds. The page of health may show why.",
                http_status=504,
            )
        case StatusCode.INVALID_ARGUMENT:
            return _refused(tuple(problems_of(error)) or (Problem("", error.message),))
        case StatusCode.FAILED_PRECONDITION:
            return Failure(heading="The gateway cannot do this", text=error.message, http_status=502)
        case StatusCode.UNIMPLEMENTED:
            return Failure(
                heading="The gateway does not know this call",
                text=f"{target} is of another version, or it is not a gateway.",
                http_status=502,
            )
        case StatusCode.PERMISSION_DENIED:
            return Failure(heading="The token does not permit this", text=error.message[:200], http_status=502)
        case StatusCode.UNAUTHENTICATED:
            return Failure(
                heading="The gateway wants a token",
                text="Start the explorer with a token that the gateway knows: see --token.",
                http_status=502,
            )
        case StatusCode.RESOURCE_EXHAUSTED:
            return Failure(
                heading="The gateway is overloaded",
                text=f"{target} has rejected the call: {error.message[:200]}",
                http_status=502,
            )
        case _:
            return Failure(
                heading="The call has failed",
                text=f"{target} says {error.code.name}: {error.message[:200]}",
                http_status=502,
            )


def _refused(problems: tuple[Problem, ...]) -> Failure:
    return Failure(
        heading="The gateway refuses the request",
        text=" ".join(problem.text for problem in problems),
        http_status=400,
        problems=problems,
    )
