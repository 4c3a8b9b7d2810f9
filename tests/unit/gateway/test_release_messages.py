"""What a manifest says, as callers get it."""

from pathlib import Path
from typing import Any

from gateway.release_messages import write_release_facts
from winnow.client.releases import release_facts
from winnow.release.manifest import Manifest
from winnow.release.reader import open_current_release


def manifest(releases: Path, **changes: Any) -> Manifest:
    return open_current_release(releases).manifest.model_copy(update=changes)


def test_figures_and_epochs_are_sent(releases: Path) -> None:
    facts = release_facts(
        write_release_facts(
            manifest(
                releases,
                training={
                    "user_count": 5,
                    "epochs": {"candidate": [{"loss": 3.0, "mrr": 0.1}, {"loss": 2.0, "mrr": 0.2}]},
                    "best_epochs": {"candidate": 2},
                },
                figures={"test": {"chain": {"hr_at_10": 0.25, "note": "no number"}, "empty": {}}},
            )
        )
    )
    assert (facts.user_count, facts.watch_count) == (5, None)
    assert [(epoch.number, epoch.loss, epoch.best) for epoch in facts.epochs] == [(1, 3.0, False), (2, 2.0, True)]
    assert facts.epochs[1].figures == {"mrr": 0.2}
    assert [(found.part, found.subject, found.figures) for found in facts.evaluations] == [
        ("test", "chain", {"hr_at_10": 0.25})
    ]


def test_a_release_says_what_it_is(releases: Path) -> None:
    made = manifest(releases)
    facts = release_facts(write_release_facts(made))
    assert (facts.release_id, facts.item_count) == (made.release_id, made.item_count)
    assert facts.derived_from is None
    assert facts.created == made.created_at.replace(microsecond=0)
    assert (facts.index.kind, facts.index.recall_at_200) == ("exact", 1.0)
