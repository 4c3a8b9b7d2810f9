from dataclasses import replace
from typing import Any

import pytest

from tests.unit.training.settings import TINY
from winnow.training.distributed.supported import check_supported

SAMPLED = replace(TINY, candidate=replace(TINY.candidate, softmax="sampled"))


def test_sampled_softmax_is_supported_and_auto_above_its_limit() -> None:
    check_supported(SAMPLED, 40, warm_start=False)
    check_supported(TINY, 100_001, warm_start=False)
    with pytest.raises(ValueError, match='softmax is "auto", which is over all 100,000 items here'):
        check_supported(TINY, 100_000, warm_start=False)


@pytest.mark.parametrize(
    ("candidate", "ranking", "other", "named"),
    [
        ({"softmax": "full"}, {}, {}, "softmax"),
        ({"new_items_by": ("genres",)}, {}, {}, "new_items_by"),
        ({"shuffled_copies": 1}, {}, {}, "shuffled_copies"),
        ({}, {"matching": False}, {}, "matching"),
        ({}, {"features": ("popularity",)}, {}, "features"),
        ({}, {}, {"split": "global-time"}, "split is global-time"),
    ],
)
def test_other_settings_are_refused_by_name(
    candidate: dict[str, Any], ranking: dict[str, Any], other: dict[str, Any], named: str
) -> None:
    settings = replace(
        SAMPLED,
        candidate=replace(SAMPLED.candidate, **candidate),
        ranking=replace(SAMPLED.ranking, **ranking),
        **other,
    )
    with pytest.raises(ValueError, match=rf"^{named}.*in one process, without torchrun"):
        check_supported(settings, 40, warm_start=False)


def test_a_release_to_start_from_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot start from the weights of a release"):
        check_supported(SAMPLED, 40, warm_start=True)
