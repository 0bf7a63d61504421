"""Stored files are damaged behind sshmap's back: promise 6. Whoever reads one says key and host, exit code 5, and makes nothing of it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.client.listing import Placed
from sshmap.client.results import TransferFailed
from sshmap.errors import DigestMismatch, SshmapError
from sshmap.model import Verb
from sshmap.store.keys import Keys
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.seal import Seal
from tests.integration import fleet
from tests.integration.damages import DAMAGES, await_tick, flip

CONTENT = bytes(range(256)) * 2000


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
        return {row.path.removeprefix(prefix) for row in rows}


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
    """However it came: copied in, made by a command, or a part of many that stays on its host."""
    for number in range(6):
        shared.put(CONTENT, f"sm://{bucket}/in/k{number}")
    parts = "for n in 0 1 2 3 4 5; do cat $SSHMAP_FILE > ${n}_f; done; ls"
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/mapped/", "cat")
    shared.fanout(f"sm://{bucket}/in/", f"sm://{bucket}/parts/", parts)
    shared.merge(f"sm://{bucket}/parts/", f"sm://{bucket}/merged/", "xargs cat")
    rows = [row for row in shared.ls(f"sm://{bucket}/", recursive=True) if isinstance(row, Placed)]
    assert len(rows) == 6 + 6 + 6 * 6 + 6
    unsealed = [row for row in rows if not has_seal(fleet.root_of(shared.inventory, row.host), row.path)]
    # what came as an open file was changed once more when its sender gave up its own name for it
    hosts = {row.path: row.host for row in rows}
    assert all(hosts[f"{bucket}/in/{row.path.split('/')[-2]}"] != row.host for row in unsealed)


def has_seal(root: Root, name: str) -> bool:
    """Say whether a key's file has the seal of its row; its stamp is there in any case."""
    with contextlib.closing(Ledger(root)) as ledger:
        row = Keys(ledger).get(name)
    assert row is not None
    seal = Seal.of((root.data / name).stat())
    assert (seal.fresh, seal.stamped, seal.inode) == (True, row.mtime, row.inode)
    return seal == row.seal


#: what a task can do to its input, as whoever owns it
TAMPERINGS = {
    "appends": 'chmod u+w "$f"; echo x >> "$f"',
    "deletes": 'rm -f "$f"',
    "replaces": 'cp -p "$f" copy; chmod u+w copy; printf X | dd of=copy conv=notrunc status=none; touch -r "$f" copy; mv -f copy "$f"',
    "puts the time back": 'touch -r "$f" t; chmod u+w "$f"; printf X | dd of="$f" conv=notrunc status=none; touch -r t "$f"',
}


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_task_that_changes_its_own_input_fails(shared: Cluster, bucket: str, verb: Verb, tampering: str) -> None:
    """Through `$SSHMAP_FILE`: its output is not committed, and the message names the input; others are done."""
    for name in ("good", "bad"):
        shared.put(CONTENT, f"sm://{bucket}/in/{name}")
        await_tick(
            fleet.root_of(shared.inventory, shared.host_of(f"sm://{bucket}/in/{name}")).data / bucket / "in" / name
        )
    path = '"$(head -1 $SSHMAP_FILE)"' if verb is Verb.MERGE else "$SSHMAP_FILE"
    output = "cat > o; echo o" if verb is Verb.FANOUT else "cat > o; cat o"
    command = f"{output}; f={path}; case $f in *bad) {TAMPERINGS[tampering]};; esac"
    with pytest.raises(JobFailed) as caught:
        shared.submit(verb, f"sm://{bucket}/in/", f"sm://{bucket}/out/", command)
    (failure,) = caught.value.result.failures
    assert (failure.kind, caught.value.exit_code) == ("DigestMismatch", 5)
    assert f"sm://{bucket}/in/bad was changed or deleted" in failure.message
    rows = [row.path for row in shared.ls(f"sm://{bucket}/out/", recursive=True)]
    assert rows == [f"{bucket}/out/good" + ("/o" if verb is Verb.FANOUT else "")]


def test_task_that_writes_through_its_stdin_fails(shared: Cluster, bucket: str) -> None:
    """Also where the file was read before, and only one byte of it was changed."""
    shared.put(CONTENT, f"sm://{bucket}/in/k")
    command = "cat; exec 5<&0; chmod u+w /proc/self/fd/0; printf X | dd of=/proc/self/fd/5 conv=notrunc status=none"
    with pytest.raises(JobFailed, match="in/k was changed or deleted"):
        shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", command)
    assert not list(shared.ls(f"sm://{bucket}/out/", recursive=True))


def test_input_whose_seal_was_broken_without_harm_is_no_damage(shared: Cluster, bucket: str) -> None:
    """A task whose input is linked by a backup, or made writable, while it runs goes on; so does whoever reads it later."""
    shared.put(CONTENT, f"sm://{bucket}/in/k")
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", 'cat; ln "$SSHMAP_FILE" l; chmod u+w "$SSHMAP_FILE"')
    assert shared.get(f"sm://{bucket}/out/k") == shared.get(f"sm://{bucket}/in/k") == CONTENT
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/again/", "cat")
    assert shared.get(f"sm://{bucket}/again/k") == CONTENT
