"""A worker: claims tasks, runs their commands, commits their outputs.

Holds the lock of its slot as long as it lives; when the lock is free, whatever the slot
had claimed goes back to the queue. One task at a time; the commands run below a supervisor
that outlives the worker just long enough to end them.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import msgspec

from sshmap.agent.execution import supervisor
from sshmap.agent.execution.shell import Request, Result, Shell, task_environment
from sshmap.agent.host.wake import Sleeper, wake
from sshmap.errors import CommandsFailed, NoSpace, NothingMatched, Refused, SshmapError
from sshmap.model import KeyName, Maker, TaskState, Verb, base_name, check_name, show
from sshmap.placement import Ring
from sshmap.store import locks
from sshmap.store.commit import Staged, Store
from sshmap.store.digest import digest_fd
from sshmap.store.files import mapped_error
from sshmap.store.keys import Row
from sshmap.store.layout import ClusterFile, Root, remove_tree
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_inputs, names_digest
from sshmap.store.seal import seal
from sshmap.store.tasks import Task, Tasks
from sshmap.store.writing import copy

#: seconds after which an idle worker looks into the ledger without being woken
IDLE_LOOK = 30.0
#: tasks quicker than this are claimed several at a time
QUICK = 0.05
MOST_CLAIMED = 16
#: bytes in the outbox above which no fan-out is begun
FULL_OUTBOX = 4 << 30
_NEARLY_FULL = 1 << 20
_LAST_SIGNAL = 64


class TaskDirectory(msgspec.Struct, frozen=True, kw_only=True):
    """Where one attempt does its work."""

    #: working directory of the command, empty
    work: Path
    #: takes the command's stdout; a new name each time, as the file becomes the key
    stdout: Path
    #: input list of a merge
    members: Path


class Worker:
    """One worker slot of a daemon.

    Args:
        root: the host's root.
        slot: number of the slot; its lock must be held by this process.
    """

    def __init__(self, root: Root, slot: int) -> None:
        self.root = root
        self.slot = slot
        self.cluster: ClusterFile = root.read_cluster()
        self.ring = Ring(self.cluster.ring)
        self.store = Store(root)
        self.tasks = Tasks(self.store.ledger)
        self.outbox = Outbox(self.store.ledger)
        self.scratch = locks.scratch_dir(root)
        self._work = self.scratch / "work"
        self._work.mkdir()
        self._environment = task_environment(self.cluster.host, str(root.path))
        self._shell = Shell(self.scratch, self._environment)
        self._sleeper = Sleeper(root, f"worker-{slot}")
        self._makers: dict[bytes, Maker] = {}
        self._quick_run = 0
        self._count = self._copies = 0

    def run_forever(self) -> None:
        """Work until the process is ended."""
        self.tasks.requeue([self.slot])
        while True:
            if not self.work_once():
                self._sleeper.wait(IDLE_LOOK)

    def work_once(self) -> bool:
        """Claim some tasks and run them; say whether there were any.

        Several are claimed only of a job whose tasks have been quick, and those not begun
        are given back as soon as one is not.
        """
        fanouts = self.outbox.size() < FULL_OUTBOX
        tasks: list[Task] = []
        if self._quick_run:
            count = max(1, min(MOST_CLAIMED, self.tasks.backlog(2 * MOST_CLAIMED) // 2))
            tasks = self.tasks.claim(self.slot, count, fanouts=fanouts, run=self._quick_run)
        tasks = tasks or self.tasks.claim(self.slot, 1, fanouts=fanouts)
        self._quick_run = tasks[0].run if tasks else 0
        for number, task in enumerate(tasks, start=1):
            began = time.monotonic()
            self._attempt(task)
            if time.monotonic() - began > QUICK:
                self._quick_run = 0
                self._give_back(tasks[number:])
                break
        return bool(tasks)

    def _give_back(self, tasks: list[Task]) -> None:
        if tasks:
            with self.store.ledger.change():
                self.tasks.release([task.id for task in tasks])
            wake(self.root, "worker")

    def _attempt(self, task: Task) -> None:
        """Run one task to its end: committed, or failed with its reason."""
        self._count += 1
        place = TaskDirectory(
            work=self._work, stdout=self.scratch / f"out.{self._count}", members=self.scratch / "members"
        )
        try:
            self._run(task, place)
        except SshmapError as exc:
            self._fail(task, exc)
        except OSError as exc:
            self._fail(task, mapped_error(exc, task.output))
        finally:
            place.stdout.unlink(missing_ok=True)
            self._tidy()
            while self._copies:
                (self.scratch / f"copy.{self._copies}").unlink(missing_ok=True)
                self._copies -= 1

    def _tidy(self) -> None:
        """Have an empty working directory for the next task; one that stayed empty is used again."""
        try:
            with os.scandir(self._work) as entries:
                if next(entries, None) is None:
                    return
        except OSError:
            remove_tree(self._work)
        else:
            remove_tree(self._work)
        self._work.mkdir()

    def _fail(self, task: Task, error: SshmapError) -> None:
        code = error.code if isinstance(error, CommandsFailed) else 0

        def note() -> None:
            with self.store.ledger.change():
                if self.tasks.owns(task):
                    self.tasks.fail(task.id, type(error).__name__, error.message, code)

        self.store.insist(note)

    def _run(self, task: Task, place: TaskDirectory) -> None:
        maker = self._maker(task)
        seals = [(row, self.store.contents.check(row)) for row in self._inputs(task)]
        self._unpack(maker, place.work)
        request = self._request(task, maker, place)
        result = self._shell.run(request)
        if result is None:
            # it died after the task before had ended, so this command was never begun
            self._renew_shell()
            result = self._shell.run(request)
        if result is None:
            raise CommandsFailed("the shell does not stay up")
        if not self._shell.alive:
            self._renew_shell()
        if result.exit_code:
            raise self._failure(result)
        for row, seal_before in seals:
            self.store.contents.recheck(row, seal_before)
        if task.verb is Verb.FANOUT:
            self._commit_files(task, place)
        else:
            self._commit_output(task, place)

    def _renew_shell(self) -> None:
        """Start another shell after a command took it or its supervisor down; what they left came to this process."""
        self._shell.close()
        supervisor.kill_below(os.getpid())
        self._shell = Shell(self.scratch, self._environment)

    def _maker(self, task: Task) -> Maker:
        if task.receipt.maker not in self._makers:
            maker = self.store.keys.maker(task.receipt.maker)
            assert maker is not None, "a job's maker is remembered with the job"
            self._makers = {task.receipt.maker: maker}
        return self._makers[task.receipt.maker]

    def _inputs(self, task: Task) -> list[Row]:
        """Look up the inputs, which have to be what they were when the job was planned.

        Before the command, and in the transaction that commits what it made: it opens them when it likes.
        """
        rows = []
        for name in task.members:
            row = self.store.keys.get(name)
            if row is None:
                raise NothingMatched(f"{show(name)} was deleted after the job was planned")
            rows.append(row)
        if digest_inputs((row.name, row.digest) for row in rows) != task.receipt.inputs:
            raise _changed(task.members[0])
        return rows

    def _unpack(self, maker: Maker, work: Path) -> None:
        for file in maker.shipped:
            source = self.root.shipped / file.digest.hex()
            target = work / file.name
            target.write_bytes(source.read_bytes())
            target.chmod(0o755 if file.executable else 0o644)

    def _request(self, task: Task, maker: Maker, place: TaskDirectory) -> Request:
        first = task.members[0]
        stdin = path = self.store.files.path(first)
        if task.verb is Verb.MERGE:
            stdin = place.members
            stdin.write_text("".join(f"{self.store.files.path(name)}\n" for name in task.members), encoding="utf-8")
        merging = task.verb is Verb.MERGE
        return Request(
            command=maker.command, folder=place.work, stdin=stdin, stdout=place.stdout, job=task.job, attempt=task.attempt,
            key=show(task.output if merging else first), name=base_name(task.output if merging else first),
            file=str(stdin if merging else path), filename="" if merging else base_name(first),
        )  # fmt: skip

    def _failure(self, result: Result) -> SshmapError:
        code = result.exit_code
        lines = result.stderr.decode("utf-8", "replace").strip()
        disk = os.statvfs(self.root.tmp)
        if disk.f_bavail * disk.f_frsize < _NEARLY_FULL:
            return NoSpace(
                f"no space left on the host's disk: {lines[-500:]}",
                hint="free some space, for example with sshmap rm -r",
            )
        how = f"exit {code} (signal {code - 128})" if 128 < code <= 128 + _LAST_SIGNAL else f"exit {code}"
        return CommandsFailed(f"{how}: {lines[-2000:]}" if lines else how, code=code)

    def _commit_output(self, task: Task, place: TaskDirectory) -> None:
        item = self._finished(place.stdout, KeyName(task.output), task)
        self.store.prepare([item])
        with self.store.committing():
            if self.tasks.owns(task):
                self._inputs(task)
                self.store.commit(item)
                self.tasks.finish(task.id, TaskState.DONE, item.size)
                self.store.ledger.bump()

    def _read_ring(self) -> None:
        """Place by the ring the host was told last; it may change while there is no data."""
        cluster = self.root.read_cluster()
        if cluster.fingerprint != self.cluster.fingerprint:
            self.ring = Ring(cluster.ring)
        self.cluster = cluster

    def _finished(self, path: Path, name: KeyName, task: Task) -> Staged:
        """Make a command's output fit to become a key: a plain file of its own, sealed, digested."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise CommandsFailed(
                    f"the command replaced its output {path.name!r} by something that is not a plain file"
                )
            if status.st_nlink > 1:
                return self._finished(self._copied(fd), name, task)
            sealed = seal(fd)
            size, digest = digest_fd(fd)
        finally:
            os.close(fd)
        return Staged(
            path=path,
            name=name,
            size=size,
            digest=digest,
            sealed=sealed,
            receipt=task.receipt,
            members=task.members,
            replace=task.replaces,
        )

    def _copied(self, fd: int) -> Path:
        """Copy a file that has other names too, so that no later write through one of them reaches the key."""
        self._copies += 1
        path = self.scratch / f"copy.{self._copies}"
        copy(fd, path)
        return path

    def _commit_files(self, task: Task, place: TaskDirectory) -> None:
        """Commit a fan-out: what belongs here becomes keys, the rest goes into the outbox."""
        items = [
            self._finished(place.work / name, check_name(task.output + base_name(name)), task)
            for name in printed_names(place.stdout, place.work)
        ]
        self._read_ring()
        here = [item for item in items if self.ring.place(item.name) == self.cluster.host]
        away = [item for item in items if self.ring.place(item.name) != self.cluster.host]
        self.store.prepare(here)
        with self.store.committing():
            if self.tasks.owns(task):
                self._settle_files(task, here, away)
        if away:
            wake(self.root, "courier")

    def _settle_files(self, task: Task, here: list[Staged], away: list[Staged]) -> None:
        """Make files keys or post them, and finish the task; within a transaction."""
        self._inputs(task)
        for item in here:
            self.store.commit(item)
        for item in away:
            self._post(task, item)
        names = [base_name(item.name) for item in (*here, *away)]
        self.outbox.record_fanout(task.output, task.receipt, len(names), names_digest(names))
        size = sum(item.size for item in (*here, *away))
        self.tasks.finish(task.id, TaskState.SENDING if away else TaskState.DONE, size)
        self.store.ledger.bump()

    def _post(self, task: Task, item: Staged) -> None:
        """Put a file into the outbox; within a transaction."""
        peer = self.ring.place(item.name)
        number = self.outbox.post(
            task.id, peer, item.name, item.size, item.digest, task.receipt, replaces=task.replaces
        )
        outgoing = self.root.outbox / str(number)
        outgoing.unlink(missing_ok=True)
        os.link(item.path, outgoing)


def _changed(name: str) -> Refused:
    return Refused(f"{show(name)} was changed after the job was planned", hint="run the command again")


def printed_names(stdout: Path, work: Path) -> list[str]:
    """Read which files a fan-out command wants to keep.

    Raises:
        CommandsFailed: a name leads out of the directory, is missing, not a plain file, or printed twice.
    """
    names: list[str] = []
    seen: set[str] = set()
    for raw in stdout.read_bytes().split(b"\n"):
        if not raw:
            continue
        try:
            name = raw.decode()
        except UnicodeDecodeError as exc:
            raise CommandsFailed(f"the fan-out printed a name that is not UTF-8: {raw!r}") from exc
        problem = _name_problem(name, work) or ("was printed twice" if base_name(name) in seen else "")
        if problem:
            raise CommandsFailed(f"fan-out file {name[:200]!r} {problem}")
        seen.add(base_name(name))
        names.append(name)
    return names


def _name_problem(name: str, work: Path) -> str:
    parts = name.split("/")
    if name.startswith("/"):
        return "is absolute; print names relative to the working directory"
    if ".." in parts or "" in parts:
        return "has a part that is empty or '..'"
    path = work
    for part in parts:
        path = path / part
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            return "does not exist"
        if stat.S_ISLNK(mode):
            return "is or lies behind a link"
    return "" if stat.S_ISREG(mode) else "is not a plain file"
