"""What callers saw, as a Markdown table with a row per fault; docs/faults.md has such a table."""

from collections import Counter
from collections.abc import Sequence

from tests.faults.ledger import Ledger

STATUSES = ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "CANCELLED")
HEADINGS = (
    "fault", "calls", "full", "degraded", *STATUSES, "other", "p50 ms", "p99 ms", "violations", "notes",
)  # fmt: skip


def lines(ledgers: Sequence[Ledger]) -> list[str]:
    """Return the lines of the table, its columns padded to equal width."""
    rows = [HEADINGS, *map(_row, ledgers)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return [_line(padded[0]), _line(["-" * width for width in widths]), *map(_line, padded[1:])]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(ledger: Ledger) -> tuple[str, ...]:
    if ledger.not_run:
        return ledger.fault, "not run", *[""] * (len(HEADINGS) - 3), ledger.not_run
    codes = ledger.codes
    other = len(ledger.calls) - codes["OK"] - sum(codes[name] for name in STATUSES)
    counts = [len(ledger.calls), ledger.full_count, ledger.degraded_count, *(codes[name] for name in STATUSES), other]
    latencies = [f"{ledger.seconds(percentile) * 1000:.1f}" for percentile in (50, 99)]
    return ledger.fault, *map(str, counts), *latencies, str(len(ledger.violations)), _notes(ledger)


def _notes(ledger: Ledger) -> str:
    reasons = [f"{count} degraded ({reason})" for reason, count in ledger.reasons.items()]
    violations = [f"VIOLATED {count} times: {text}" for text, count in Counter(ledger.violations).most_common(5)]
    return "; ".join([*ledger.notes, *reasons, *violations])
