"""The collection of a release, as a service finds it."""

from pymilvus import MilvusClient

from winnow.milvus.connection import EngineError
from winnow.milvus.record import VECTOR_FIELD, CollectionRecord, collection_name, read_record
from winnow.release.manifest import Manifest


def open_collection(client: MilvusClient, manifest: Manifest) -> CollectionRecord:
    """Return the record of a release's collection. Raises EngineError where it cannot be searched, or does not fit."""
    release_id, name = manifest.release_id, collection_name(manifest.release_id)
    how = f"`winnow publish {release_id} --engine milvus` fills it"
    if not client.has_collection(name):
        raise EngineError(f"Milvus has no collection {name}: {how}")
    description = client.describe_collection(name)
    try:
        record = read_record(description)
    except ValueError as error:
        raise EngineError(f"{name}: {error}") from error
    if record is None:
        raise EngineError(f"{name} was not filled to the end: {how}")
    expected = manifest.item_count - manifest.retired_item_count
    if record.release_id != release_id or record.row_count != expected:
        raise EngineError(f"{name} holds {record.row_count} items of {record.release_id}, not {expected}: {how}")
    widths = [field["params"].get("dim") for field in description["fields"] if field["name"] == VECTOR_FIELD]
    width = manifest.candidate_network.hidden_dim
    if widths != [width] or record.width != width:
        raise EngineError(f"{name} holds vectors of width {widths}, the network's have {width}: {how}")
    found = count(client, name, "")
    if found != expected:
        raise EngineError(f"{name} holds {found} items, not {expected}: {how}")
    return record


def count(client: MilvusClient, name: str, expression: str) -> int:
    """How many items of a collection match an expression; all, where it is empty."""
    [found] = client.query(name, filter=expression, output_fields=["count(*)"], consistency_level="Strong")
    return int(found["count(*)"])
