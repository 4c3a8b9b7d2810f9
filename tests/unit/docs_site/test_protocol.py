from pathlib import Path

import pytest

from docs_site.protocol import protocol_page

PROTO = """
syntax = "proto3";
package winnow.v1;

// Keeps notes.
service NoteService {
  // Keep a note | or replace one.
  rpc KeepNote(Note) returns (Note);
}

// What is to
// be remembered.
message Note {
  // How it reads.
  string text = 1;
  repeated Kind kinds = 2;
  optional int64 timestamp_seconds = 3;
  map<string, float> shares = 4;
}

enum Kind {
  KIND_UNSPECIFIED = 0;
  // By hand.
  KIND_WRITTEN = 1;
}
"""


@pytest.fixture
def page(tmp_path: Path) -> list[str]:
    (tmp_path / "notes.proto").write_text(PROTO)
    return protocol_page(tmp_path).splitlines()


def test_services_list_their_methods(page: list[str]) -> None:
    assert "Keeps notes." in page
    assert "| `KeepNote` | [Note](#note) | [Note](#note) | Keep a note \\| or replace one. |" in page


def test_messages_list_their_fields(page: list[str]) -> None:
    assert "What is to be remembered." in page
    assert "| `text` | 1 | string | How it reads. |" in page
    assert "| `kinds` | 2 | repeated [Kind](#kind) |  |" in page
    assert "| `timestamp_seconds` | 3 | optional int64 |  |" in page
    assert "| `shares` | 4 | map of string to float |  |" in page


def test_enums_list_their_values(page: list[str]) -> None:
    assert "| `KIND_WRITTEN` | 1 | By hand. |" in page


def test_files_that_do_not_compile_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.proto").write_text("message {")
    with pytest.raises(RuntimeError, match="cannot be compiled"):
        protocol_page(tmp_path)
