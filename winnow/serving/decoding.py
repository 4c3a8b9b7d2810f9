"""Why a message could not be decoded: protobuf says only that it could not."""

from collections.abc import Iterator
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass


def find_invalid_utf8(descriptor: Descriptor, data: bytes) -> str | None:
    """Return the path of a string field whose bytes are not UTF-8, such as `history[3].item_id`.

    None where the message is broken in another way.
    """
    try:
        return next(_invalid_paths(_bytes_class(descriptor).FromString(data)), None)
    except DecodeError:
        return None


def _invalid_paths(message: Message) -> Iterator[str]:
    """The bytes fields of a message that are not UTF-8. Maps are left out: no request has any."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        for position, element in enumerate(value if field.is_repeated else [value]):
            path = f"{field.name}[{position}]" if field.is_repeated else field.name
            if field.message_type is not None:
                yield from (f"{path}.{inner}" for inner in _invalid_paths(element))
            elif field.type == FieldDescriptor.TYPE_BYTES and element.decode(errors="ignore").encode() != element:
                yield path


@cache
def _bytes_class(descriptor: Descriptor) -> type[Message]:
    """The same message with bytes in place of strings, which decodes whatever they hold."""
    pool = DescriptorPool()
    _add_file(pool, descriptor.file, set())
    return GetMessageClass(pool.FindMessageTypeByName(descriptor.full_name))


def _add_file(pool: DescriptorPool, file: FileDescriptor, added: set[str]) -> None:
    if file.name in added:
        return
    added.add(file.name)
    for dependency in file.dependencies:
        _add_file(pool, dependency, added)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _strings_to_bytes(message)
    pool.Add(proto)


def _strings_to_bytes(message: DescriptorProto) -> None:
    for nested in message.nested_type:
        _strings_to_bytes(nested)
    for field in message.field:
        # The keys of a map cannot be bytes.
        if field.type == FieldDescriptorProto.TYPE_STRING and not message.options.map_entry:
            field.type = FieldDescriptorProto.TYPE_BYTES
