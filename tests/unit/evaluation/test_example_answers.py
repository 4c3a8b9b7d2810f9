"""The report shows what a release answers to a few users, beside what they watched next."""

import numpy as np
import pytest
import torch

from tests.releases import ITEM_COUNT, item_id, write_random_release
from winnow.evaluation.compare import Compared, Comparison, EvaluationLog, compare
from winnow.evaluation.example_answers import TITLE_LENGTH, examples, examples_section
from winnow.history import WatchHistories
from winnow.logs.item_changes import read_item_changes
from winnow.logs.skipped_rows import RowsRead
from winnow.logs.split import LogSplit
from winnow.release.models.derivation import derive_release
from winnow.release.reader import Release, open_release

HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    directory = tmp_path_factory.mktemp("releases")
    release = open_release(directory / write_random_release(directory))
    changes = directory / "changes.csv"
    titles = [HOSTILE if row % 2 else f"{row} " + "long " * TITLE_LENGTH for row in range(ITEM_COUNT)]
    lines = [f'"{item_id(row)}","{title}"' for row, title in enumerate(titles)]
    changes.write_text("\n".join(["item_id,title", *lines]))
    read = read_item_changes(
        changes, release.vocabulary(), release.attributes().schema, retiring=(), takes_new_items=False
    )
    made = derive_release(release, read, retire=(), restore=(), make_current=False)
    return open_release(directory / made.release_id)


def compared(release: Release, *parts: str, user_count: int = 7) -> Comparison:
    rng = np.random.default_rng(1)
    lengths = np.arange(4, 4 + user_count)
    rows = np.concatenate([rng.permutation(ITEM_COUNT)[:length] for length in lengths]).astype(np.int32)
    times = np.concatenate([np.arange(length) for length in lengths])
    split = LogSplit.leave_last_out(WatchHistories.from_lengths(rows, lengths, np.ones(len(rows), np.float32), times))
    log = EvaluationLog(
        split=split,
        watch_counts=split.watch_counts(ITEM_COUNT),
        impressions=None,
        rows=RowsRead(row_count=len(rows)),
    )
    found = compare(
        release, log, parts=parts, baselines=(), withheld=False, device=torch.device("cpu"), report=lambda *_: None
    )
    return Comparison(
        release=release,
        log=log,
        compared=[one for one in found if isinstance(one, Compared)],
        left_out=[],
        impressions={},
    )


def test_examples_are_the_chains_answers_to_different_users(release: Release) -> None:
    comparison = compared(release, "validation", "test")
    validation = comparison.log.held_out("validation")
    [chain] = [one for one in comparison.of_part("validation") if one.name == "chain"]
    found = examples("validation", comparison)
    assert [example.target for example in found] == validation.targets[[0, 3, 6]].tolist()
    for example, place in zip(found, (0, 3, 6), strict=True):
        watched = validation.histories[place].tolist()
        assert [*watched[: example.earlier_watch_count], *example.last_watches] == watched
        assert len(example.last_watches) <= 5
        assert example.answer == chain.answers.lists[place].tolist()


def test_titles_are_escaped_and_cut(release: Release) -> None:
    page = examples_section(compared(release, "validation"))
    assert "Users of the validation" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "long long" in page
    assert len(page) < 3 * 20 * 2 * TITLE_LENGTH
    assert page.count("<li>") == 30


def test_the_next_watch_is_marked_where_it_is_in_the_answer(release: Release) -> None:
    comparison = compared(release, "test")
    [chain] = [one for one in comparison.of_part("test") if one.name == "chain"]
    comparison.log.held_out("test").targets[3] = chain.answers.lists[3][1]
    page = examples_section(comparison)
    assert "Users of the test" in page
    assert "</strong>, place 2</p>" in page
    assert page.count("<li><strong>") == 1
    assert page.count("not among the first 10") == 2


def test_fewer_users_give_fewer_examples(release: Release) -> None:
    assert len(examples("validation", compared(release, "validation", user_count=2))) == 2
    assert examples_section(compared(release)) == ""
