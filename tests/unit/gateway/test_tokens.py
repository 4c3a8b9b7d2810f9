"""Who gets in while the file of tokens changes."""

from pathlib import Path

import pytest

import gateway.tokens
from gateway.tokens import TokenCheck
from winnow.rpc.errors import PermissionDeniedError

RECOMMEND = "/winnow.v1.RecommendationService/RecommendItems"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with two tokens, looked at before every call."""
    monkeypatch.setattr(gateway.tokens, "LOOK_SECONDS", 0.0)
    made = tmp_path / "tokens"
    made.write_text("first\n\n  second  \n")
    return made


def accepted(check: TokenCheck, *tokens: str) -> list[bool]:
    return [check.refusal(RECOMMEND, [("authorization", f"Bearer {token}")]) is None for token in tokens]


def permitted(check: TokenCheck, token: str) -> list[str]:
    """The methods that a valid token may call."""
    explain = "/winnow.v1.RecommendationService/ExplainItem"
    methods = [
        RECOMMEND,
        explain,
        *(f"/winnow.v1.UserService/{name}" for name in ("WriteEvents", "GetHistory", "DeleteUser")),
    ]
    refusals = {method: check.refusal(method, [("authorization", f"Bearer {token}")]) for method in methods}
    assert all(isinstance(refusal, PermissionDeniedError | None) for refusal in refusals.values())
    return [method.rpartition("/")[2] for method, refusal in refusals.items() if refusal is None]


def test_each_line_is_a_token(path: Path) -> None:
    check = TokenCheck(path)
    assert accepted(check, "first", "second", "third", "") == [True, True, False, False]
    for metadata in ([], [("authorization", "Basic first")], [("authorization", b"Bearer first")]):
        refusal = check.refusal(RECOMMEND, metadata)
        assert str(refusal) == "a bearer token is needed in the authorization metadata"


def test_a_file_of_an_editor_that_marks_utf_8_and_ends_lines_its_own_way(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbffirst\r\nsecond recommend\r\n")
    assert accepted(TokenCheck(path), "first", "second", "second\r") == [True, True, False]


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


def test_a_token_may_be_limited_to_what_it_is_for(path: Path) -> None:
    path.write_text(
        "all\nshop recommend\ncollector write-events\nsupport read-histories  delete-users\nshop write-events\n"
    )
    check = TokenCheck(path)
    assert permitted(check, "all") == ["RecommendItems", "ExplainItem", "WriteEvents", "GetHistory", "DeleteUser"]
    assert permitted(check, "shop") == ["RecommendItems", "WriteEvents"]
    assert permitted(check, "collector") == ["WriteEvents"]
    assert permitted(check, "support") == ["ExplainItem", "GetHistory", "DeleteUser"]
    refusal = check.refusal(RECOMMEND, [("authorization", "Bearer collector")])
    assert str(refusal) == "the bearer token does not permit this call: it lacks recommend"


def test_a_permission_that_there_is_not_is_an_error_and_changes_nothing_later(path: Path) -> None:
    check = TokenCheck(path)
    path.write_text("third\nfourth recomend\n")
    assert accepted(check, "first", "third", "fourth") == [True, False, False]
    with pytest.raises(ValueError, match="line 2: after the token, only these may be named: recommend, ") as raised:
        TokenCheck(path)
    assert "fourth" not in str(raised.value)
    path.write_text("third\n")
    assert accepted(check, "first", "third") == [False, True]


@pytest.mark.parametrize(("content", "message"), [("", "holds no token"), (None, "cannot be read")])
def test_without_tokens_there_is_no_start(path: Path, content: str | None, message: str) -> None:
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=message):
        TokenCheck(path)
