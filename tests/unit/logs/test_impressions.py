from pathlib import Path

import pytest

from winnow.logs.impressions import UNCLICKED_LIMIT, Impressions, read_impressions
from winnow.logs.input_table import InputFileError
from winnow.logs.interactions import read_interactions

WATCHES = """user_id,item_id,timestamp
u,a,10
u,b,20
v,c,15
u,a,30
"""
HEAD = "user_id,item_id,timestamp,clicked,watch_seconds\n"
IMPRESSIONS = (
    HEAD
    + """u,b,30,true,5
u,c,25,false,0
w,a,20,false,3
v,nowhere,26,true,9
u,c,25,false,0
v,a,15,true,2.5
u,c,40,false,0
"""
)


def read(tmp_path: Path, impressions: str) -> Impressions:
    (tmp_path / "watches.csv").write_text(WATCHES)
    (tmp_path / "impressions.csv").write_text(impressions)
    interactions = read_interactions(tmp_path / "watches.csv", vocabulary_size=10, min_item_count=1)
    assert interactions.vocabulary.item_ids(range(3)) == ["a", "b", "c"]
    return read_impressions(tmp_path / "impressions.csv", interactions)


def test_impressions_are_in_time_order_with_what_was_known_before_each(tmp_path: Path) -> None:
    found = read(tmp_path, IMPRESSIONS)
    a, b, c = 0, 1, 2
    assert found.rows.tolist() == [a, a, c, c, b, c]
    assert found.timestamps.tolist() == [15, 20, 25, 25, 30, 40]
    assert found.clicked.tolist() == [True, False, False, False, True, False]
    # Nobody watched what was not clicked.
    assert found.watch_seconds.tolist() == [2.5, 0, 0, 0, 5, 0]
    histories = found.histories(None)
    # The watches and the impressions of the same second are not before it.
    assert [histories[n].tolist() for n in range(6)] == [[], [], [a, b], [a, b], [a, b], [a, b, a]]
    assert histories.timestamps[-3:].tolist() == [10, 20, 30]
    assert found.histories(1)[5].tolist() == [a]
    contexts = found.contexts()
    assert contexts.times.tolist() == found.timestamps.tolist()
    assert [contexts.unclicked[n].tolist() for n in range(6)] == [[], [], [], [], [c, c], [c, c]]


def test_of_unclicked_impressions_the_latest_are_told(tmp_path: Path) -> None:
    lines = "".join(f"u,{'a' if second < 5 else 'b'},{second},false,0\n" for second in range(UNCLICKED_LIMIT + 5))
    contexts = read(tmp_path, HEAD + lines + "u,a,99,true,1\n").contexts()
    assert contexts.unclicked[UNCLICKED_LIMIT + 5].tolist() == [1] * UNCLICKED_LIMIT


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("u,a,1,maybe,0", "column clicked, line 2: 'maybe' must be true, false, 1 or 0"),
        ("u,a,1,true,604801", "column watch_seconds, line 2: '604801' is more than a week"),
        ("u,a,1,true,-1", "column watch_seconds, line 2: '-1' must be a number, 0 or more"),
        ("u,a,soon,true,1", "column timestamp, line 2: 'soon' must be seconds since 1970"),
        (f"u,{'x' * 513},1,true,1", "column item_id, line 2: 'xxx.* is longer than 512 bytes"),
        ("u,nowhere,1,true,1", "column item_id: no item occurs in the interaction log"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, expected: str) -> None:
    with pytest.raises(InputFileError, match=expected):
        read(tmp_path, HEAD + line + "\n")
