"""The plots of the comparison report, as PNG."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from winnow.evaluation.compare import Compared
from winnow.evaluation.figures_table import METRICS
from winnow.evaluation.recommender_figures import DEPTHS


def recall_over_k(compared: Sequence[Compared]) -> bytes:
    """Draw the share of held-out watches among the first k."""
    figure, [axes] = _figure(1)
    depths = np.unique(np.geomspace(1, DEPTHS[-1], 60).astype(int))
    for one in compared:
        axes.plot(depths, [one.answers.mean(one.answers.ranks < depth) for depth in depths], label=one.name)
    axes.set(xscale="log", xlabel="k", ylabel="recall")
    return _png(figure)


def by_group(groups: Mapping[str, Mapping[str, Mapping[str, float]]], label: str) -> bytes:
    """Draw the metrics of each recommender in each group; `groups` is recommender -> group -> metric."""
    figure, all_axes = _figure(len(METRICS))
    names = list(dict.fromkeys(name for of_one in groups.values() for name in of_one))
    width = 0.8 / len(groups)
    for axes, (metric, heading) in zip(all_axes, METRICS.items(), strict=True):
        for number, (recommender, of_one) in enumerate(groups.items()):
            heights = [of_one[name][metric] if name in of_one else 0.0 for name in names]
            axes.bar(np.arange(len(names)) + number * width, heights, width, label=recommender)
        axes.set_xticks(np.arange(len(names)) + 0.4 - width / 2, names)
        axes.set(xlabel=label, ylabel=heading)
    return _png(figure)


def calibration_curve(groups: Sequence[Mapping[str, float]]) -> bytes:
    """Draw how often a candidate was the next watch, over the probability that ranking gave it."""
    figure, [axes] = _figure(1)
    predicted = [group["predicted"] for group in groups]
    axes.plot(predicted, [group["actual"] for group in groups], "o-", label="a tenth of all candidates each")
    axes.plot(predicted, predicted, "--", color="grey", label="exact")
    axes.set(xscale="log", yscale="log", xlabel="predicted probability", ylabel="share that was watched next")
    return _png(figure)


def losses(epochs: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes:
    """Draw the training loss of each network by epoch, and a figure on validation: HR@10 or else the first one."""
    figure, all_axes = _figure(len(epochs))
    for axes, (network, of_epochs) in zip(all_axes, epochs.items(), strict=True):
        validated = [name for name in of_epochs[0] if name != "loss"]
        figure_name = "hr_at_10" if "hr_at_10" in validated else validated[0]
        heading = METRICS.get(figure_name, figure_name.replace("_", " "))
        numbers = np.arange(1, len(of_epochs) + 1)
        axes.plot(numbers, [epoch["loss"] for epoch in of_epochs], "o-", label="training loss")
        axes.set(xlabel=f"epoch of the {network} network", ylabel="loss", xticks=numbers)
        right = axes.twinx()
        right.plot(numbers, [epoch[figure_name] for epoch in of_epochs], "s--", color="tab:orange")
        # The legend shows the lines of the left axes.
        axes.plot([], [], "s--", color="tab:orange", label="on validation")
        right.set_ylabel(f"{heading} on validation")
    return _png(figure)


def importances(shares: Mapping[str, float]) -> bytes:
    """Draw how much each setting mattered, the most important one at the top."""
    figure, [axes] = _figure(1)
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], label="share in what made trials good (PED-ANOVA)")
    axes.set(xlabel="importance")
    return _png(figure)


def _figure(panel_count: int) -> tuple[Any, Sequence[Any]]:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, panel_count, figsize=(9, 4), layout="constrained", squeeze=False)
    return figure, axes[0]


def _png(figure: Any) -> bytes:
    from matplotlib import pyplot as plt

    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.axes[0].grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()
