"""The ledger file: made whole by whoever is first, and not taken for an empty one when it is damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from sshmap.errors import DigestMismatch, Refused
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger

PACKAGE = Path(__file__).parents[2]

#: opens a ledger when it is told to, and changes it
OPENER = """
import contextlib, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
with contextlib.closing(Ledger(Root(Path(sys.argv[2])))) as ledger, ledger.change():
    ledger.bump()
print(ledger.id)
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root without a ledger."""
    made = Root(tmp_path / "root")
    made.create()
    return made


def count_of(root: Root) -> int:
    """Return how often the ledger was changed."""
    with contextlib.closing(Ledger(root)) as ledger:
        return int(ledger.generation().split(":")[1])


def test_processes_that_open_a_new_ledger_at_once_share_it(root: Root) -> None:
    for turn in range(10):
        root.ledger.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            openers = [
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-W", "ignore", "-c", OPENER, str(PACKAGE), str(root.path)],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
                    )
                )
                for _ in range(6)
            ]  # fmt: skip
            for opener in openers:
                assert opener.stdout is not None
                assert opener.stdout.readline() == "ready\n"
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write("\n")
            said = [opener.communicate(timeout=60) for opener in openers]
        assert [err for _, err in said] == [""] * len(openers), f"turn {turn}"
        assert len({out for out, _ in said}) == 1
        assert count_of(root) == len(openers)
        assert [*root.tmp.iterdir()] == [root.outbox]


def test_ledger_that_was_emptied_is_damaged_and_not_a_new_one(root: Root) -> None:
    assert count_of(root) == 0
    root.ledger.write_bytes(b"")
    with pytest.raises(DigestMismatch, match="is damaged"):
        Ledger(root)
    assert root.ledger.read_bytes() == b""


def test_ledger_that_is_missing_beside_its_journal_is_damaged_and_not_a_new_one(root: Root) -> None:
    with contextlib.closing(Ledger(root)) as ledger:
        with ledger.change():
            ledger.bump()
        root.ledger.unlink()
        with pytest.raises(DigestMismatch, match="its journal is there"):
            Ledger(root)
    assert not root.ledger.exists()


def test_ledger_that_was_overwritten_is_damaged(root: Root) -> None:
    root.ledger.write_bytes(b"no database, but some text" * 100)
    with pytest.raises(DigestMismatch, match="is damaged"):
        Ledger(root)


def test_ledger_of_a_later_version_is_refused(root: Root) -> None:
    assert count_of(root) == 0
    with contextlib.closing(sqlite3.connect(root.ledger)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(Refused, match="has version 99"):
        Ledger(root)
