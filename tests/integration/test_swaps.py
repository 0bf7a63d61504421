"""Intentions to swap keys: each belongs to somebody who lives, or is settled by whoever meets it; none stays behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.errors import NoSpace
from sshmap.model import Receipt
from sshmap.store.commit import Outcome, Staged, Store
from sshmap.store.digest import digest_fd, digest_of
from sshmap.store.keys import Row
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from tests.conftest import wait_until
from tests.integration import fleet
from tests.integration.test_commit import (
    NAME,
    NEW,
    OLD,
    RECEIPT_NEW,
    RECEIPT_OLD,
    kill_at_each_step,
    opened,
    put,
    reset,
)

#: Prepares a swap; at the word "commit" does it, at "break off" is killed after the file was moved.
SWAPPER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from sshmap.model import Receipt
from sshmap.store.commit import Staged, Store
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root

content, name = b"the new content, longer", "bucket/folder/key"
store = Store(Root(sys.argv[2]))
path = store.root.tmp / "prepared"
path.write_bytes(content)
receipt, members = Receipt(b"n" * 16, b"i" * 16), ("in/a",)
item = Staged(
    path=str(path), name=name, size=len(content), digest=digest_of(content), sealed=1, receipt=receipt, members=members, replace=True
)
store.prepare([item])
print("prepared", flush=True)
word = sys.stdin.readline().strip()
with store.committing():
    store.commit(item)
    if word == "break off":
        os.kill(os.getpid(), 9)
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with one key, made by the old work."""
    root = Root(tmp_path / "root")
    root.create()
    reset(root, OLD, RECEIPT_OLD)
    return root


@contextlib.contextmanager
def swapper(root: Root) -> Iterator[Callable[[str], None]]:
    """A process that has prepared a swap; it is told how to go on, and has ended then."""
    arguments = [sys.executable, "-c", SWAPPER, str(fleet.PACKAGE), str(root.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "prepared\n"
        yield lambda word: process.communicate(f"{word}\n") and None
        process.kill()


def intentions(root: Root) -> int:
    """Return how many intentions are in the ledger."""
    with contextlib.closing(Ledger(root)) as ledger:
        return int(ledger.db.execute("SELECT count(*) FROM swaps").fetchone()[0])


def seen(store: Store) -> tuple[bytes, Receipt | None]:
    """Return a key's content and receipt as its readers get them; it is an error if they do not belong together."""
    fd, row = store.contents.open_whole(NAME)
    with open(fd, "rb") as file:
        assert digest_fd(file.fileno()) == (row.size, row.digest)
        return file.read(), row.receipt


def test_intention_of_a_living_process_outlasts_the_recovery_of_another(root: Root) -> None:
    """If it is killed after that, between moving the file and committing the row, the key is whole all the same."""
    with swapper(root) as go_on, opened(root) as store:
        store.recover()
        assert intentions(root) == 1
        go_on("break off")
        assert seen(store) == (NEW, RECEIPT_NEW)
        assert store.keys.members_of(NAME) == ("in/a",)
    assert intentions(root) == 0


def test_living_process_commits_what_it_prepared_before_the_recovery_of_another(root: Root) -> None:
    with swapper(root) as go_on, opened(root) as store:
        store.recover()
        go_on("commit")
        assert seen(store) == (NEW, RECEIPT_NEW)
    assert intentions(root) == 0


def test_daemon_that_starts_forgets_what_a_killed_process_has_only_prepared(root: Root) -> None:
    with swapper(root):
        pass
    with opened(root) as store:
        store.recover()
        assert intentions(root) == 0
        assert seen(store) == (OLD, RECEIPT_OLD)


@pytest.mark.parametrize("meet", ["reading", "swapping", "copying", "recovering"])
def test_whoever_meets_a_swap_that_was_broken_off_finishes_it_with_its_receipt(root: Root, meet: str) -> None:
    with swapper(root) as go_on:
        go_on("break off")
    with opened(root) as store:
        if meet == "reading":
            os.close(store.contents.open(NAME)[0])
        elif meet == "swapping":
            assert put(store, NEW, receipt=RECEIPT_NEW, replace=True) is Outcome.KEPT
        elif meet == "copying":
            assert put(store, NEW) is Outcome.KEPT
        else:
            store.recover()
        assert seen(store) == (NEW, RECEIPT_NEW)
    assert intentions(root) == 0


def test_swap_killed_at_any_step_is_whole_for_the_next_reader(root: Root) -> None:
    """Content and receipt belong together without any recovery, and no intention stays that could act later."""
    found = set()

    def after(_: int) -> None:
        with opened(root) as store:
            found.add(seen(store))
            store.recover()
            assert seen(store) in {(OLD, RECEIPT_OLD), (NEW, RECEIPT_NEW)}
        assert intentions(root) == 0

    kill_at_each_step(root, "swap", lambda: reset(root, OLD, RECEIPT_OLD), after, recovering=False)
    assert found == {(OLD, RECEIPT_OLD), (NEW, RECEIPT_NEW)}


def test_next_attempt_of_a_command_that_gives_other_content_each_time_swaps_what_was_broken_off(root: Root) -> None:
    with swapper(root) as go_on:
        go_on("break off")
    with opened(root) as store:
        assert put(store, b"made a second time", receipt=RECEIPT_NEW, replace=True) is Outcome.FRESH
        assert seen(store) == (b"made a second time", RECEIPT_NEW)
    assert intentions(root) == 0


def test_intention_that_was_not_used_goes_with_the_transaction_it_was_noted_for(root: Root) -> None:
    """A worker finds that its attempt does not count any more."""
    with opened(root) as store:
        path = root.tmp / "item"
        path.write_bytes(NEW)
        item = Staged(
            path=str(path), name=NAME, size=len(NEW), digest=digest_of(NEW), sealed=1, receipt=RECEIPT_NEW, replace=True
        )
        store.prepare([item])
        with store.committing():
            pass
        assert intentions(root) == 0
        # the same content comes by another way, and its receipt stays when the daemon starts again
        store.remove(NAME, exact=True)
        put(store, NEW, receipt=RECEIPT_NEW)
        store.recover()
        assert seen(store) == (NEW, RECEIPT_NEW)


def test_intention_goes_when_the_transaction_fails_after_the_file_was_moved(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is the new one at once, and whole."""
    with opened(root) as store:
        insert, calls = store.keys.insert, []

        def fails_once(row: Row, members: tuple[str, ...] = ()) -> None:
            calls.append(row)
            if len(calls) == 1:
                raise NoSpace("no space left")
            insert(row, members)

        monkeypatch.setattr(store.keys, "insert", fails_once)
        with pytest.raises(NoSpace):
            put(store, NEW, receipt=RECEIPT_NEW, replace=True)
        assert intentions(root) == 0
        assert seen(store) == (NEW, RECEIPT_NEW)


def test_file_that_has_the_inode_of_a_dead_intention_by_chance_keeps_its_row(root: Root) -> None:
    """File systems give the number of a deleted file to the next one."""
    with opened(root) as store:
        inode = os.stat(root.data / NAME).st_ino
        with store.ledger.change() as db:
            values = (NAME, "1.gone.ab", len(NEW), digest_of(NEW), 1, inode)
            db.execute("INSERT INTO swaps (name, owner, size, digest, mtime, inode) VALUES (?, ?, ?, ?, ?, ?)", values)
        store.recover()
        assert seen(store) == (OLD, RECEIPT_OLD)
    assert intentions(root) == 0


def test_two_who_swap_one_key_leave_it_to_the_last_of_them(root: Root) -> None:
    with swapper(root) as go_on, opened(root) as store:
        assert put(store, b"other", receipt=Receipt(b"x" * 16, b"i" * 16), replace=True) is Outcome.FRESH
        assert intentions(root) == 1
        go_on("commit")
        assert seen(store) == (NEW, RECEIPT_NEW)
    assert intentions(root) == 0


def test_no_intention_stays_after_swapping_jobs_whose_couriers_were_killed(
    cluster: Cluster, inventory_file: Path
) -> None:
    """And when the daemons start again, what they made is known: the same command has nothing left to do."""
    for number in range(20):
        cluster.put(b"content %d" % number, f"sm://b/in/k{number}")
    roots = [Root(host.root) for host in cluster.inventory.hosts]
    for turn in range(3):
        command = f"cat > f; echo {turn} >> f; cp f g; ls"
        with fleet.start_sshmap(inventory_file, "fanout", "--replace", "sm://b/in/", "sm://b/out/", command) as job:
            while job.poll() is None:
                if courier := fleet.process_of(roots[turn], "courier"):
                    fleet.kill(courier)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.communicate(timeout=0.3)
        assert job.returncode == 0
    wait_until(lambda: not any(intentions(root) for root in roots))
    cluster.down()
    cluster.up()
    again = cluster.fanout("sm://b/in/", "sm://b/out/", command)
    assert (again.done, again.failed, again.kept) == (0, 0, 20)
