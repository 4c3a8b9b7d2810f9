"""What a collection holds of a release, as it is written down beside the collection once it has been verified."""

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from winnow.catalogue.schema import Attribute, AttributeType, Schema

PREFIX = "winnow_"
ROW_FIELD = "row"
VECTOR_FIELD = "vector"
# A property of the collection. Without it, nobody searches the collection.
RECORD_PROPERTY = "winnow.record"


def collection_name(release_id: str) -> str:
    """Return the name of the collection of a release: Milvus takes letters, digits and underscores."""
    return PREFIX + release_id.replace("-", "_")


class AttributeField(BaseModel):
    """An attribute and the fields that hold it: number n is in value_n, backwards_n and present_n.

    `backwards` has the characters of texts in the opposite order, for patterns such as `*.pdf`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: Annotated[int, Field(ge=0)]
    name: str
    type: AttributeType
    capacity: Annotated[int, Field(ge=1)] = 1
    """Of a list: how many texts the longest has."""

    @property
    def value(self) -> str:
        """The field of the values."""
        return f"value_{self.number}"

    @property
    def backwards(self) -> str:
        """The field of the texts from their ends."""
        return f"backwards_{self.number}"

    @property
    def present(self) -> str:
        """The field that says which items have a value."""
        return f"present_{self.number}"


class CollectionRecord(BaseModel):
    """How a collection was filled, and how it is to be searched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    release_id: str
    row_count: Annotated[int, Field(ge=0)]
    """Retired items are not in the collection."""
    width: Annotated[int, Field(ge=1)]
    list_count: Annotated[int, Field(ge=1)]
    """How many inverted lists a segment has."""
    probe_count: Annotated[int, Field(ge=1)]
    """How many of them one query scans, unless it finds too little in them."""
    recall_at_200: Annotated[float, Field(ge=0, le=1)]
    attributes: tuple[AttributeField, ...]

    @property
    def fields(self) -> dict[str, AttributeField]:
        """The attributes by name."""
        return {field.name: field for field in self.attributes}

    @property
    def schema_of_filters(self) -> Schema:
        """What filters are checked against. The counts are unknown here."""
        return {
            field.name: Attribute(name=field.name, type=field.type, missing_count=0, distinct_count=None)
            for field in self.attributes
        }


def read_record(description: dict[str, Any]) -> CollectionRecord | None:
    """Return the record from what Milvus says of a collection; None where it was not filled to the end.

    Raises ValueError where it is damaged.
    """
    text = (description.get("properties") or {}).get(RECORD_PROPERTY)
    if text is None:
        return None
    try:
        return CollectionRecord.model_validate(json.loads(text))
    except (ValidationError, json.JSONDecodeError) as error:
        raise ValueError(f"its property {RECORD_PROPERTY} cannot be read: {str(error).splitlines()[0]}") from error
