"""The reference of the protocol, written from the proto files and their comments."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

# Numbers of fields in descriptor.proto, of which the paths of source locations consist.
MESSAGES, ENUMS, SERVICES = 4, 5, 6
FIELDS = METHODS = VALUES = 2
PACKAGE = ".winnow.v1."
SCALARS = {
    FieldDescriptorProto.TYPE_BOOL: "bool",
    FieldDescriptorProto.TYPE_BYTES: "bytes",
    FieldDescriptorProto.TYPE_DOUBLE: "double",
    FieldDescriptorProto.TYPE_FLOAT: "float",
    FieldDescriptorProto.TYPE_INT32: "int32",
    FieldDescriptorProto.TYPE_INT64: "int64",
    FieldDescriptorProto.TYPE_STRING: "string",
    FieldDescriptorProto.TYPE_UINT32: "uint32",
    FieldDescriptorProto.TYPE_UINT64: "uint64",
}

Comments = dict[tuple[int, ...], str]


def protocol_page(protos: Path) -> str:
    """Return the page, in Markdown. Raises RuntimeError where the files cannot be compiled."""
    lines = ["# Protocol", "", "Written from the files in `protos/winnow/v1`.", ""]
    for file in _compile(protos):
        comments: Comments = {
            tuple(location.path): " ".join(location.leading_comments.split())
            for location in file.source_code_info.location
        }
        lines += [f"## {Path(file.name).name}", ""]
        for number, service in enumerate(file.service):
            lines += _service(service, comments, (SERVICES, number))
        for number, message in enumerate(file.message_type):
            lines += _message(message, comments, (MESSAGES, number))
        for number, enum in enumerate(file.enum_type):
            lines += _enum(enum, comments, (ENUMS, number))
    return "\n".join(lines)


def _compile(protos: Path) -> Sequence[FileDescriptorProto]:
    names = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as directory:
        compiled = Path(directory) / "descriptors"
        arguments = ["", f"--proto_path={protos}", f"--descriptor_set_out={compiled}", "--include_source_info", *names]
        if protoc.main(arguments):
            raise RuntimeError("the proto files cannot be compiled")
        return FileDescriptorSet.FromString(compiled.read_bytes()).file


def _service(service: ServiceDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from (f"### {service.name}", "", comments.get(path, ""), "")
    yield from ("| method | takes | returns | |", "|---|---|---|---|")
    for number, method in enumerate(service.method):
        comment = comments.get((*path, METHODS, number), "")
        yield f"| `{method.name}` | {_link(method.input_type)} | {_link(method.output_type)} | {_cell(comment)} |"
    yield ""


def _message(message: DescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from (f"### {message.name}", "", comments.get(path, ""), "")
    if not message.field:
        return
    yield from ("| field | number | type | |", "|---|---|---|---|")
    maps = {nested.name: nested for nested in message.nested_type if nested.options.map_entry}
    for number, field in enumerate(message.field):
        comment = comments.get((*path, FIELDS, number), "")
        yield f"| `{field.name}` | {field.number} | {_type(field, maps)} | {_cell(comment)} |"
    yield ""


def _enum(enum: EnumDescriptorProto, comments: Comments, path: tuple[int, ...]) -> Iterator[str]:
    yield from (f"### {enum.name}", "", comments.get(path, ""), "", "| value | number | |", "|---|---|---|")
    for number, value in enumerate(enum.value):
        yield f"| `{value.name}` | {value.number} | {_cell(comments.get((*path, VALUES, number), ''))} |"
    yield ""


def _type(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    entry = maps.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        key, value = entry.field
        return f"map of {_type(key, {})} to {_type(value, {})}"
    name = SCALARS.get(field.type) or _link(field.type_name)
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def _link(type_name: str) -> str:
    if not type_name.startswith(PACKAGE):
        return f"`{type_name.removeprefix('.')}`"
    name = type_name.removeprefix(PACKAGE)
    return f"[{name}](#{name.lower()})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
