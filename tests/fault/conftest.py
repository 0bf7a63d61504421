"""The table of what random faults did, at the very end."""

from __future__ import annotations

import pytest

from tests.fault.table import SEED, TABLE


def pytest_report_header() -> str:
    """Say which dice are thrown."""
    return f"FAULT_SEED={SEED}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table if there is something in it."""
    if lines := TABLE.lines():
        terminalreporter.section(f"random faults, FAULT_SEED={SEED}")
        for line in lines:
            terminalreporter.write_line(line)
