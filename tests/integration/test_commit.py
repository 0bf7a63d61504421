"""A commit is killed at every step, and many writers race for one key: promises 1, 2 and 3."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.errors import KeyExists, SshmapError
from sshmap.inventory import Inventory
from sshmap.model import Receipt
from sshmap.store import locks
from sshmap.store.commit import Outcome, Staged, Store
from sshmap.store.digest import digest_fd, digest_of
from sshmap.store.layout import Root
from tests.integration import fleet

OLD, NEW = b"old content", b"the new content, longer"
RECEIPT_OLD, RECEIPT_NEW = Receipt(b"o" * 16, b"i" * 16), Receipt(b"n" * 16, b"i" * 16)
MOST_STEPS = 200
NAME = "bucket/folder/key"

#: For each line "operation step" on stdin: forks, runs the operation, and kills itself with the step-th call or statement of interest.
CHILD = """
import os, shutil, sys
sys.path.insert(0, sys.argv[1])
from sshmap.model import Receipt
from sshmap.store import locks
from sshmap.store.commit import Staged, Store
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root

NEW = b"the new content, longer"
NAME = "bucket/folder/key"
left = 0

def step():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)

def counted(call):
    def wrapper(*args, **kwargs):
        step()
        result = call(*args, **kwargs)
        step()
        return result
    return wrapper

class Database:
    def __init__(self, db):
        self._db = db
        self.execute, self.executemany = counted(db.execute), counted(db.executemany)
    def __getattr__(self, name):
        return getattr(self._db, name)

def commit(store, receipt, replace):
    scratch = locks.scratch_dir(store.root)
    path = scratch / "1"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    os.write(fd, NEW[:5])
    step()
    os.write(fd, NEW[5:])
    os.close(fd)
    item = Staged(path=str(path), name=NAME, size=len(NEW), digest=digest_of(NEW), sealed=1, receipt=receipt, replace=replace)
    store.prepare([item])
    with store.committing():
        store.commit(item)
        store.ledger.bump()
    shutil.rmtree(scratch)

def run(operation, steps):
    global left
    store = Store(Root(sys.argv[2]))
    store.ledger.db = store.keys._db = Database(store.ledger.db)
    for name in ("open", "link", "rename", "unlink", "mkdir", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))
    left = steps
    if operation == "rm":
        store.remove(NAME, exact=True)
    else:
        commit(store, Receipt(b"n" * 16, b"i" * 16) if operation == "swap" else None, operation == "swap")

for line in sys.stdin:
    operation, steps = line.split()
    pid = os.fork()
    if not pid:
        run(operation, int(steps))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """An empty root."""
    root = Root(tmp_path / "root")
    root.create()
    return root


@contextlib.contextmanager
def opened(root: Root) -> Iterator[Store]:
    """Open the store of a root as another process would."""
    store = Store(root)
    try:
        yield store
    finally:
        store.close()


def put(
    store: Store, content: bytes, *, name: str = NAME, receipt: Receipt | None = None, replace: bool = False
) -> Outcome:
    """Commit some content by the way all commits take."""
    scratch = locks.scratch_dir(store.root)
    path = scratch / "1"
    path.write_bytes(content)
    path.chmod(0o444)
    item = Staged(
        path=str(path),
        name=name,
        size=len(content),
        digest=digest_of(content),
        sealed=1,
        receipt=receipt,
        replace=replace,
    )
    try:
        store.prepare([item])
        with store.committing():
            return store.commit(item)
    finally:
        shutil.rmtree(scratch)


def settle_all(store: Store, items: list[Staged]) -> None:
    """Commit several items in one transaction."""
    with store.committing():
        for item in items:
            store.commit(item)


def read(store: Store, name: str = NAME) -> bytes | None:
    """Return a key's content, None if there is no such key; it is an error if row and file differ."""
    row = store.keys.get(name)
    if row is None:
        return None
    with open(store.files.open(name), "rb") as file:
        assert digest_fd(file.fileno()) == (row.size, row.digest)
        return file.read()


def kill_at_each_step(
    root: Root, operation: str, before: Callable[[], None], after: Callable[[int], None], *, recovering: bool = True
) -> int:
    """Run an operation again and again, killed at its first step, its second, …, until it ends by itself; return the steps."""
    arguments = [sys.executable, "-c", CHILD, str(fleet.PACKAGE), str(root.path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for step in range(1, MOST_STEPS):
            before()
            child.stdin.write(f"{operation} {step}\n")
            code = int(child.stdout.readline())
            assert code in (0, -9)
            locks.sweep_scratch(root)
            assert not fleet.litter_in(root)
            if recovering:
                with opened(root) as store:
                    store.recover()
            after(code)
            if code == 0:
                child.stdin.close()
                return step
    raise AssertionError("the operation does not end")


def reset(root: Root, content: bytes | None, receipt: Receipt | None = None) -> None:
    """Bring the key into the state that an operation starts from."""
    with opened(root) as store:
        store.remove("bucket/")
        if content is not None:
            assert put(store, content, receipt=receipt) is Outcome.FRESH


def test_put_killed_at_any_step_leaves_the_key_absent_or_exact(root: Root) -> None:
    """And the same upload afterwards succeeds."""
    seen = set()

    def after(code: int) -> None:
        with opened(root) as store:
            content = read(store)
            assert content in (None, NEW)
            assert code or content == NEW
            seen.add(content)
            put(store, NEW)
            assert read(store) == NEW

    assert kill_at_each_step(root, "put", lambda: reset(root, None), after) > 10
    assert seen == {None, NEW}


def test_other_content_can_follow_a_killed_put(root: Root) -> None:
    """The file of a commit that did not happen binds nobody."""

    def after(_: int) -> None:
        with opened(root) as store:
            if read(store) is None:
                put(store, OLD)
                assert read(store) == OLD

    kill_at_each_step(root, "put", lambda: reset(root, None), after)


def test_leftover_of_a_killed_put_does_not_block_keys_below_its_name(root: Root) -> None:
    """A file without a row is invisible: a key that needs a directory there can be put."""

    def after(_: int) -> None:
        with opened(root) as store:
            if read(store) is None:
                put(store, OLD, name=f"{NAME}/below")
                assert read(store, f"{NAME}/below") == OLD

    kill_at_each_step(root, "put", lambda: reset(root, None), after)


def test_swap_killed_at_any_step_leaves_the_old_key_or_the_new_one(root: Root) -> None:
    """Never a row that does not match its file; the swap can be done again."""
    seen = set()

    def after(code: int) -> None:
        with opened(root) as store:
            content = read(store)
            assert content in (OLD, NEW)
            assert code or content == NEW
            seen.add(content)
            put(store, NEW, receipt=RECEIPT_NEW, replace=True)
            assert read(store) == NEW

    assert kill_at_each_step(root, "swap", lambda: reset(root, OLD, RECEIPT_OLD), after) > 10
    assert seen == {OLD, NEW}


def test_rm_killed_at_any_step_leaves_the_key_whole_or_gone(root: Root) -> None:
    """And once gone no file of it is left after recovery."""
    seen = set()

    def after(code: int) -> None:
        with opened(root) as store:
            content = read(store)
            assert content in (None, OLD)
            assert code or content is None
            seen.add(content)
        assert (root.data / NAME).exists() == (content is not None)

    assert kill_at_each_step(root, "rm", lambda: reset(root, OLD), after) > 10
    assert seen == {None, OLD}


def test_key_put_after_a_killed_rm_survives_recovery(root: Root) -> None:
    """The note that a file is garbage does not hit the file of a new key of that name."""

    def after(_: int) -> None:
        with opened(root) as store:
            if store.keys.get(NAME) is None:
                put(store, NEW)
            store.recover()
            assert read(store) in (OLD, NEW)

    kill_at_each_step(root, "rm", lambda: reset(root, OLD), after, recovering=False)


def test_swap_killed_at_any_step_is_done_by_the_next_attempt(root: Root) -> None:
    """Also when the next attempt comes before any recovery: the worker alone died, not the daemon."""

    def after(_: int) -> None:
        with opened(root) as store:
            put(store, NEW, receipt=RECEIPT_NEW, replace=True)
            assert read(store) == NEW
            store.recover()
            assert read(store) == NEW

    kill_at_each_step(root, "swap", lambda: reset(root, OLD, RECEIPT_OLD), after, recovering=False)


def test_swap_that_is_rolled_back_leaves_a_whole_key(root: Root) -> None:
    """When a later item of the same transaction is refused, the swapped file and its row still belong together."""
    with opened(root) as store:
        put(store, OLD, receipt=RECEIPT_OLD)
        put(store, OLD, name="bucket/other", receipt=RECEIPT_NEW)
        items = []
        for number, name in enumerate((NAME, "bucket/other")):
            path = root.tmp / f"item{number}"
            path.write_bytes(NEW)
            items.append(
                Staged(
                    path=str(path),
                    name=name,
                    size=len(NEW),
                    digest=digest_of(NEW),
                    sealed=1,
                    receipt=RECEIPT_NEW,
                    replace=name == NAME,
                )
            )
        store.prepare(items)
        with pytest.raises(KeyExists):
            settle_all(store, items)
        assert read(store) in (OLD, NEW)
        store.recover()
        assert read(store) in (OLD, NEW)


def test_recovery_goes_on_past_a_swap_whose_file_is_missing(root: Root) -> None:
    """One damaged key is reported by whoever reads it; it does not keep the daemon from starting."""
    with opened(root) as store:
        put(store, OLD, receipt=RECEIPT_OLD)
        put(store, OLD, name="bucket/other")
        (root.tmp / "x").write_bytes(NEW)
        store.prepare(
            [
                Staged(
                    path=str(root.tmp / "x"),
                    name=NAME,
                    size=3,
                    digest=b"d" * 16,
                    sealed=1,
                    receipt=RECEIPT_NEW,
                    replace=True,
                )
            ]
        )
        (root.data / NAME).unlink()
        store.recover()
        assert read(store, "bucket/other") == OLD


#: Five threads of one process write different contents to one key, once stdin says go.
WRITER = """
import shutil, sys, threading
sys.path.insert(0, sys.argv[1])
from sshmap.errors import KeyExists
from sshmap.store import locks
from sshmap.store.commit import Outcome, Staged, Store
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root

def write(number):
    store = Store(Root(sys.argv[2]))
    scratch = locks.scratch_dir(store.root)
    content = b"content of writer %d" % number
    path = scratch / "1"
    path.write_bytes(content)
    try:
        with store.committing():
            fresh = store.commit(Staged(path=str(path), name="bucket/raced", size=len(content), digest=digest_of(content), sealed=1))
        outcomes.append("won %d" % number if fresh is Outcome.FRESH else "kept")
    except KeyExists:
        outcomes.append("refused")
    finally:
        shutil.rmtree(scratch)
        store.close()

outcomes = []
threads = [threading.Thread(target=write, args=(5 * int(sys.argv[3]) + number,)) for number in range(5)]
sys.stdin.read(1)
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("\\n".join(outcomes))
"""


def test_one_of_a_hundred_racing_writers_wins(root: Root) -> None:
    """20 processes of 5 threads write different contents to one key: one wins, all others are told that it exists."""
    with opened(root):
        pass
    arguments = [sys.executable, "-c", WRITER, str(fleet.PACKAGE), str(root.path)]
    writers = [
        subprocess.Popen([*arguments, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for number in range(20)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"!")
        writer.stdin.flush()
    outcomes = [line for writer in writers for line in writer.communicate(timeout=100)[0].decode().splitlines()]
    winners = [line for line in outcomes if line.startswith("won")]
    assert len(outcomes) == 100
    assert len(winners) == 1
    assert outcomes.count("refused") == 99
    with opened(root) as store:
        assert read(store, "bucket/raced") == b"content of writer " + winners[0].split()[1].encode()
    assert not fleet.litter_in(root)


def test_racing_clients_agree_on_one_content(inventory: Inventory, cluster: Cluster) -> None:
    """Through sessions as well: one content, whoever asks, and every other writer gets exit code 4."""
    cluster.up()

    def write(number: int) -> str:
        with Cluster(inventory) as other:
            try:
                return f"fresh {other.put(b'content %d' % number, 'sm://b/raced').fresh} of {number}"
            except SshmapError as exc:
                return f"exit {exc.exit_code}"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(write, range(8)))
    (winner,) = [outcome for outcome in outcomes if outcome.startswith("fresh 1")]
    assert outcomes.count("exit 4") == 7
    assert cluster.get("sm://b/raced") == b"content " + winner[-1].encode()


def test_repeated_upload_is_harmless(cluster: Cluster) -> None:
    """The same content again is a success and no second key; a late repeat after another content is refused."""
    assert cluster.put(OLD, "sm://b/k").fresh == 1
    again = cluster.put(OLD, "sm://b/k")
    assert (again.fresh, again.kept) == (0, 1)
    cluster.rm("sm://b/k")
    cluster.put(NEW, "sm://b/k")
    with pytest.raises(KeyExists):
        cluster.put(OLD, "sm://b/k")
    assert cluster.get("sm://b/k") == NEW
    assert [row.path for row in cluster.ls("sm://b/", recursive=True)] == ["b/k"]
