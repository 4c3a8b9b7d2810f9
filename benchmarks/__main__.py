"""`python -m benchmarks`: measures everything in one run and writes RESULTS.md, results.json and the plots.

It takes about fifteen minutes on two cores and needs eight gigabytes of memory. Stop everything else on the machine.
"""

import argparse
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import arithmetic, growth, quality, results_page, serving
from benchmarks.machine import describe_machine
from benchmarks.presets import PRESETS, SMOKE_PRESETS
from benchmarks.releases import ensure_release

Returned = TypeVar("Returned")

EFFORT = serving.Effort(
    arithmetic_repetitions=7,
    rounds=3,
    alone_seconds=4,
    saturated_seconds=6,
    callers_seconds=4,
    open_loop_seconds=8,
    open_loop_shares=(0.2, 0.4, 0.55, serving.JUDGED_SHARE, 0.85),
)
SMOKE_EFFORT = serving.Effort(
    arithmetic_repetitions=1,
    rounds=1,
    alone_seconds=0.5,
    saturated_seconds=0.5,
    callers_seconds=0.5,
    open_loop_seconds=0.5,
    open_loop_shares=(serving.JUDGED_SHARE,),
)
SMOKE_SIZES = (2_000,)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("benchmarks"), help="directory for the results")
    parser.add_argument(
        "--releases", type=Path, default=Path("runs/benchmarks"), help="directory of the generated releases"
    )
    parser.add_argument(
        "--smoke", action="store_true", help="tiny catalogues for half a second each: shows that it runs"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="rewrite RESULTS.md from results.json, measure nothing"
    )
    arguments = parser.parse_args()
    if arguments.report_only:
        results_page.write_page(arguments.output, results_page.read(arguments.output))
        return
    presets, effort, sizes = (
        (SMOKE_PRESETS, SMOKE_EFFORT, SMOKE_SIZES) if arguments.smoke else (PRESETS, EFFORT, growth.SIZES)
    )
    results: dict[str, Any] = {"machine": describe_machine(), "presets": {}}
    served = {}
    with separate_process(reused=arguments.smoke) as process:

        def separately(function: Callable[..., Returned], *inputs: object) -> Returned:
            return process.submit(function, *inputs).result()

        for preset in presets:
            print(f"{preset.name}: release", flush=True)
            directory = separately(ensure_release, preset, arguments.releases)
            print(f"{preset.name}: arithmetic", flush=True)
            computed = separately(arithmetic.measure, preset, directory, effort.arithmetic_repetitions)
            recall, reference = separately(quality.recall_and_reference, preset, directory)
            print(f"{preset.name}: systems side by side", flush=True)
            served[preset.name] = serving.measure(preset, directory, effort, reference)
            results["presets"][preset.name] = {
                "shape": vars(preset),
                "release": results_page.release_facts(directory),
                "index_recall_at_200": round(recall, 4),
                "arithmetic": computed,
                "serving": served[preset.name].as_json(),
            }
        print("growth of the catalogue", flush=True)
        results["growth"] = [separately(growth.measure, presets[-1], size) for size in sizes]
    results["ratios"], results["ratio_ranges"] = results_page.ratios(results["presets"], served)
    results_page.write(arguments.output, results, served)
    print((arguments.output / "RESULTS.md").read_text())


def separate_process(*, reused: bool) -> ProcessPoolExecutor:
    """Return an executor whose every task has a new process, which frees its gigabytes of memory and its threads.

    If `reused`, all tasks share one process: quicker where they are small.
    """
    return ProcessPoolExecutor(
        max_workers=1,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=None if reused else 1,
    )


if __name__ == "__main__":
    main()
