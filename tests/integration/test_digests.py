"""Stored files are damaged behind sshmap's back: promise 6. Whoever reads one says key and host, exit code 5, and makes nothing of it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.listing import Placed
from sshmap.client.results import JobFailed, TransferFailed
from sshmap.errors import DigestMismatch, SshmapError
from sshmap.model import Verb
from sshmap.store.keys import Keys
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.seal import Seal
from tests.integration import fleet

CONTENT = bytes(range(256)) * 2000
HOUR = 3600


def flip(path: Path) -> None:
    """Flip one bit in the middle, as a disk would."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(0o444)


def rot(path: Path) -> None:
    """Flip one bit of a key that has lain here for an hour, with nothing else to see."""
    data = next(parent for parent in path.parents if parent.name == "data")
    made = path.stat().st_mtime_ns - HOUR * 10**9
    flip(path)
    os.utime(path, ns=(made, made))
    seal = Seal.of(path.stat())
    with contextlib.closing(Ledger(Root(data.parent))) as ledger, ledger.change() as db:
        values = (seal.stamped, seal.inode, seal.ctime, str(path.relative_to(data)))
        db.execute("UPDATE keys SET mtime = ?, inode = ?, ctime = ? WHERE name = ?", values)
    assert seal.stamped == made // 10**9


def write_over(path: Path) -> None:
    """Flip one bit within ten minutes of the commit, and put the time stamp back."""
    times = path.stat()
    flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def move_over(path: Path) -> None:
    """Have another file of the same size and time stamp take the place."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    write_over(copy)
    copy.rename(path)


def truncate(path: Path) -> None:
    """Lose the last byte."""
    path.chmod(0o644)
    os.truncate(path, len(CONTENT) - 1)


def grow(path: Path) -> None:
    """Get one byte more."""
    path.chmod(0o644)
    with path.open("ab") as file:
        file.write(b"x")


def empty(path: Path) -> None:
    """Lose all content."""
    path.chmod(0o644)
    os.truncate(path, 0)


def delete(path: Path) -> None:
    """Lose the file."""
    path.unlink()


def make_directory(path: Path) -> None:
    """Become a directory."""
    path.unlink()
    path.mkdir()


DAMAGES = (flip, rot, write_over, move_over, truncate, grow, empty, delete, make_directory)


class Damaged(msgspec.Struct, frozen=True):
    """A cluster with one damaged key among good ones, in a bucket of the test's own."""

    cluster: Cluster
    bucket: str

    @property
    def key(self) -> str:
        """The damaged key."""
        return f"sm://{self.bucket}/in/dir/bad"

    def good(self, number: int) -> str:
        """One of six whole keys beside it."""
        return f"sm://{self.bucket}/in/dir/good{number}"

    def path(self, name: str) -> Path:
        """Where a key lies."""
        return (
            fleet.root_of(self.cluster.inventory, self.cluster.host_of(f"sm://{self.bucket}/{name}")).data
            / self.bucket
            / name
        )

    def assert_named(self, error: SshmapError) -> None:
        """The error is of the right kind, and says which key on which host."""
        assert error.exit_code == 5
        assert self.key in str(error)
        assert self.cluster.host_of(self.key) in str(error)

    def below(self, path: str) -> set[str]:
        """Return the keys below a path of the bucket."""
        prefix = f"{self.bucket}/{path}"
        rows = self.cluster.ls(f"sm://{prefix}", recursive=True)
        return {(row if isinstance(row, str) else row.name).removeprefix(prefix) for row in rows}


@pytest.fixture
def damaged(shared: Cluster, bucket: str, request: pytest.FixtureRequest) -> Damaged:
    """One damaged key among good ones."""
    damage: Callable[[Path], None] = request.param
    damaged = Damaged(shared, bucket)
    shared.put(CONTENT, damaged.key)
    for number in range(6):
        shared.put(b"good %d" % number, damaged.good(number))
    shared.put(b"other member", f"sm://{bucket}/in/other/bad")
    damage(damaged.path("in/dir/bad"))
    return damaged


def every_damage() -> pytest.MarkDecorator:
    """Run a test once for each kind of damage."""
    return pytest.mark.parametrize("damaged", DAMAGES, ids=lambda damage: str(damage.__name__), indirect=True)


@every_damage()
def test_reading_a_damaged_key_fails(damaged: Damaged, tmp_path: Path) -> None:
    """`get`, copies and `eval` fail with exit code 5 and no file appears."""
    with pytest.raises(DigestMismatch) as caught:
        damaged.cluster.get(damaged.key)
    damaged.assert_named(caught.value)
    with Cluster(damaged.cluster.inventory) as other, pytest.raises(DigestMismatch) as caught:
        other.get_file(damaged.key, tmp_path / "copy")
    damaged.assert_named(caught.value)
    with Cluster(damaged.cluster.inventory) as other, pytest.raises(DigestMismatch) as caught:
        other.eval(damaged.key, "cat", io.BytesIO(), io.BytesIO())
    damaged.assert_named(caught.value)
    assert not list(tmp_path.glob("*copy*"))


@every_damage()
def test_session_is_of_use_after_a_damaged_key(damaged: Damaged) -> None:
    """The client that met the damage goes on with other keys, without mixing up answers."""
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            damaged.cluster.get(damaged.key)
        assert [damaged.cluster.get(damaged.good(number)) for number in range(6)] == [
            b"good %d" % number for number in range(6)
        ]
        with pytest.raises(DigestMismatch):
            damaged.cluster.eval(damaged.key, "cat", io.BytesIO(), io.BytesIO())


@every_damage()
def test_copying_a_tree_with_a_damaged_key_brings_the_others(damaged: Damaged, tmp_path: Path) -> None:
    """All good keys arrive, the damaged one leaves no file, and the copy as a whole is an error."""
    with pytest.raises(TransferFailed) as caught:
        damaged.cluster.get_tree(f"sm://{damaged.bucket}/in/dir/", tmp_path / "out")
    damaged.assert_named(caught.value)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"good{number}" for number in range(6)]
    assert damaged.cluster.get(damaged.good(0)) == b"good 0"


@every_damage()
@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_nothing_is_made_from_damaged_input(damaged: Damaged, verb: Verb) -> None:
    """The task fails without running its command; all others are done."""
    command = {Verb.MAP: "cat", Verb.FANOUT: "cat > f; echo f", Verb.MERGE: "xargs cat"}[verb]
    indir = f"sm://{damaged.bucket}/in/" + ("" if verb is Verb.MERGE else "dir/")
    with pytest.raises(JobFailed) as caught:
        damaged.cluster.submit(verb, indir, f"sm://{damaged.bucket}/out/", command)
    assert caught.value.exit_code == 5
    assert damaged.cluster.host_of(damaged.key) in str(caught.value)
    (failure,) = caught.value.result.failures
    assert failure.kind == "DigestMismatch"
    assert damaged.key in f"{failure.key} {failure.message}"
    suffix = "/f" if verb is Verb.FANOUT else ""
    assert damaged.below("out/") == {f"good{number}{suffix}" for number in range(6)}


@every_damage()
def test_damaged_key_can_be_removed_and_made_again(damaged: Damaged) -> None:
    """What the hint says works."""
    damaged.cluster.rm(damaged.key)
    damaged.cluster.put(b"fresh", damaged.key)
    assert damaged.cluster.get(damaged.key) == b"fresh"


@pytest.mark.parametrize("damaged", [flip], indirect=True)
def test_command_line_ends_with_exit_code_5(damaged: Damaged, tmp_path: Path) -> None:
    """`cat`, `cp`, `eval` and `map` say key and host on stderr."""
    inventory = fleet.write_inventory(damaged.cluster.inventory, tmp_path / "inventory.toml")
    host = damaged.cluster.host_of(damaged.key).encode()
    job = ["map", f"sm://{damaged.bucket}/in/dir/", f"sm://{damaged.bucket}/out/", "cat"]
    for arguments in (["cat", damaged.key], ["cp", damaged.key, "copy"], ["eval", damaged.key, "cat"], job):
        code, _, err = fleet.sshmap(inventory, *arguments)
        assert (code, damaged.key.encode() in err, host in err) == (5, True, True), err.decode()


@pytest.mark.parametrize("damaged", [flip], indirect=True)
def test_damaged_output_is_not_read_by_the_next_job(damaged: Damaged) -> None:
    """A fan-out's output that is damaged where it lies is not taken for whole by the job that reads it."""
    bucket = damaged.bucket
    damaged.cluster.fanout(f"sm://{bucket}/in/other/", f"sm://{bucket}/parts/", "cat > 1_part; echo 1_part")
    flip(damaged.path("parts/bad/1_part"))
    with pytest.raises(JobFailed) as caught:
        damaged.cluster.map(f"sm://{bucket}/parts/", f"sm://{bucket}/end/", "cat")
    assert caught.value.exit_code == 5
    assert not damaged.below("end/")


def test_every_fresh_key_is_sealed(shared: Cluster, bucket: str) -> None:
    """However it came: copied in, made by a command, sent on to another host, as it is or as a part of many."""
    for number in range(6):
        shared.put(CONTENT, f"sm://{bucket}/in/k{number}")
    parts = "for n in 0 1 2 3 4 5; do cat $SSHMAP_FILE > ${n}_f; echo ${n} > ${n}_tiny; done; ls"
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/mapped/", "cat")
    shared.fanout(f"sm://{bucket}/in/", f"sm://{bucket}/parts/", parts)
    shared.merge(f"sm://{bucket}/parts/", f"sm://{bucket}/merged/", "xargs cat")
    rows = [row for row in shared.ls(f"sm://{bucket}/", recursive=True) if isinstance(row, Placed)]
    assert len(rows) == 6 + 6 + 6 * 12 + 6
    assert [row for row in rows if not holds(fleet.root_of(shared.inventory, row.host), row.name)] == []


def holds(root: Root, name: str) -> bool:
    """Say whether a key's file has the seal of its row."""
    with contextlib.closing(Ledger(root)) as ledger:
        row = Keys(ledger).get(name)
    seal = Seal.of((root.data / name).stat())
    return row is not None and seal.fresh and seal == row.seal
