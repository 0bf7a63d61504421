"""A pipeline of cp, map, fanout and merge on real hosts, as a user types it, and what has to hold whatever happened to a command of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sshmap import Cluster
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from tests.conftest import files_below, wait_until
from tests.integration import fleet
from tests.sshd import Sshd, SshdHosts

#: files that are copied in, parts that each is split into
KEYS, PARTS = 36, 6
#: times a command is typed until it succeeds, and seconds that one may take
TRIES, LIMIT = 8, 120.0
#: seconds within which hosts are idle once a command has succeeded
IDLE_WITHIN = 20.0
#: gives a fault time to come while the command runs
_LINGER = "read -rt 0.05 <> <(:) || true; "


class Step(NamedTuple):
    """One command of the pipeline."""

    verb: str
    #: directories below the bucket
    source: str
    target: str
    #: files to be copied, or tasks
    asked: int
    command: str = ""


STEPS = (
    Step("cp", "", "in", KEYS),
    Step("map", "in", "mapped", KEYS, _LINGER + "sed 's/^/mapped /'"),
    Step(
        "fanout", "mapped", "spread", KEYS,
        f'{_LINGER}for n in {{1..{PARTS}}}; do sed "s/^/$n /" $SSHMAP_FILE > p$n; echo p$n; done',
    ),
    Step("merge", "spread", "merged", PARTS, _LINGER + "tr '\\n' '\\0' | xargs -0 cat | sort"),
)  # fmt: skip
#: disturbs a command that runs, which takes so many seconds in peace; says whether it came to that
Fault = Callable[["subprocess.Popen[bytes]", float], bool]


class Suffered(NamedTuple):
    """What became of a command that was disturbed."""

    #: whether the fault came while it ran
    hit: bool
    code: int
    #: times it was typed again until it succeeded
    again: int


def ended(client: subprocess.Popen[bytes]) -> str:
    """Wait for a command and return what it said on stderr.

    Raises:
        AssertionError: it does not end; it is killed.
    """
    try:
        return client.communicate(timeout=LIMIT)[1].decode()
    except subprocess.TimeoutExpired:
        client.kill()
        said = client.communicate()[1].decode()
        raise AssertionError(f"{client.args!r} does not end within {LIMIT:.0f} s: {said}") from None


class Pipeline:
    """Hosts that are up, what is typed at them, and what it makes in peace.

    Args:
        hosts: the hosts.
        typed: the inventory as a file.
        folder: an empty directory.
    """

    def __init__(self, hosts: SshdHosts, typed: Path, folder: Path) -> None:
        self.hosts, self.typed, self._folder = hosts.hosts, typed, folder
        with Cluster(typed) as cluster:
            self.roots = {host.name: Root(host.root) for host in cluster.inventory.hosts}
            _, failures = cluster.up()
            assert not failures, failures
        self.files = folder / "files"
        self.files.mkdir()
        for number in range(KEYS):
            lines = (f"{number} {line}\n" for line in range(100 + 37 * number))
            (self.files / f"k{number}").write_text("".join(lines), encoding="ascii")
        self._outside = {host.name: _plant(host) for host in self.hosts}
        self._expected: dict[str, dict[str, bytes]] = {}
        self._seconds: dict[str, float] = {}
        for step in STEPS:
            self._run_in_peace(step)

    def _run_in_peace(self, step: Step) -> None:
        began = time.monotonic()
        assert self.type_until_done(step, "calm") == 1
        self._seconds[step.verb] = time.monotonic() - began
        self._expected[step.verb] = self.results(step, "calm")
        self.check(step, "calm")

    def places(self, prefix: str) -> Iterator[tuple[Step, str]]:
        """Go through the steps in one bucket after the other, which is deleted at its end."""
        for number in itertools.count():
            bucket = f"{prefix}{number}"
            for step in STEPS:
                yield step, bucket
            self.succeed("rm", "-r", "-y", f"sm://{bucket}/")

    def arguments(self, step: Step, bucket: str) -> list[str]:
        """Return the words of a step's command."""
        target = f"sm://{bucket}/{step.target}/"
        if step.verb == "cp":
            return ["cp", "-r", "--json", str(self.files), target]
        return [step.verb, "--json", f"sm://{bucket}/{step.source}/", target, step.command]

    def succeed(self, *arguments: str) -> None:
        """Type a command that has to succeed."""
        with fleet.start_sshmap(self.typed, *arguments) as client:
            said = ended(client)
        assert client.returncode == 0, (arguments, client.returncode, said)

    def suffer(self, step: Step, bucket: str, fault: Fault, codes: set[int]) -> Suffered:
        """Disturb a step's command, type it again until it succeeds, and look at all that has to hold then.

        Args:
            step: the step.
            bucket: where it works.
            fault: disturbs it.
            codes: what the command may end with.
        """
        with fleet.start_sshmap(self.typed, *self.arguments(step, bucket)) as client:
            try:
                hit = fault(client, self._seconds[step.verb])
            finally:
                said = ended(client)
        assert client.returncode in codes, (client.returncode, said)
        assert "Traceback" not in said, said
        again = self.type_until_done(step, bucket)
        self.check(step, bucket)
        return Suffered(hit, client.returncode, again)

    def type_until_done(self, step: Step, bucket: str) -> int:
        """Type a step's command until it succeeds and return how often; it may fail only by what was done to its hosts."""
        for tried in range(1, TRIES + 1):
            code, out, err = self._type(step, bucket)
            if code == 0:
                counts = json.loads(out)
                assert (counts["ok"] + counts["kept"], counts["failed"]) == (step.asked, 0), counts
                return tried
            assert code in (1, 3), (code, err)
        raise AssertionError(f"{step.verb} does not succeed within {TRIES} tries: {err}")

    def _type(self, step: Step, bucket: str) -> tuple[int, bytes, str]:
        with fleet.start_sshmap(self.typed, *self.arguments(step, bucket)) as client:
            try:
                out, err = client.communicate(timeout=LIMIT)
            except subprocess.TimeoutExpired:
                client.kill()
                raise AssertionError(f"{step.verb} does not end within {LIMIT:.0f} s") from None
        return client.returncode, out, err.decode()

    def results(self, step: Step, bucket: str) -> dict[str, bytes]:
        """Read all that a step has made, each key to its end."""
        target = self._folder / "results"
        with Cluster(self.typed) as cluster:
            cluster.get_tree(f"sm://{bucket}/{step.target}/", target)
        found = {str(file.relative_to(target)): file.read_bytes() for file in files_below(target)}
        shutil.rmtree(target)
        return found

    def check(self, step: Step, bucket: str) -> None:
        """Look at all that has to hold once a step's command has succeeded."""
        found, expected = self.results(step, bucket), self._expected[step.verb]
        differing = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        assert not differing, f"{step.verb} made other content than in peace: {differing[:5]}"
        _await_none(self.commands, "commands run on")
        _await_none(self.litter, "temporary files are left")
        for name, root in self.roots.items():
            if step.verb != "cp":
                check_counts(root, step, bucket)
            assert fleet.snapshot(self._outside[name][0]) == self._outside[name][1], f"{name}: files outside changed"

    def commands(self) -> dict[int, str]:
        """Return the commands that run on any host."""
        return {pid: said for root in self.roots.values() for pid, said in fleet.commands_of(root).items()}

    def litter(self) -> list[str]:
        """Return what lies in the hosts' tmp/ and belongs to no living process.

        What a daemon leaves that is killed is removed by the next session there, so one is opened if there is something.
        """
        if any(map(fleet.litter_in, self.roots.values())):
            with Cluster(self.typed) as cluster:
                cluster.statuses()
        return [f"{name}: {entry}" for name, root in self.roots.items() for entry in fleet.litter_in(root)]


def _await_none(look: Callable[[], object], what: str) -> None:
    """Wait until nothing is found any more, or say what is."""
    found: list[object] = []

    def is_none() -> bool:
        found[:] = [look()]
        return not found[0]

    try:
        wait_until(is_none, limit=IDLE_WITHIN)
    except AssertionError:
        raise AssertionError(f"{what} after {IDLE_WITHIN:.0f} s: {found[0]}") from None


def _plant(host: Sshd) -> tuple[Path, dict[str, tuple[int, bytes]]]:
    """Make files in the home of a host that nothing may touch; return them and what they are."""
    top = host.home / "canary"
    (top / "folder").mkdir(parents=True)
    (top / "folder" / "file").write_bytes(b"do not touch")
    return top, fleet.snapshot(top)


#: the tasks of all runs with an output directory
_TASKS = "FROM tasks JOIN runs ON runs.seq = run JOIN jobs ON jobs.id = job WHERE outdir = :outdir"
_ATTEMPTS = (
    f"SELECT output, sum(outcome = 'done') FROM (SELECT tasks.id AS task, output {_TASKS}) JOIN attempts USING (task)"
)


def check_counts(root: Root, step: Step, bucket: str) -> None:
    """Hold what a host's ledger says of the runs of a step against its tasks and attempts."""
    values = {"outdir": f"sm://{bucket}/{step.target}/"}
    with contextlib.closing(Ledger(root)) as ledger:
        inputs = {
            name
            for (name,) in ledger.db.execute(
                "SELECT name FROM keys WHERE substr(name, 1, length(:top)) = :top", {"top": f"{bucket}/{step.source}/"}
            )
        }
        asked = len({name.rsplit("/", 1)[1] for name in inputs})
        runs = ledger.db.execute(
            "SELECT seq, epoch, kept, queued, ended FROM runs JOIN jobs ON jobs.id = job WHERE outdir = :outdir", values
        ).fetchall()
        for seq, epoch, kept, queued, ended_at in runs:
            _check_run(ledger, seq, asked, kept if queued is not None and epoch == 1 else None)
            assert ended_at is not None, f"{root.path}: run {seq} is not over"
        commits = dict(ledger.db.execute(f"{_ATTEMPTS} GROUP BY output", values).fetchall())
        unfinished = ledger.db.execute(f"SELECT count(*) {_TASKS} AND tasks.epoch = 0", values).fetchone()[0]
        states: dict[str, list[str]] = {}
        for output, state in ledger.db.execute(f"SELECT output, state {_TASKS}", values):
            states.setdefault(output, []).append(state)
    assert unfinished == 0, f"{root.path}: {unfinished} tasks are unfinished"
    assert len(states) == asked, f"{root.path}: {len(states)} tasks of {asked} are known"
    for output, seen in states.items():
        assert commits.get(output, 0) == seen.count("done") <= 1, (output, seen, commits)
        # a fan-out that is cancelled when its files have arrived, but before that is known, is kept by the next run
        assert "done" in seen or (step.verb, seen[-1]) == ("fanout", "cancelled"), (output, seen)


def _check_run(ledger: Ledger, seq: int, asked: int, kept: int | None) -> None:
    """Hold the counts of one run against its tasks, and all of them against what was asked for where that is known."""
    tasks = dict(ledger.db.execute("SELECT state, count(*) FROM tasks WHERE run = ? GROUP BY state", (seq,)).fetchall())
    tallied = dict(
        ledger.db.execute(
            "SELECT state, sum(tasks) FROM tallies WHERE run = ? GROUP BY state HAVING sum(tasks) > 0", (seq,)
        ).fetchall()
    )
    assert tallied == tasks, f"run {seq}: {tallied} are counted, {tasks} are there"
    assert kept is None or kept + sum(tasks.values()) == asked, f"run {seq}: {kept} kept and {tasks} of {asked}"
