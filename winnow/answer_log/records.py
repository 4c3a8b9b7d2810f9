"""One record of the log, as a line of JSON."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

_CONFIG = ConfigDict(frozen=True, extra="forbid")


class ServedItem(BaseModel):
    """An item of an answer. Its place is its position in the record."""

    model_config = _CONFIG

    item_id: Annotated[str, Field(min_length=1)]
    score: FiniteFloat
    sources: tuple[str, ...] = ()
    """What proposed it; empty where only the network and popularity took part."""


class AnswerRecord(BaseModel):
    """What a gateway answered to one request."""

    model_config = _CONFIG

    recommendation_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$")]
    """A UUID of version 7."""
    timestamp: int
    """Of the request, in seconds since 1970: what the caller said, else the gateway's clock."""
    user_id: Annotated[str, Field(min_length=1)]
    release_id: str
    arm: str = ""
    """Of an experiment; empty outside one."""
    degradation: str
    """The name of the step, NONE where the answer is not degraded."""
    degradation_reason: str = ""
    items: tuple[ServedItem, ...]
    """As they were answered, best first."""

    @property
    def answered_milliseconds(self) -> int:
        """When it was answered by the gateway's clock, since 1970: part of the id."""
        return int(self.recommendation_id[:8] + self.recommendation_id[9:13], 16)


def line_of(record: Mapping[str, Any]) -> bytes:
    """Return the fields of a record, and of its items, as a line of JSON in UTF-8, with its end.

    It is not checked: a gateway makes many.
    """
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def record_of(line: bytes) -> AnswerRecord:
    """Read a line. Raises ValueError that says what is wrong with it, and quotes nothing."""
    try:
        return AnswerRecord.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise ValueError(f"{field}: {first['msg']}" if field else first["msg"]) from None
