"""Who gets in while the file of tokens changes."""

from pathlib import Path

import pytest

import gateway.tokens
from gateway.tokens import TokenCheck


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with two tokens, looked at before every call."""
    monkeypatch.setattr(gateway.tokens, "LOOK_SECONDS", 0.0)
    made = tmp_path / "tokens"
    made.write_text("first\n\n  second  \n")
    return made


def accepted(check: TokenCheck, *tokens: str) -> list[bool]:
    return [check.refusal([("authorization", f"Bearer {token}")]) is None for token in tokens]


def test_each_line_is_a_token(path: Path) -> None:
    check = TokenCheck(path)
    assert accepted(check, "first", "second", "third", "") == [True, True, False, False]
    for metadata in ([], [("authorization", "Basic first")], [("authorization", b"Bearer first")]):
        refusal = check.refusal(metadata)
        assert str(refusal) == "a bearer token is needed in the authorization metadata"


def test_an_emptied_file_withdraws_all_tokens(path: Path) -> None:
    check = TokenCheck(path)
    path.write_text("\n")
    assert accepted(check, "first", "second", "") == [False, False, False]
    path.write_text("third\n")
    assert accepted(check, "first", "third") == [False, True]


def test_a_file_that_cannot_be_read_changes_nothing(path: Path) -> None:
    check = TokenCheck(path)
    path.unlink()
    assert accepted(check, "first", "third") == [True, False]


def test_tokens_are_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\nfine\n")
    assert accepted(TokenCheck(path), "fine", "\u00ff") == [True, False]


@pytest.mark.parametrize(("content", "message"), [("", "holds no token"), (None, "cannot be read")])
def test_without_tokens_there_is_no_start(path: Path, content: str | None, message: str) -> None:
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=message):
        TokenCheck(path)
