"""What diversity and caps cost: intra-list diversity and coverage against NDCG@10 and HR@10, on held-out watches.

    python -m benchmarks.diversity --release releases --interactions data/movielens-1m/interactions.parquet

The chain's ranked candidates are arranged by the code that the gateway serves with. Rules are compared on the
validation part, and the one that is served is reported on the test part. It takes a few minutes and prints tables;
`--figures` and `--plot` write docs/quality.json and docs/diversity.png.

Shape legend: I items, B held-out watches, K ranked candidates, L items of an answer, C components of a vector.
"""

import argparse
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from gateway.arrangement import arrange
from gateway.caps import CapCounts
from gateway.diversity import MarginalRelevance, relevance_of_ranks
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.text_columns import TextListColumn
from winnow.evaluation.baselines import watched_matrix
from winnow.evaluation.compare import SEED, EvaluationLog
from winnow.evaluation.figures_file import FiguresFile
from winnow.evaluation.rank_figures import LIST_LENGTH, NOT_FOUND
from winnow.evaluation.ranks import rectangle, top_candidates
from winnow.evaluation.recommender_figures import Answers, measure
from winnow.logs.split import HeldOut
from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.ranking import DeepRankingModel
from winnow.release.models.loader import load_candidate_network, load_ranking_network
from winnow.release.reader import open_release_or_current

ATTRIBUTE = "genres"
DIVERSITIES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
COMPARED_DIVERSITIES = (0.1, 0.2, 0.3, 0.4)
CAPS = (1, 2, 3, 4, 5)
SHOWN = ("ndcg_at_10", "hr_at_10", "ild_genres", "ild_watches", "coverage_at_10", "full_answers")
SERVED = "item vectors"
SECTION = "movielens_1m_diversity"

Figures = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class RankedPart:
    """The candidates of each held-out watch in the order of ranking.

    `rows`, int32 [B, K], with their `scores`, float32 [B, K].
    """

    held_out: HeldOut
    rows: NDArray[np.int32]
    scores: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rule:
    """How items are compared, and what their relevance is."""

    vectors: NDArray[Any]
    """One an item, [I, C]."""
    by_score: bool = False
    """Relevance by score, from the best candidate's 1 to the worst one's 0, rather than by place."""

    def relevance(self, scores_K: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the relevance of ranked candidates."""
        if not self.by_score:
            return relevance_of_ranks(len(scores_K))
        spread = max(float(scores_K[0] - scores_K[-1]), 1e-9)
        relevance_K: NDArray[np.float32] = (scores_K - scores_K[-1]) / np.float32(spread)
        return relevance_K


class Bench:
    """A release on one part of its log after the other."""

    def __init__(self, attributes: Attributes, log: EvaluationLog) -> None:
        self._column = attributes[ATTRIBUTE]
        self._watch_counts = log.watch_counts
        genres_IC = indicators(attributes)
        self.genres_IC = genres_IC
        watched_UI = watched_matrix(log.split.training, attributes.item_count)
        together_II = (watched_UI.T @ watched_UI).toarray().astype(np.float64)
        lengths_I = np.sqrt(np.diag(together_II)).clip(min=1)
        self._watched_together_II = (together_II / lengths_I[:, None] / lengths_I).astype(np.float32)
        self._same_genres_II = jaccard(genres_IC)

    def answers(
        self, part: RankedPart, *, rule: Rule | None = None, diversity: float = 0.0, cap: int | None = None
    ) -> NDArray[np.int64]:
        """Return what is answered before each held-out watch, [B, L]; -1 where a cap leaves too few."""
        lists_BL = np.full((len(part.rows), LIST_LENGTH), -1, dtype=np.int64)
        caps = [] if cap is None else [(self._column, cap)]
        for rows_K, scores_K, list_L in zip(part.rows, part.scores, lists_BL, strict=True):
            relevance = None
            if rule is not None and diversity:
                relevance = MarginalRelevance(rule.vectors[rows_K], rule.relevance(scores_K), diversity)
            items = arrange(
                ranked_count=len(rows_K),
                count=LIST_LENGTH,
                pinned={},
                caps=CapCounts(caps, rows_K),
                relevance=relevance,
            ).items
            list_L[: len(items)] = rows_K[items]
        return lists_BL

    def figures(self, part: RankedPart, lists_BL: NDArray[np.int64]) -> dict[str, float]:
        """Return SHOWN and the intervals."""
        hit_BL = lists_BL == part.held_out.targets[:, None]
        answers = Answers(
            ranks=np.where(hit_BL.any(axis=1), hit_BL.argmax(axis=1), NOT_FOUND),
            lists=lists_BL,
            users=part.held_out.users,
        )
        full = (lists_BL >= 0).all(axis=1)
        found = measure(answers, self._watch_counts, seed=SEED)
        hits = [f"{name}{bound}" for name in ("ndcg_at_10", "hr_at_10") for bound in ("", "_low", "_high")]
        return {name: found[name] for name in hits} | {
            "ild_genres": intra_list_diversity(lists_BL[full], self._same_genres_II),
            "ild_watches": intra_list_diversity(lists_BL[full], self._watched_together_II),
            "coverage_at_10": len(np.unique(lists_BL[lists_BL >= 0])) / len(self._watch_counts),
            "full_answers": float(full.mean()),
        }


def indicators(attributes: Attributes) -> NDArray[np.float32]:
    """Return 1 for each genre that an item has, else 0, [I, C]."""
    column = attributes[ATTRIBUTE]
    if not isinstance(column, TextListColumn):
        raise ValueError(f"the attribute {ATTRIBUTE} is not a list of texts")
    found = np.zeros((len(column), column.distinct_count), dtype=np.float32)
    lengths = column.lengths(slice(0, len(column))).astype(np.int64)
    found[np.repeat(np.arange(len(column)), lengths), column.codes] = 1
    return found


def jaccard(indicators_IC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the share of the genres of either item that both have, [I, I]."""
    both_II = indicators_IC @ indicators_IC.T
    counts_I = indicators_IC.sum(axis=1)
    shares_II: NDArray[np.float32] = both_II / np.maximum(counts_I[:, None] + counts_I - both_II, 1)
    return shares_II


def intra_list_diversity(lists_BL: NDArray[np.int64], similarity_II: NDArray[np.float32]) -> float:
    """Return 1 minus the mean similarity of two items of an answer."""
    first, second = np.triu_indices(lists_BL.shape[1], k=1)
    return float(1 - similarity_II[lists_BL[:, first], lists_BL[:, second]].mean())


@torch.inference_mode()
def rank_part(
    held_out: HeldOut, candidate: DeepCandidateGenerationModel, ranking: DeepRankingModel, candidate_count: int
) -> RankedPart:
    """Rank the candidates of each held-out watch with the networks themselves."""
    rows, scores = [], []
    for block in held_out.blocks():
        rows_BK = top_candidates(candidate, block.histories, candidate_count=candidate_count)
        logits_BK = ranking.logits(ranking.pack(block.histories), rectangle(rows_BK)).view_as(rows_BK)
        ordered_BK, order_BK = ranking.scores(logits_BK).sort(dim=1, descending=True, stable=True)
        rows.append(rows_BK.gather(1, order_BK).numpy().astype(np.int32))
        scores.append(ordered_BK.numpy())
    return RankedPart(held_out=held_out, rows=np.concatenate(rows), scores=np.concatenate(scores))


def measured(
    bench: Bench, part: RankedPart, rules: Mapping[str, Rule], diversities: Sequence[float]
) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of ranking alone, of every rule at each diversity, and of each cap, under their names."""
    yield "ranking", bench.figures(part, bench.answers(part))
    for name, rule in rules.items():
        for diversity in diversities:
            answers = bench.answers(part, rule=rule, diversity=diversity)
            yield f"{name}, {diversity:g}", bench.figures(part, answers)
    for cap in CAPS:
        yield f"at most {cap} of a genre", bench.figures(part, bench.answers(part, cap=cap))


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--release", type=Path, required=True, help="a release, or a directory of releases")
    parser.add_argument("--interactions", type=Path, required=True, help="the log that the release was trained on")
    parser.add_argument("--figures", type=Path, help=f"JSON file whose section {SECTION} is written")
    parser.add_argument("--plot", type=Path, help="PNG file with the curves on the test part")
    arguments = parser.parse_args()
    release = open_release_or_current(arguments.release)
    log = EvaluationLog.read(release, arguments.interactions, None)
    device = torch.device("cpu")
    candidate, ranking = load_candidate_network(release, device), load_ranking_network(release, device)
    candidate_count = int(release.manifest.training["settings"]["ranking"]["candidate_count"])
    bench = Bench(release.attributes(), log)
    similarity = release.similarity_vectors()
    rules = {
        SERVED: Rule(vectors=similarity),
        "item vectors by score": Rule(vectors=similarity, by_score=True),
        "full item vectors": Rule(vectors=centred(candidate.item_vectors_IH.numpy())),
        "genres": Rule(vectors=bench.genres_IC),
    }
    compared = {"validation": (rules, COMPARED_DIVERSITIES), "test": ({SERVED: rules[SERVED]}, DIVERSITIES)}
    found: dict[str, dict[str, Figures]] = {}
    for name, (of_part, diversities) in compared.items():
        print(f"\n{name:30}" + "".join(f"{heading:>16}" for heading in SHOWN))
        part = rank_part(log.held_out(name), candidate, ranking, candidate_count)
        found[name] = {}
        for row, figures in measured(bench, part, of_part, diversities):
            found[name][row] = figures
            print(f"{row:30}" + "".join(f"{figures[heading]:>16.4f}" for heading in SHOWN), flush=True)
    if arguments.figures:
        FiguresFile(arguments.figures, SECTION).save(found)
    if arguments.plot:
        arguments.plot.write_bytes(plot(found["test"]))


def centred(vectors_IC: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the directions from the mean of all."""
    found: NDArray[np.float32] = vectors_IC - vectors_IC.mean(axis=0)
    return found


def plot(found: Mapping[str, Figures]) -> bytes:
    """Draw NDCG@10 over each kind of diversity, a point for each setting."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    headings = {
        "ild_genres": "genres of two items differ (ILD genres)",
        "ild_watches": "viewers of two items differ (ILD watches)",
        "coverage_at_10": "coverage@10",
    }
    curves = {
        "diversity": {row.removeprefix(f"{SERVED}, "): found[row] for row in found if row.startswith(SERVED)},
        "most items of a genre": {row.split()[2]: found[row] for row in found if row.startswith("at most")},
    }
    figure, all_axes = plt.subplots(1, len(headings), figsize=(12, 4), layout="constrained", sharey=True)
    for axes, (name, heading) in zip(all_axes, headings.items(), strict=True):
        for (label, rows), style in zip(curves.items(), ("o-", "s--"), strict=True):
            points = [(row, figures[name], figures["ndcg_at_10"]) for row, figures in rows.items()]
            axes.plot([x for _, x, _ in points], [y for *_, y in points], style, label=label)
            for row, x, y in points:
                axes.annotate(row, (x, y), textcoords="offset points", xytext=(4, 4), fontsize=7)
        axes.plot(found["ranking"][name], found["ranking"]["ndcg_at_10"], "k*", label="ranking")
        axes.set(xlabel=heading)
        axes.grid(alpha=0.3)
    all_axes[0].set(ylabel="NDCG@10")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    plt.close(figure)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
