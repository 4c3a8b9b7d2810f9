from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from winnow.catalogue.item_facts import NO_GROUP, UNKNOWN_DURATION
from winnow.catalogue.vocabulary import Vocabulary
from winnow.history import UNKNOWN_TIME
from winnow.logs.input_table import InputFileError
from winnow.logs.items_file import facts_fingerprint, read_item_facts

VOCABULARY = Vocabulary(["a", "b", "c"])
POPULARITY = np.array([0.5, 0.3, 0.2], dtype=np.float32)
HEAD = "item_id,title,author,category,uploaded,duration_seconds\n"


def test_facts_are_by_row_and_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text(
        HEAD + "c,C,anna,,1970-01-01T00:01:40,9.5\nelsewhere,E,bert,x,1,1\na,A,bert,x,7,\n"
    )
    facts = read_item_facts(tmp_path / "items.csv", VOCABULARY, POPULARITY)
    assert facts.authors[0] != facts.authors[2]
    assert facts.authors[1] == NO_GROUP
    assert (facts.categories == NO_GROUP).tolist() == [False, True, True]
    assert facts.uploaded.tolist() == [7, UNKNOWN_TIME, 100]
    assert facts.durations.tolist() == [UNKNOWN_DURATION, UNKNOWN_DURATION, 9.5]
    assert facts.popularity is POPULARITY


def test_without_a_file_or_the_columns_popularity_is_all_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "items.csv").write_text("item_id,title\na,A\n")
    for path in (None, tmp_path / "items.csv"):
        facts = read_item_facts(path, VOCABULARY, POPULARITY)
        assert (facts.authors == NO_GROUP).all()
        assert (facts.uploaded == UNKNOWN_TIME).all()
        assert (facts.durations == UNKNOWN_DURATION).all()


def test_every_fact_counts_in_the_fingerprint(tmp_path: Path) -> None:
    def of(line: str, popularity: NDArray[np.float32] = POPULARITY) -> str:
        (tmp_path / "items.csv").write_text(f"{HEAD}b,B,bert,y,1,1\n{line}\n")
        return facts_fingerprint(read_item_facts(tmp_path / "items.csv", VOCABULARY, popularity))

    plain = "a,A,anna,x,7,9.5"
    lines = [plain, "a,A,bert,x,7,9.5", "a,A,anna,y,7,9.5", "a,A,anna,x,8,9.5", "a,A,anna,x,7,9"]
    assert len({*map(of, lines), of(plain, POPULARITY[::-1])}) == 6
    assert of("a,Another title,anna,x,7,9.5") == of(plain)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,A,x,y,soon,1", "column uploaded, line 2: 'soon' must be seconds since 1970"),
        ("a,A,x,y,1,-1", "column duration_seconds, line 2: '-1' must be a number, 0 or more"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "items.csv").write_text(HEAD + line + "\n")
    with pytest.raises(InputFileError, match=expected):
        read_item_facts(tmp_path / "items.csv", VOCABULARY, POPULARITY)
