"""The interpreter that runs Python functions, one task after the other: imported once, called many times.

Runs as a script, with what the host's Python has; the directory of the present task comes first where modules are looked for.
It reads the token of a request from fd 3 and the request from fd 6, and answers on fd 4: the token, the exit code, microseconds
of CPU time in user mode and in the system, KiB of memory at most, and whether it is worn out and wants to be replaced: after many
tasks, when it has grown, or when a task has left a thread running, which could write to the next one's output.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import linecache
import os
import re
import resource
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable

if __name__ == "__main__":
    # this is sshmap/agent/execution/runner.py; first, so that no other package of that name is taken for it
    sys.path[0] = os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))

from sshmap.functions import Input, Inputs, Output, Outputs

if __name__ == "__main__":
    # from now on the host's own packages come first, and before them the directory of the present task
    sys.path.append(sys.path[0])
    sys.path[0] = ""

RING, REPLY, REQUEST = 3, 4, 6
#: tasks, and bytes of memory more than after the first one, after which an interpreter is replaced
MOST_TASKS, MOST_GROWTH = 10_000, 512 << 20
_FIGURE = re.compile(rb"Vm(HWM|RSS):\s*(\d+) kB")
#: writes out what programs of C have in their buffers
_FLUSH_ALL = ctypes.CDLL(None).fflush
_PER_KIB = 1024 if sys.platform == "darwin" else 1


class Runner:
    """Runs the functions of one file."""

    def __init__(self) -> None:
        self._environment = dict(os.environb)
        self._memory = _Memory()
        self._module: types.ModuleType | None = None
        self._tasks, self._size, self._children = 0, 0, 0
        self._pid, self._umask = os.getpid(), os.umask(0o022)
        os.umask(self._umask)
        self._out: io.BufferedWriter | None = None
        os.register_at_fork(before=self._flush)
        # what a task does to the standard streams must not reach the next one
        self._stderr, self._null = os.dup(2), os.open(os.devnull, os.O_RDWR)

    def serve(self) -> None:
        """Answer requests until there are no more."""
        with os.fdopen(os.dup(RING), "rb") as ring:
            while line := ring.readline():
                content = os.pread(REQUEST, os.fstat(REQUEST).st_size, 0)
                fields = content[:-1].split(b"\0")
                if not fields[0] == fields[-1] == line.strip():
                    return
                os.write(REPLY, b"%s %s\n" % (fields[0], self._answer(fields)))

    def _answer(self, fields: list[bytes]) -> bytes:
        before = _used()
        code = self._run(*fields[1:4], call=fields[4:9], variables=fields[9:-1])
        after = _used()
        self._tasks += 1
        size, peak = self._memory.look()
        self._size = self._size or size
        worn = self._tasks >= MOST_TASKS or size - self._size > MOST_GROWTH or threading.active_count() > 1
        return b"%d %d %d %d %d" % (
            code,
            after[0] - before[0],
            after[1] - before[1],
            max(peak, self._largest_child()),
            worn,
        )

    def _largest_child(self) -> int:
        """Return the KiB of memory of the largest process that this task has started and waited for; 0 if earlier ones had more."""
        before, self._children = self._children, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // _PER_KIB
        return self._children if self._children > before else 0

    def _run(self, folder: bytes, stdin: bytes, stdout: bytes, *, call: list[bytes], variables: list[bytes]) -> int:
        """Run one task; return its exit code, after its traceback was printed if it failed."""
        self._memory.forget_peak()
        self._set_environment(variables)
        os.chdir(folder)
        sys.path[0] = os.fsdecode(folder)
        _redirect(stdin, os.O_RDONLY, 0)
        _redirect(stdout, os.O_WRONLY, 1)
        os.dup2(self._stderr, 2)
        out: io.BufferedWriter = io.BufferedWriter(io.FileIO(1, "w", closefd=False), 1 << 16)
        streams: dict[str, io.TextIOWrapper] = {
            "stdin": io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8", "surrogateescape"),
            "stdout": io.TextIOWrapper(out, "utf-8", "surrogateescape", write_through=True),
            "stderr": io.TextIOWrapper(
                io.FileIO(2, "w", closefd=False), "utf-8", "backslashreplace", write_through=True
            ),
        }
        for name, stream in streams.items():
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        code = self._code(call, out)
        if os.getpid() != self._pid:
            # a child that the task has forked: it answers for nobody
            os._exit(code)
        self._clean_up(out)
        return code

    def _code(self, call: list[bytes], out: io.BufferedWriter) -> int:
        """Call the function, and return the exit code of the task; 0 only if all of its output is written."""
        path, file, name, verb, packages = call
        self._out = out
        try:
            try:
                self._call(self._function(*map(os.fsdecode, (path, file, name, packages))), verb, out)
            except SystemExit as exc:
                if code := _code_of(exc):
                    return code
            out.flush()
        except BaseException as exc:  # noqa: BLE001  # whatever it is, it is the task's
            _say(exc)
            return 1
        return 0

    def _flush(self) -> None:
        """Write out what a task has written so far, so that a child that it forks does not write it again."""
        if self._out and not self._out.closed:
            self._out.flush()

    def _clean_up(self, out: io.BufferedWriter) -> None:
        """Take back what a task may have left that would reach the next one."""
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number in (signal.SIGALRM, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.umask(self._umask)
        # what is left in buffers would be written later, into what is the next task's output then
        _FLUSH_ALL(None)
        for fd in (0, 1):
            os.dup2(self._null, fd)
        with contextlib.suppress(OSError, ValueError):
            out.close()

    def _set_environment(self, variables: list[bytes]) -> None:
        """Give a task the environment that every one gets, with its own variables, whatever the one before did to it."""
        wanted = self._environment | dict(variable.split(b"=", 1) for variable in variables)
        # as it lies there: a copy by way of its interface takes a quarter of the time of a small task
        present: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
        for name in present.keys() - wanted.keys():
            del os.environb[name]
        for name, value in wanted.items():
            if present.get(name) != value:
                os.environb[name] = value

    def _function(self, path: str, file: str, name: str, packages: str) -> Callable[..., object]:
        if self._module is None:
            # the same for all tasks of this process
            if packages:
                sys.path.insert(_place_of_packages(), packages)
            with open(path, encoding="utf-8") as opened:
                source = opened.read()
            module = types.ModuleType(file.removesuffix(".py"))
            module.__file__ = file
            linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file
            sys.modules[module.__name__] = module
            exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102  # it is what this process is for
            self._module = module
        function: Callable[..., object] = getattr(self._module, name)
        return function

    @staticmethod
    def _call(function: Callable[..., object], verb: bytes, out: io.BufferedWriter) -> None:
        key = os.environ["SSHMAP_KEY"]
        if verb == b"merge":
            paths = sys.stdin.read().split("\n")[:-1]
            function(Inputs([Input(path, key) for path in paths], key), Output(out))
            return
        source = Input(os.environ["SSHMAP_FILE"], key)
        if verb == b"map":
            function(source, Output(out))
            return
        outputs = Outputs(os.getcwd())
        try:
            function(source, outputs)
        finally:
            outputs.close()
        out.write("".join(f"{name}\n" for name in outputs.names).encode(errors="surrogateescape"))


def _redirect(path: bytes, flags: int, to: int) -> None:
    fd = os.open(path, flags)
    if fd == to:
        # the task before had closed it
        os.set_inheritable(fd, True)  # noqa: FBT003  # takes no name
    else:
        os.dup2(fd, to)
        os.close(fd)


def _code_of(exc: SystemExit) -> int:
    if exc.code is None or isinstance(exc.code, int):
        return (exc.code or 0) & 0xFF
    sys.stderr.write(f"{exc.code}\n")
    return 1


def _say(exc: BaseException) -> None:
    """Print a traceback, from where the file's own code begins."""
    trace = exc.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    traceback.print_exception(type(exc), exc, trace, file=sys.stderr)


def _place_of_packages() -> int:
    """Return where packages stand on the path: before what was installed for the host's Python, behind its own modules."""
    installed = (number for number, path in enumerate(sys.path) if path.endswith(("site-packages", "dist-packages")))
    return next(installed, len(sys.path) - 1)


def _used() -> tuple[int, int]:
    """Return the microseconds of CPU time of this process and of those that it has waited for."""
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((mine.ru_utime + theirs.ru_utime) * 1e6), int((mine.ru_stime + theirs.ru_stime) * 1e6)


class _Memory:
    """The memory of this process, as the kernel counts it (proc(5)); where it does not show it, what it had at most ever."""

    def __init__(self) -> None:
        self._status = _opened("/proc/self/status", os.O_RDONLY)

    @staticmethod
    def forget_peak() -> None:
        """Have the most memory of this process counted from now on."""
        # opened each time: a task may have closed it, and have another file by its number
        if (fd := _opened("/proc/self/clear_refs", os.O_WRONLY)) >= 0:
            with contextlib.suppress(OSError):
                os.write(fd, b"5")
            os.close(fd)

    def look(self) -> tuple[int, int]:
        """Return the bytes that this process has now, and the KiB that it had at most since `forget_peak`."""
        try:
            found = dict(_FIGURE.findall(os.pread(self._status, 4096, 0)))
            return int(found[b"RSS"]) << 10, int(found[b"HWM"])
        except (OSError, KeyError):
            return 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _PER_KIB


def _opened(path: str, flags: int) -> int:
    """Open a file that the system may not have; -1 if so."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return -1


if __name__ == "__main__":
    Runner().serve()
