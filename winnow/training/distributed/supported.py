"""What several processes cannot train together: refused, with what to do instead."""

from winnow.training.candidate_trainee import FULL_SOFTMAX_ITEM_LIMIT, samples_softmax
from winnow.training.presets import TrainingSettings


def check_supported(settings: TrainingSettings, item_count: int, *, warm_start: bool) -> None:
    """Raise ValueError that names the first setting which several processes cannot train with."""
    candidate = settings.candidate
    refusals = {
        f'softmax is "{candidate.softmax}", which is over all {item_count:,} items here: several processes need '
        f'softmax = "sampled" ("auto" is, above {FULL_SOFTMAX_ITEM_LIMIT:,} items)': not samples_softmax(
            candidate, item_count
        ),
        "new_items_by: several processes cannot train parts by attributes": bool(candidate.new_items_by),
        "shuffled_copies: several processes cannot train on copies of histories": bool(candidate.shuffled_copies),
        "matching: several processes can only train a ranking network with it": not settings.ranking.matching,
        "features: several processes cannot compute continuous features": bool(settings.ranking.features),
        f"split is {settings.split}: several processes need leave-last-out": settings.split != "leave-last-out",
        "several processes cannot start from the weights of a release": warm_start,
    }
    for reason, refused in refusals.items():
        if refused:
            raise ValueError(f"{reason}. Or train in one process, without torchrun")
