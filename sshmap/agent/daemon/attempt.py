"""One attempt at a task: its inputs are checked, its command is run, its outputs are taken."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from sshmap.agent.daemon.outputs import Made, made_by
from sshmap.agent.daemon.shipped import ShippedFiles
from sshmap.agent.daemon.task_directory import TaskDirectory, discard
from sshmap.agent.execution.executor import Executor, Request, Result
from sshmap.errors import CommandsFailed, NoSpace, NothingMatched, Refused, SshmapError
from sshmap.model import Maker, Verb, base_name, show
from sshmap.store.commit import Store
from sshmap.store.keys import Row
from sshmap.store.layout import BALLAST
from sshmap.store.receipts import digest_inputs
from sshmap.store.tasks import Task

#: bytes; more than the ballast, so that what is given up for the ledger is not taken by the next command
_NEARLY_FULL = 2 * BALLAST
_LAST_SIGNAL = 64


class Attempts:
    """Makes a worker's attempts, one at a time.

    Args:
        store: the host's keys.
        executor: runs the commands.
        directory: where they work.
    """

    def __init__(self, store: Store, executor: Executor, directory: TaskDirectory) -> None:
        self._store, self._executor, self._directory = store, executor, directory
        self._shipped = ShippedFiles(store.root, directory)
        self._makers: dict[bytes, Maker] = {}

    def make(self, task: Task, meanwhile: Callable[[], None]) -> Made:
        """Run a task's command.

        Args:
            task: a claimed task.
            meanwhile: what the executor does while a command takes longer.

        Raises:
            SshmapError: the command failed, an input is not what it was, the disk is full.
            OSError: the disk refuses.
        """
        self._check_space("")
        try:
            return self._made(task, meanwhile)
        except BaseException:
            # at once, as the disk may be full
            discard(self._directory.taken())
            self._directory.empty()
            raise

    def _made(self, task: Task, meanwhile: Callable[[], None]) -> Made:
        maker = self._maker(task)
        seals = [(row, self._store.contents.check(row)) for row in inputs_of(self._store, task)]
        work = self._directory.ready()
        self._shipped.place(maker.shipped, work)
        request = self._request(task, maker, work)
        result = self._executor.run(request, meanwhile)
        changed = self._shipped.changed()
        if result.exit_code:
            raise self._failure(result)
        # outputs that took the ledger's room are given up: what is committed never leaves less
        self._check_space("")
        if changed:
            raise CommandsFailed(f"the command changed its shipped file {changed!r}; write to a copy of it")
        for row, seal_before in seals:
            self._store.contents.recheck(row, seal_before)
        return made_by(task, request.stdout, work, self._directory)

    def _maker(self, task: Task) -> Maker:
        if task.receipt.maker not in self._makers:
            maker = self._store.keys.maker(task.receipt.maker)
            assert maker is not None, "a job's maker is remembered with the job"
            self._shipped.forget()
            self._makers = {task.receipt.maker: maker}
        return self._makers[task.receipt.maker]

    def _request(self, task: Task, maker: Maker, work: Path) -> Request:
        stdout = self._directory.own("out")
        _write(stdout, b"")
        if task.verb is Verb.MERGE:
            stdin, about = self._directory.own("members"), task.output
            paths = [f"{self._store.files.path(name)}\n" for name in task.members]
            _write(stdin, "".join(paths).encode())
        else:
            stdin, about = self._store.files.path(task.members[0]), task.members[0]
        variables = {
            "SSHMAP_KEY": show(about), "SSHMAP_NAME": base_name(about), "SSHMAP_FILE": str(stdin),
            "SSHMAP_JOB": task.job, "SSHMAP_ATTEMPT": str(task.attempt),
        }  # fmt: skip
        if task.verb is not Verb.MERGE:
            variables["filename"] = base_name(about)
        return Request(command=maker.command, folder=work, stdin=stdin, stdout=stdout, variables=variables)

    def _check_space(self, said: str) -> None:
        """Refuse to begin, to keep outputs, or to blame a command, where the disk is so full that the ledger's room is at stake.

        Raises:
            NoSpace: it is.
        """
        disk = os.statvfs(self._store.root.path)
        full = disk.f_bavail * disk.f_frsize < _NEARLY_FULL or (disk.f_files and not disk.f_favail)
        # what filled it may be gone by now
        if full or os.strerror(errno.ENOSPC) in said:
            raise NoSpace(
                f"no space left on the host's disk{': ' * bool(said)}{said[-500:]}",
                hint="free some space, for example with sshmap rm -r",
            )

    def _failure(self, result: Result) -> SshmapError:
        """Say why a command failed; on a full disk that is the reason, whatever the command says."""
        lines = result.stderr.decode("utf-8", "replace").strip()
        self._check_space(lines)
        code = result.exit_code
        how = f"exit {code} (signal {code - 128})" if 128 < code <= 128 + _LAST_SIGNAL else f"exit {code}"
        return CommandsFailed(f"{how}: {lines[-2000:]}" if lines else how, code=code)


def inputs_of(store: Store, task: Task) -> list[Row]:
    """Look up a task's inputs, which have to be what they were when the job was planned.

    Before the command, and in the transaction that commits what it made: it opens them when it likes.

    Raises:
        NothingMatched: one was deleted.
        Refused: one was changed.
    """
    rows = []
    for name in task.members:
        row = store.keys.get(name)
        if row is None:
            raise NothingMatched(f"{show(name)} was deleted after the job was planned")
        rows.append(row)
    if digest_inputs((row.name, row.digest) for row in rows) != task.receipt.inputs:
        raise _changed(task.members[0])
    return rows


def _changed(name: str) -> Refused:
    return Refused(f"{show(name)} was changed after the job was planned", hint="run the command again")


def _write(path: Path, content: bytes) -> None:
    """Write a new file, in no place that a command might have prepared."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        while content:
            content = content[os.write(fd, content) :]
    finally:
        os.close(fd)
