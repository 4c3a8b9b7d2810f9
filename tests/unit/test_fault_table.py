from tests.faults import table
from tests.faults.ledger import Ledger


def test_a_fault_that_could_not_be_tested_has_no_figures() -> None:
    heading, _, row = table.lines([Ledger("dropped packets", not_run="iptables is missing")])
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert len(cells) == len(heading.strip("|").split("|"))
    assert (cells[0], cells[1], cells[-1]) == ("dropped packets", "not run", "iptables is missing")
    assert not any(cells[2:-1])
