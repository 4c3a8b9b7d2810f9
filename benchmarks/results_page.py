"""Writes results.json (for programs), RESULTS.md and the plots (for people)."""

import json
from pathlib import Path
from typing import Any

from benchmarks.growth import points_by_hand
from benchmarks.serving import CALLER_COUNTS, JUDGED_SHARE, Served
from winnow.loadtest.summary import plot_latency_over_rate
from winnow.release.reader import open_current_release

RESULTS_FILE = "results.json"

SYSTEM_NAMES = {
    "noop_single_hop": "(a) no-op, one hop",
    "noop_chain": "(b) no-op chain",
    "naive_chain": "(c) naive chain",
    "winnow": "(d) Winnow",
    "winnow_native": "(e) Winnow, native transport",
}

# The bound that each ratio has to meet.
TARGETS = {
    "small.saturation.winnow_over_noop_single_hop": (">=", 0.7),
    "small.saturation.winnow_over_noop_chain": (">=", 2.0),
    "small.saturation.winnow_over_naive_chain": (">=", 3.0),
    "small.concurrency_1.p50_winnow_over_noop_chain": ("<=", 1.4),
    "small.callers_32.native_over_noop_single_hop": (">=", 0.6),
    "small.callers_32.native_over_noop_chain": (">=", 2.8),
    "small.callers_32.native_cpu_milliseconds": ("<=", 0.65),
    "small.callers_32.default_over_noop_chain": (">=", 1.8),
    "small.open_loop_70.p99_over_p50": ("<=", 4.0),
    "paper.saturation.winnow_over_naive_chain": (">=", 60.0),
    "paper.concurrency_1.p50_winnow_over_naive_chain": ("<=", 1.0),
    "paper.open_loop_70.p99_over_p50": ("<=", 4.0),
    "paper.index_recall_at_200": (">=", 0.95),
    "paper.top_20_overlap": (">=", 0.95),
    "paper.ranking_share_of_gemm": (">=", 0.7),
}


def release_facts(directory: Path) -> dict[str, Any]:
    """Return the index of a release and the sizes of its files."""
    manifest = open_current_release(directory).manifest
    return {
        "index": manifest.index.model_dump(),
        "file_mebibytes": {name: round(entry.size_bytes / 2**20, 1) for name, entry in manifest.files.items()},
    }


def ratios(
    presets: dict[str, Any], served: dict[str, Served]
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return every ratio by key, as the median over the rounds, and its range where there are several rounds."""
    found: dict[str, float] = {}
    ranges: dict[str, tuple[float, float]] = {}

    def add(key: str, spread: tuple[float, float, float]) -> None:
        middle, least, most = (round(value, 3) for value in spread)
        found[key] = middle
        ranges[key] = (least, most)

    for preset, figures in served.items():
        for over in ("noop_single_hop", "noop_chain", "naive_chain"):
            rate = figures.median_ratio("saturated", "winnow", over, "rate")
            add(f"{preset}.saturation.winnow_over_{over}", rate)
            p50 = figures.median_ratio("alone", "winnow", over, "p50")
            add(f"{preset}.concurrency_1.p50_winnow_over_{over}", p50)
        for callers in CALLER_COUNTS:
            load = f"callers_{callers}"
            for system, transport in (("winnow", "default"), ("winnow_native", "native")):
                if system in figures.rounds[load]:
                    for over in ("noop_single_hop", "noop_chain"):
                        rate = figures.median_ratio(load, system, over, "rate")
                        add(f"{preset}.{load}.{transport}_over_{over}", rate)
                    add(f"{preset}.{load}.{transport}_cpu_milliseconds", figures.median_figure(load, system, "cpu"))
        judged = next(point for point in figures.open_loop if point.offered == f"{JUDGED_SHARE:.0%}").measured
        judged_p50, judged_p99 = judged.milliseconds("p50"), judged.milliseconds("p99")
        found[f"{preset}.open_loop_70.p99_over_p50"] = round(judged_p99 / max(judged_p50, 1e-9), 2)
        found[f"{preset}.index_recall_at_200"] = presets[preset]["index_recall_at_200"]
        found[f"{preset}.top_20_overlap"] = round(figures.top_20_overlap, 4)
        ranking = presets[preset]["arithmetic"]["computations"]["ranking, folded"]
        found[f"{preset}.ranking_share_of_gemm"] = ranking["share_of_gemm"]
    return found, ranges


def write(output: Path, results: dict[str, Any], served: dict[str, Served]) -> None:
    """Write all files into the directory."""
    output.mkdir(parents=True, exist_ok=True)
    (output / RESULTS_FILE).write_text(json.dumps(results, indent=1) + "\n")
    for preset, figures in served.items():
        plot_latency_over_rate({f"Winnow, {preset}": figures.open_loop}, output / f"latency_{preset}.png")
    write_page(output, results)


def write_page(output: Path, results: dict[str, Any]) -> None:
    """Write RESULTS.md and the plot of the growing catalogue; the other plots need more than results.json has."""
    _plot_growth(_growth(results), output / "growth.png")
    (output / "RESULTS.md").write_text(page(results))


def read(output: Path) -> dict[str, Any]:
    """Return the results of an earlier run."""
    results: dict[str, Any] = json.loads((output / RESULTS_FILE).read_text())
    return results


def page(results: dict[str, Any]) -> str:
    """Return RESULTS.md."""
    sections = [_head(results), _ratio_table(results)]
    sections += [_preset_section(name, figures) for name, figures in results["presets"].items()]
    sections.append(_growth_section(_growth(results)))
    return "\n\n".join(sections) + "\n"


def _growth(results: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted([*results["growth"], *points_by_hand()], key=lambda point: point["item_count"])


def _head(results: dict[str, Any]) -> str:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    changed = ", with uncommitted changes" if machine["uncommitted_changes"] else ""
    return (
        "# Results\n\n"
        "Written by `make bench`. [performance.md](../docs/performance.md) says what is measured and how.\n\n"
        f"{machine['processor']}, {machine['cores']} cores ({', '.join(machine['instruction_sets'])}), "
        f"{machine['memory_gibibytes']} GiB, {machine['system']}. Python {machine['python']}, {versions}. "
        f"Commit {machine['commit'][:12]}{changed}. Clients and servers share the cores: trust the ratios, not the "
        "absolute figures."
    )


def _ratio_table(results: dict[str, Any]) -> str:
    lines = ["## Ratios", "", "| ratio | measured | range over rounds | target | met |", "|---|---|---|---|---|"]
    for key, value in results["ratios"].items():
        spread = " .. ".join(f"{end:g}" for end in results["ratio_ranges"].get(key, ()))
        target, met = "", ""
        if key in TARGETS:
            direction, bound = TARGETS[key]
            target = f"{direction} {bound:g}"
            met = "yes" if (value >= bound if direction == ">=" else value <= bound) else "**no**"
        lines.append(f"| `{key}` | {value:g} | {spread} | {target} | {met} |")
    return "\n".join(lines)


def _preset_section(name: str, figures: dict[str, Any]) -> str:
    serving, shape = figures["serving"], figures["shape"]
    lines = [
        f"## Preset `{name}`",
        "",
        f"{shape['item_count']:,} items, {shape['embedding_dim']}-d embeddings, {shape['n_hidden_layers']} hidden "
        f"layers (the last one {shape['hidden_dim']} wide), histories of {shape['history_length']} watches, "
        f"{shape['candidate_count']} candidates, {shape['answer_length']} items returned.",
        "",
        "| system | one caller: p50, p99 ms | saturated: answers/s | p50, p99 ms | CPU µs per request | failed |",
        "|---|---|---|---|---|---|",
    ]
    for system, label in SYSTEM_NAMES.items():
        if system not in serving["alone"]:
            continue
        alone, saturated = serving["alone"][system], serving["saturated"][system]
        failed = sum(alone["failures"].values()) + sum(saturated["failures"].values())
        lines.append(
            f"| {label} | {_p50_p99(alone)} | {saturated['rate_per_second']:g} | {_p50_p99(saturated)} "
            f"| {saturated['cpu_microseconds_per_request']} | {failed} |"
        )
    lines += _callers_table(serving)
    lines += ["", f"![Latency over rate](latency_{name}.png)", "", "Winnow under an open loop:", ""]
    lines += ["| share of saturation | offered/s | p50, p99 ms | p99.9 ms | failed |", "|---|---|---|---|---|"]
    lines += [
        f"| {point['offered']} | {point['offered_rate_per_second']:.0f} | {_p50_p99(point)} "
        f"| {point['latency_milliseconds']['p99.9']:g} | {sum(point['failures'].values())} |"
        for point in serving["open_loop"]
    ]
    parts = serving["saturated"]["winnow"]["parts_mean_milliseconds"]
    lines += [
        "",
        "Parts of a call at saturation, mean milliseconds: "
        + ", ".join(f"{part} {value:g}" for part, value in parts.items() if value is not None)
        + ".",
        "",
        _index_sentence(figures),
        "",
        f"All three services are ready after {serving['start_seconds']['winnow']:g} s. Their memory, MiB:",
        "",
        "| service | private | resident, with mapped files |",
        "|---|---|---|",
        *(
            f"| {role} | {memory['private']} | {memory['resident']} |"
            for role, memory in serving["memory_mebibytes"].items()
        ),
        "",
        f"Arithmetic on one thread, in batches of {figures['arithmetic']['batch_queries']}. A matrix product reaches "
        f"{figures['arithmetic']['gemm_gflops']:g} GFLOP/s on this machine.",
        "",
        "| computation | ms per request | GFLOP/s | share of the matrix product |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {computation} | {values['milliseconds_per_request']:g} | {values['gflops'] or ''} "
        f"| {values['share_of_gemm'] or ''} |"
        for computation, values in figures["arithmetic"]["computations"].items()
    ]
    return "\n".join(lines)


def _callers_table(serving: dict[str, Any]) -> list[str]:
    rows = [
        f"| {label} | {callers} | {measured['rate_per_second']:g} | {_p50_p99(measured)} "
        f"| {measured['cpu_microseconds_per_request']} | {sum(measured['failures'].values())} |"
        for callers in CALLER_COUNTS
        for system, label in SYSTEM_NAMES.items()
        if (measured := serving.get(f"callers_{callers}", {}).get(system))
    ]
    if not rows:
        return []
    return [
        "",
        "Callers with a connection each:",
        "",
        "| system | callers | answers/s | p50, p99 ms | CPU µs per request | failed |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _index_sentence(figures: dict[str, Any]) -> str:
    index = figures["release"]["index"]
    if index["kind"] == "exact":
        return "Index: full scan."
    return (
        f"Index: {index['probe_count']} of {index['list_count']} lists are scanned. Recall@200 was "
        f"{index['recall_at_200']:.3f} when the index was tuned and is {figures['index_recall_at_200']:.3f} here. The "
        f"ranked top 20 overlap with those of the exact float32 pipeline by {figures['serving']['top_20_overlap']:.3f}."
    )


def _p50_p99(figures: dict[str, Any]) -> str:
    latency = figures["latency_milliseconds"]
    return f"{latency['p50']:g}, {latency['p99']:g}"


def _growth_section(growth: list[dict[str, Any]]) -> str:
    lines = [
        "## Growth of the catalogue",
        "",
        "CPU milliseconds per query: vectors of the `paper` preset, one thread, batches of 20. Recall is of queries on",
        "which the index was not tuned. Bytes are those of the index, resident; the vectors in full may be mapped.",
        "",
        "![Cost of a search over the size of the catalogue](growth.png)",
        "",
        "| items | full scan | inverted lists | lists scanned | scored exactly | recall@200 | bytes an item "
        "| CPU seconds to build |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {point['item_count']:,} | {point['exact_milliseconds']:g} | {point['approximate_milliseconds']:g} "
        f"| {point['probe_count']} of {point['list_count']} | {200 * point['rows_scored_for_each']} "
        f"| {point['recall_at_200']:g} | {point['index_bytes_per_item']:g} | {point['build_cpu_seconds']:g} |"
        for point in growth
    ]
    return "\n".join(lines)


def _plot_growth(growth: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    sizes = [point["item_count"] for point in growth]
    for name, key in (("full scan", "exact_milliseconds"), ("inverted lists, recall .98", "approximate_milliseconds")):
        axes.plot(sizes, [point[key] for point in growth], marker="o", label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("items in the catalogue")
    axes.set_ylabel("CPU milliseconds per query")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
