"""`python -m ablations`: measures what each option is worth. A stopped run continues where it was."""

import argparse
from pathlib import Path

import torch
from rich.console import Console

from ablations import kuairand, movielens
from ablations.runner import ResultFolder, finished_cells, measure_all
from ablations.study_page import write
from benchmarks.machine import describe_machine

# The function that builds the studies of each data set from the command-line options.
DATA_SETS = {"movielens": movielens.studies, "kuairand": kuairand.studies}


def main() -> None:
    """Measure the studies and write the page."""
    parser = argparse.ArgumentParser(prog="python -m ablations", description=__doc__)
    parser.add_argument(
        "data_sets", nargs="*", metavar="DATA_SET", help=f"any of {', '.join(DATA_SETS)}; all by default"
    )
    parser.add_argument("--epochs", type=int, default=2, help="training epochs per cell")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; torch decides by default")
    parser.add_argument("--data", type=Path, default=Path("data"), help="directory of the data sets")
    parser.add_argument("--results", type=Path, default=Path("runs/ablations"), help="directory of finished cells")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="directory for the page and its plots")
    parser.add_argument(
        "--report-only", action="store_true", help="rewrite the page from finished cells without measuring"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.data_sets) - set(DATA_SETS)
    if unknown:
        parser.error(f"unknown data set {', '.join(sorted(unknown))}; choose from {', '.join(DATA_SETS)}")
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    console = Console(highlight=False)
    results = ResultFolder(arguments.results)
    studies = [
        study
        for name in arguments.data_sets or DATA_SETS
        for study in DATA_SETS[name](arguments.data, epochs=arguments.epochs, console=console)
    ]
    if not arguments.report_only:
        measure_all(studies, results, console)
    write(arguments.docs, [(study, finished_cells(study, results)) for study in studies], describe_machine())
    console.print(f"Wrote {arguments.docs / 'ablations.md'}, its plots and {arguments.docs / 'ablations.json'}")


if __name__ == "__main__":
    main()
