"""What was measured, for people (RESULTS.md, plots) and for machines (results.json)."""

import json
from pathlib import Path
from typing import Any

from benchmarks.growth import points_by_hand
from benchmarks.serving import JUDGED_SHARE, Served
from winnow.loadtest.summary import plot_latency_over_rate
from winnow.release.reader import current_release_id, open_release

SYSTEM_NAMES = {
    "noop_single_hop": "(a) no-op, one hop",
    "noop_chain": "(b) no-op chain",
    "naive_chain": "(c) naive chain",
    "winnow": "(d) Winnow",
}

# What each ratio has to reach, and in which direction.
MARKS = {
    "small.saturation.winnow_over_noop_single_hop": (">=", 0.7),
    "small.saturation.winnow_over_noop_chain": (">=", 2.0),
    "small.saturation.winnow_over_naive_chain": (">=", 3.0),
    "small.concurrency_1.p50_winnow_over_noop_chain": ("<=", 1.2),
    "small.open_loop_70.p99_over_p50": ("<=", 4.0),
    "paper.saturation.winnow_over_naive_chain": (">=", 30.0),
    "paper.concurrency_1.p50_winnow_over_naive_chain": ("<=", 1.0),
    "paper.open_loop_70.p99_over_p50": ("<=", 4.0),
    "paper.index_recall_at_200": (">=", 0.95),
    "paper.top_20_overlap": (">=", 0.95),
    "paper.ranking_share_of_gemm": (">=", 0.7),
}


def release_facts(directory: Path) -> dict[str, Any]:
    """The index of a release and the size of its files."""
    manifest = open_release(directory / current_release_id(directory)).manifest
    return {
        "index": manifest.index.model_dump(),
        "file_mebibytes": {name: round(entry.size_bytes / 2**20, 1) for name, entry in manifest.files.items()},
    }


def ratios(
    presets: dict[str, Any], served: dict[str, Served]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return every ratio by its key: medians over the rounds, and the range of the rounds where there are several."""
    found: dict[str, float] = {}
    ranges: dict[str, tuple[float, float]] = {}
    for preset, figures in served.items():
        for over in ("noop_single_hop", "noop_chain", "naive_chain"):
            for key, kind, figure in (
                (f"{preset}.saturation.winnow_over_{over}", "saturated", "rate"),
                (f"{preset}.concurrency_1.p50_winnow_over_{over}", "alone", "p50"),
            ):
                middle, least, most = figures.median_ratio(kind, over, figure)
                found[key] = round(middle, 3)
                ranges[key] = (round(least, 3), round(most, 3))
        judged = next(point for point in figures.open_loop if point.offered == f"{JUDGED_SHARE:.0%}").measured
        p50, p99 = judged.milliseconds("p50"), judged.milliseconds("p99")
        found[f"{preset}.open_loop_70.p99_over_p50"] = round(p99 / max(p50, 1e-9), 2)
        found[f"{preset}.index_recall_at_200"] = presets[preset]["index_recall_at_200"]
        found[f"{preset}.top_20_overlap"] = round(figures.top_20_overlap, 4)
        ranking = presets[preset]["arithmetic"]["computations"]["ranking, folded"]
        found[f"{preset}.ranking_share_of_gemm"] = ranking["share_of_gemm"]
    return found, ranges


def write(output: Path, results: dict[str, Any], served: dict[str, Served]) -> None:
    """Write all files into the directory."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    for preset, figures in served.items():
        plot_latency_over_rate({f"Winnow, {preset}": figures.open_loop}, output / f"latency_{preset}.png")
    growth = sorted([*results["growth"], *points_by_hand()], key=lambda point: point["item_count"])
    _plot_growth(growth, output / "growth.png")
    sections = [_head(results), _ratio_table(results)]
    sections += [_preset_section(name, figures) for name, figures in results["presets"].items()]
    sections.append(_growth_section(growth))
    (output / "RESULTS.md").write_text("\n\n".join(sections) + "\n")


def _head(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    changed = ", with uncommitted changes" if machine["uncommitted_changes"] else ""
    return (
        "# Results\n\n"
        "Written by `make bench`; what is measured and how is in [performance](../docs/performance.md).\n\n"
        f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instruction_sets'])}), "
        f"{machine['memory_gibibytes']} GiB, {machine['system']}. Python {machine['python']}, {versions}. "
        f"Commit {machine['commit'][:12]}{changed}. Clients and servers share the cores: trust the ratios."
    )


def _ratio_table(results: dict[str, Any]) -> str:
    lines = ["## Ratios", "", "| ratio | measured | rounds from .. to | mark | reached |", "|---|---|---|---|---|"]
    for key, value in results["ratios"].items():
        spread = " .. ".join(f"{end:g}" for end in results["ratio_ranges"].get(key, ()))
        mark, reached = "", ""
        if key in MARKS:
            direction, bound = MARKS[key]
            mark = f"{direction} {bound:g}"
            reached = "yes" if (value >= bound if direction == ">=" else value <= bound) else "**no**"
        lines.append(f"| `{key}` | {value:g} | {spread} | {mark} | {reached} |")
    return "\n".join(lines)


def _preset_section(name: str, figures: dict[str, Any]) -> str:
    serving, shape = figures["serving"], figures["shape"]
    lines = [
        f"## Preset `{name}`",
        "",
        f"{shape['item_count']:,} items, embeddings of {shape['embedding_dim']}, {shape['n_hidden_layers']} hidden "
        f"layers down to {shape['hidden_dim']}, histories of {shape['history_length']}, "
        f"{shape['candidate_count']} candidates, {shape['answer_length']} items returned.",
        "",
        "| system | alone: p50, p99 ms | saturated: answers/s | p50, p99 ms | CPU µs a request | failed |",
        "|---|---|---|---|---|---|",
    ]
    for system, label in SYSTEM_NAMES.items():
        alone, saturated = serving["alone"][system], serving["saturated"][system]
        failed = sum(alone["failures"].values()) + sum(saturated["failures"].values())
        lines.append(
            f"| {label} | {_p50_p99(alone)} | {saturated['rate_per_second']:g} | {_p50_p99(saturated)} "
            f"| {serving['cpu_microseconds_a_request'][system]} | {failed} |"
        )
    lines += ["", f"![Latency over rate](latency_{name}.png)", "", "Winnow, open loop:", ""]
    lines += ["| share of saturation | offered/s | p50, p99 ms | p99.9 ms | failed |", "|---|---|---|---|---|"]
    lines += [
        f"| {point['offered']} | {point['offered_rate_per_second']:.0f} | {_p50_p99(point)} "
        f"| {point['latency_milliseconds']['p99.9']:g} | {sum(point['failures'].values())} |"
        for point in serving["open_loop"]
    ]
    parts = serving["saturated"]["winnow"]["parts_mean_milliseconds"]
    lines += [
        "",
        "Where the time goes at saturation, mean milliseconds: "
        + ", ".join(f"{part} {value:g}" for part, value in parts.items() if value is not None)
        + ".",
        "",
        _index_sentence(figures),
        "",
        f"All three services ready after {serving['start_seconds']['winnow']:g} s. Memory, MiB: "
        + ", ".join(
            f"{role} {memory['private']} private, {memory['resident']} resident with mapped files"
            for role, memory in serving["memory_mebibytes"].items()
        )
        + ".",
        "",
        f"Arithmetic, one thread, batches of {figures['arithmetic']['batch_queries']}; this machine's matrix product: "
        f"{figures['arithmetic']['gemm_gflops']:g} GFLOP/s.",
        "",
        "| computation | ms a request | GFLOP/s | share of the matrix product's |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {computation} | {values['milliseconds_a_request']:g} | {values['gflops'] or ''} "
        f"| {values['share_of_gemm'] or ''} |"
        for computation, values in figures["arithmetic"]["computations"].items()
    ]
    return "\n".join(lines)


def _index_sentence(figures: dict[str, Any]) -> str:
    index = figures["release"]["index"]
    if index["kind"] == "exact":
        return "Index: a full scan."
    return (
        f"Index: {index['probe_count']} of {index['list_count']} lists scanned, recall@200 "
        f"{index['recall_at_200']:.3f} when tuned, {figures['index_recall_at_200']:.3f} here; ranked top-20 overlap "
        f"with the exact float32 pipeline {figures['serving']['top_20_overlap']:.3f}."
    )


def _p50_p99(figures: dict[str, Any]) -> str:
    latency = figures["latency_milliseconds"]
    return f"{latency['p50']:g}, {latency['p99']:g}"


def _growth_section(growth: list[dict[str, Any]]) -> str:
    lines = [
        "## Growth of the catalogue",
        "",
        "Milliseconds of CPU a query, vectors of the `paper` preset, one thread, batches of 20.",
        "",
        "![Cost of a search over the size of the catalogue](growth.png)",
        "",
        "| items | full scan | lists | scanned of lists | recall@200 | seconds to build |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {point['item_count']:,} | {point['exact_milliseconds']:g} | {point['approximate_milliseconds']:g} "
        f"| {point['probe_count']} of {point['list_count']} | {point['recall_at_200']:g} | {point['build_seconds']:g} |"
        for point in growth
    ]
    return "\n".join(lines)


def _plot_growth(growth: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    sizes = [point["item_count"] for point in growth]
    for name, key in (("full scan", "exact_milliseconds"), ("lists, tuned to recall .98", "approximate_milliseconds")):
        axes.plot(sizes, [point[key] for point in growth], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items in the catalogue")
    axes.set_ylabel("CPU milliseconds a query")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
