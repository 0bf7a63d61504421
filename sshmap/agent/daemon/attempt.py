"""One attempt at a task: check its inputs, have its command run, take its outputs."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable

from sshmap.agent.daemon.outputs import Made, made_by
from sshmap.agent.daemon.reasons import reason
from sshmap.agent.daemon.shipped import ShippedFiles
from sshmap.agent.daemon.task_directory import TaskDirectory, discard
from sshmap.agent.daemon.watch import Watch
from sshmap.agent.execution.executor import Call, Executor, Request, Result
from sshmap.errors import CommandsFailed, NoSpace, NothingMatched, Refused, SshmapError, TimeLimit
from sshmap.model import Maker, Verb, base_name, show
from sshmap.store.commit import Store
from sshmap.store.kept_failures import KeptFailures
from sshmap.store.keys import Row
from sshmap.store.layout import BALLAST
from sshmap.store.packages import digest_packages, packages_path
from sshmap.store.receipts import digest_inputs
from sshmap.store.task_ends import Usage
from sshmap.store.tasks import Task

#: bytes of free space below which nothing is begun: more than the ballast, whose space the ledger gets, not a command
_NEARLY_FULL = 2 * BALLAST
#: with so many bytes of free space, the disk is not looked at again for so many seconds
_ROOM, _ROOM_LOOK = 4 << 30, 0.1


class Attempts:
    """Makes a worker's attempts, one at a time.

    Args:
        store: the host's keys.
        executor: runs the commands.
        directory: where commands work.
    """

    def __init__(self, store: Store, executor: Executor, directory: TaskDirectory) -> None:
        self._store, self._executor, self._directory = store, executor, directory
        self._shipped = ShippedFiles(store.root, directory)
        self._makers: dict[bytes, Maker] = {}
        self._rows: dict[str, Row] = {}
        #: time until which the disk need not be looked at
        self._roomy = 0.0
        self._watch, self._failures = Watch(store), KeptFailures(store)
        #: what the present attempt took, once its command has ended
        self.usage: Usage | None = None

    def look_up(self, tasks: list[Task]) -> None:
        """Read the rows of the inputs of tasks that are about to be run, all at once; those of a merge are read when it is run."""
        self._rows = self._store.keys.rows([task.members[0] for task in tasks if len(task.members) == 1])

    def make(self, task: Task, meanwhile: Callable[[], None]) -> Made:
        """Run a task's command.

        Args:
            task: a claimed task.
            meanwhile: called by the executor once if the command takes long.

        Raises:
            Cancelled: the run is ending, and the command was ended with it.
            SshmapError: the command failed or took too long, an input is not what it was, the disk is full.
            OSError: the disk refuses.
        """
        self.usage = None
        self._check_space("")
        try:
            return self._made(task, meanwhile)
        except BaseException as exc:
            # now, as the disk may be full
            discard(self._directory.taken())
            if isinstance(exc, CommandsFailed | TimeLimit):
                self._directory.give_away(lambda work: self._failures.keep(work, task, reserve=_NEARLY_FULL))
            self._directory.empty()
            raise

    def _made(self, task: Task, meanwhile: Callable[[], None]) -> Made:
        maker = self._maker(task)
        inputs = self._inputs(task)
        seals = [self._store.contents.check(row) for row in inputs]
        work = self._directory.ready()
        call = self._call(task, maker)
        self._shipped.place((file for file in maker.shipped if not call or file.name != call.file), work)
        request = self._request(task, maker, call, work)
        result = self._run(task, request, meanwhile, sum(row.size for row in inputs))
        changed = self._shipped.changed()
        self._watch.check(result.exit_code)
        if result.exit_code:
            raise self._failure(result, maker.command)
        # outputs that fill the disk are dropped, not committed, so that the ledger keeps its room
        self._check_space("")
        if changed:
            raise CommandsFailed(f"the command changed its shipped file {changed!r}; write to a copy of it")
        for row, seal_before in zip(inputs, seals, strict=True):
            self._store.contents.recheck(row, seal_before)
        return made_by(task, inputs, request.stdout, work, self._directory, self.usage)

    def _run(self, task: Task, request: Request, meanwhile: Callable[[], None], received: int) -> Result:
        """Have a command run, and note what it took."""
        self._watch.begin(task, meanwhile)
        began, clock = time.time(), time.monotonic()
        result = self._executor.run(request, self._watch.look)
        self.usage = Usage(
            began=began, ran=time.monotonic() - clock, user=result.user, system=result.system, peak=result.peak,
            received=received, stderr=result.stderr,
        )  # fmt: skip
        return result

    def _inputs(self, task: Task) -> list[Row]:
        """Return the rows of a task's inputs, which have to be what they were when the job was planned.

        Raises:
            NothingMatched: one was deleted.
            Refused: one was changed.
        """
        rows = self._rows if len(task.members) == 1 else self._store.keys.rows(task.members)
        for name in task.members:
            if name not in rows:
                raise _deleted(name)
        inputs = [rows[name] for name in task.members]
        if digest_inputs((row.name, row.digest) for row in inputs) != task.receipt.inputs:
            raise _changed(task.members[0])
        return inputs

    def _maker(self, task: Task) -> Maker:
        if task.receipt.maker not in self._makers:
            maker = self._store.keys.maker(task.receipt.maker)
            assert maker is not None, "a job's maker is remembered with the job"
            self._shipped.forget()
            self._makers = {task.receipt.maker: maker}
        return self._makers[task.receipt.maker]

    def _call(self, task: Task, maker: Maker) -> Call | None:
        """Return the function that is to be called; None if a command is to be run."""
        if not maker.function:
            return None
        file, _, name = maker.function.partition(":")
        path = next(self._shipped.own(shipped) for shipped in maker.shipped if shipped.name == file)
        return Call(
            path=path, file=file, name=name, verb=task.verb.value, packages=self._packages(maker),
            identity=task.receipt.maker.hex(),
        )  # fmt: skip

    def _packages(self, maker: Maker) -> str:
        """Return the directory of a maker's packages; nothing if there is none, as the interpreter has them itself."""
        path = packages_path(self._store.root, digest_packages(maker.packages)) if maker.packages else None
        return str(path) if path and path.is_dir() else ""

    def _request(self, task: Task, maker: Maker, call: Call | None, work: str) -> Request:
        # neither the names that a fan-out prints nor the list of a merge's inputs become keys, so their files are used again
        stdout = self._directory.reused("names") if task.verb is Verb.FANOUT else self._directory.fresh("out")
        if task.verb is Verb.MERGE:
            paths = [f"{self._store.files.path(name)}\n" for name in task.members]
            stdin, about = self._directory.reused("members", "".join(paths).encode()), task.output
        else:
            stdin, about = self._store.files.path(task.members[0]), task.members[0]
        variables = {
            "SSHMAP_KEY": show(about), "SSHMAP_NAME": base_name(about), "SSHMAP_FILE": stdin,
            "SSHMAP_JOB": task.job, "SSHMAP_ATTEMPT": str(task.attempt),
        }  # fmt: skip
        if task.verb is not Verb.MERGE:
            variables["filename"] = base_name(about)
        return Request(
            command=maker.command, call=call, folder=work, stdin=stdin, stdout=stdout, variables=variables,
            nice=task.limits.nice,
        )  # fmt: skip

    def _check_space(self, said: str) -> None:
        """Check that the disk has room, before a command, before its outputs are kept, and before a command is blamed for failing.

        Raises:
            NoSpace: it has so little that the ledger could run out of it, or the command said that it had none.
        """
        now = time.monotonic()
        if now < self._roomy and not said:
            return
        disk = os.statvfs(self._store.root.path)
        free = disk.f_bavail * disk.f_frsize
        self._roomy = now + _ROOM_LOOK if free > _ROOM else 0.0
        full = free < _NEARLY_FULL or (disk.f_files and not disk.f_favail)
        # the command may have deleted what filled the disk, but has said that it was full
        if full or os.strerror(errno.ENOSPC) in said:
            raise NoSpace(
                f"no space left on the host's disk{': ' * bool(said)}{said[-500:]}",
                hint="free some space, for example with sshmap rm -r",
            )

    def _failure(self, result: Result, command: str) -> SshmapError:
        """Return why a command failed; on a full disk that is the reason, whatever the command says."""
        self._check_space(result.stderr.decode("utf-8", "replace").strip())
        return CommandsFailed(reason(result, command), code=result.exit_code)


def hold_inputs(store: Store, made: Iterable[Made]) -> None:
    """Check, in the transaction that commits what commands made, that their inputs are the ones they were begun with.

    Checked then, as a command may open its inputs at any time while it runs.

    Raises:
        NothingMatched: one was deleted.
        Refused: one was changed.
    """
    before = [row for item in made for row in item.inputs]
    present = store.keys.rows([row.name for row in before])
    for row in before:
        if row.name not in present:
            raise _deleted(row.name)
        if present[row.name].digest != row.digest:
            raise _changed(row.name)


def _deleted(name: str) -> NothingMatched:
    return NothingMatched(f"{show(name)} was deleted after the job was planned")


def _changed(name: str) -> Refused:
    return Refused(f"{show(name)} was changed after the job was planned", hint="run the command again")
