"""Taking what a command made (its stdout, or the files whose names a fan-out printed) and preparing it to become keys."""

from __future__ import annotations

import os
import stat

import msgspec

from sshmap.agent.daemon.task_directory import TaskDirectory
from sshmap.errors import CommandsFailed
from sshmap.model import KeyName, Verb, base_name, check_name
from sshmap.store.commit import Staged
from sshmap.store.digest import digest_fd
from sshmap.store.keys import Row
from sshmap.store.seal import seal
from sshmap.store.task_ends import Usage
from sshmap.store.tasks import Task
from sshmap.store.writing import copy


class Made(msgspec.Struct, frozen=True):
    """A task whose command has succeeded, and its outputs, which are not keys yet."""

    task: Task
    #: rows of the inputs, as they were before the command
    inputs: tuple[Row, ...]
    files: tuple[Staged, ...]
    #: files to delete in the end, unless they have become keys
    litter: tuple[str, ...] = ()
    #: what the attempt took
    usage: Usage | None = None


def made_by(
    task: Task, inputs: list[Row], stdout: str, work: str, directory: TaskDirectory, usage: Usage | None
) -> Made:
    """Move what a command made out of its working directory, and seal and digest it.

    Args:
        task: the task.
        inputs: rows of its inputs, as they were before the command.
        stdout: the command's stdout.
        work: its working directory.
        directory: where the worker's own files lie.
        usage: what the attempt took.

    Raises:
        CommandsFailed: the output is no plain file, or a printed name is not one of a file in the directory.
        OSError: the disk refuses.
    """
    printed = _printed_files(task, stdout, work, directory) if task.verb is Verb.FANOUT else None
    files = [_finished(stdout, KeyName(task.output), task, directory)] if printed is None else printed
    if usage:
        usage = msgspec.structs.replace(usage, made=sum(file.size for file in files))
    return Made(task, tuple(inputs), tuple(files), tuple(directory.taken()), usage)


def _printed_files(task: Task, stdout: str, work: str, directory: TaskDirectory) -> list[Staged]:
    files: list[Staged] = []
    for printed in printed_names(stdout, work):
        name = check_name(task.output + base_name(printed))
        path = directory.own("file")
        os.rename(f"{work}/{printed}", path)
        files.append(_finished(path, name, task, directory))
    return files


def _finished(path: str, name: KeyName, task: Task, directory: TaskDirectory) -> Staged:
    """Seal and digest a command's output, so that it can become a key; a file with other names is copied first."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise CommandsFailed("the command replaced its output by something that is not a plain file")
        if status.st_nlink > 1:
            # a later write through one of the file's other names must not change the key
            fresh = directory.own("copy")
            copy(fd, fresh)
            return _finished(fresh, name, task, directory)
        sealed = seal(fd)
        size, digest = digest_fd(fd, status.st_size)
    finally:
        os.close(fd)
    return Staged(
        path=path, name=name, size=size, digest=digest, sealed=sealed, receipt=task.receipt, members=task.members,
        replace=task.replaces,
    )  # fmt: skip


def printed_names(stdout: str, work: str) -> list[str]:
    """Return the names of files that a fan-out command has printed.

    Raises:
        CommandsFailed: a name leads out of the directory, is missing, not a plain file, or printed twice.
    """
    names: list[str] = []
    seen: set[str] = set()
    for raw in _content(stdout).split(b"\n"):
        if not raw:
            continue
        try:
            name = raw.decode()
        except UnicodeDecodeError as exc:
            raise CommandsFailed(f"the fan-out printed a name that is not UTF-8: {raw!r}") from exc
        if name.startswith("/"):
            name = _relative(name, work)
        problem = _name_problem(name, work) or ("was printed twice" if base_name(name) in seen else "")
        if problem:
            raise CommandsFailed(f"fan-out file {name[:200]!r} {problem}")
        seen.add(base_name(name))
        names.append(name)
    return names


def _relative(name: str, work: str) -> str:
    """Shorten an absolute name that lies in the working directory, as `echo $PWD/x` prints it."""
    for start in (work, os.path.realpath(work)):
        name = name.removeprefix(f"{start}/")
    return name


def _content(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _name_problem(name: str, work: str) -> str:
    parts = name.split("/")
    if name.startswith("/"):
        return "is absolute and does not lie in the working directory"
    if ".." in parts or "" in parts:
        return "has a part that is empty or '..'"
    path = work
    for part in parts:
        path = f"{path}/{part}"
        try:
            mode = os.lstat(path).st_mode
        except (OSError, ValueError):
            return "does not exist"
        if stat.S_ISLNK(mode):
            return "is or lies behind a link"
    return "" if stat.S_ISREG(mode) else "is not a plain file"
