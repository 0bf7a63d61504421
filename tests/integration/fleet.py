"""A fleet of local hosts as the tests handle it: its inventory, its processes by role, its command line."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

from sshmap.agent.execution import processes
from sshmap.agent.host import lifecycle
from sshmap.inventory import Host, Inventory
from sshmap.store.layout import Root
from tests.conftest import wait_until

PACKAGE = Path(__file__).parents[2]


def local_inventory(path: Path, *, hosts: int = 3, workers: int = 1, idle_stop: float = 120.0) -> Inventory:
    """Return an inventory of local hosts with roots below a directory."""
    return Inventory(
        hosts=tuple(
            Host(
                name=f"h{number}", connect="local", root=str(path / f"h{number}"), workers=workers, idle_stop=idle_stop
            )
            for number in range(hosts)
        ),
        origin="test",
    )


def root_of(inventory: Inventory, name: str) -> Root:
    """Return the root of a host."""
    return Root(next(host.root for host in inventory.hosts if host.name == name))


def write_inventory(inventory: Inventory, path: Path) -> Path:
    """Write an inventory of local hosts as the file a user would have."""
    rows = [
        f'[[hosts]]\nname = "{host.name}"\nconnect = "local"\nroot = "{host.root}"\nworkers = {host.workers}\nidle_stop = {host.idle_stop}\n'
        for host in inventory.hosts
    ]
    path.write_text("\n".join(rows), encoding="utf-8")
    return path


def start_sshmap(inventory: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sshmap", "-i", str(inventory), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def sshmap(inventory: Path, *arguments: str, limit: float = 60.0) -> tuple[int, bytes, bytes]:
    """Run the command line and return exit code, stdout and stderr."""
    with start_sshmap(inventory, *arguments) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return process.returncode, out, err


def arguments_of(pid: int) -> str:
    """Return the command line of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


#: what the command line of a process of the daemon holds, by its role
_MARKS = {
    "worker": "sshmap worker",
    "courier": "sshmap courier",
    "listener": "sshmap listener",
    "supervisor": "supervisor.py",
}


def daemon_of(root: Root) -> int:
    """Return the manager of a root's daemon, 0 if none lives."""
    return lifecycle.pid_of(root)


def process_of(root: Root, role: str) -> int:
    """Return the process of a role below a root's daemon, 0 if there is none now."""
    manager = daemon_of(root)
    if role == "daemon" or not manager:
        return manager
    return next((pid for pid in tree_of(root) if _MARKS[role] in arguments_of(pid)), 0)


def await_process(root: Root, role: str) -> int:
    """Return the process of a role, which the daemon may be about to start."""
    wait_until(lambda: process_of(root, role), what=f"{root.path} has no {role}")
    return process_of(root, role)


def tree_of(root: Root) -> list[int]:
    """Return the daemon of a root and all processes below it."""
    found: list[int] = []
    todo = [daemon_of(root)]
    while todo:
        pid = todo.pop()
        if pid:
            found.append(pid)
            todo += children_of(pid)
    return found


def children_of(pid: int) -> list[int]:
    """Return the children of a process, whichever of its threads made them; none if it is gone."""
    return processes.children(pid)


def worker_of(pid: int) -> int:
    """Return the worker that a process of a command descends from, 0 if it has none any more."""
    while pid > 1 and _MARKS["worker"] not in arguments_of(pid):
        pid = _parent_of(pid)
    return pid if pid > 1 else 0


def _parent_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; a process that is gone already is fine."""
    assert pid > 1, "no process to be killed"
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that waits to be reaped does not."""
    return _state_of(Path(f"/proc/{pid}")) not in ("", "Z", "X")


def _state_of(process: Path) -> str:
    """Return the letter that the kernel has for the state of a process or thread, nothing if it is gone."""
    try:
        return (process / "stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""


def freeze(pid: int) -> None:
    """Stop a process, and wait until none of its threads runs on; a process that is gone already is fine."""

    def stands_still() -> bool:
        try:
            return all(_state_of(thread) in ("T", "Z", "X", "") for thread in Path(f"/proc/{pid}/task").iterdir())
        except OSError:
            return True

    kill(pid, signal.SIGSTOP)
    wait_until(stands_still, what=f"process {pid} does not stop")


def processes_at(path: Path) -> dict[int, str]:
    """Return processes that have a file or working directory open below a path, or have it as an argument; by id."""
    mark = str(path)
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            arguments = arguments_of(int(entry.name))
            if mark in arguments or any(target.startswith(mark) for target in _open_paths(entry)):
                found[int(entry.name)] = arguments[:200]
    return found


def _open_paths(process: Path) -> list[str]:
    paths: list[str] = []
    with contextlib.suppress(OSError):
        paths.extend(str(link.readlink()) for link in [process / "cwd", *(process / "fd").iterdir()])
    return paths


def processes_marked(mark: str) -> dict[int, str]:
    """Return living processes that have some text in their arguments, by id."""
    found = {
        int(entry.name): arguments_of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()
    }
    return {
        pid: arguments for pid, arguments in found.items() if mark in arguments and pid != os.getpid() and is_alive(pid)
    }


def commands_of(root: Root) -> dict[int, str]:
    """Return the living processes of a host's commands, by id: all with its SSHMAP_ROOT but supervisors and the shell of each."""
    mark = os.fsencode(f"SSHMAP_ROOT={root.path}")
    ours = [pid for pid in processes.processes() if is_alive(pid) and mark in _environment_of(pid)]
    supervisors = [pid for pid in ours if _MARKS["supervisor"] in arguments_of(pid)]
    # a supervisor may have an interpreter for functions before it has its shell
    shells = [
        [pid for pid in children_of(parent) if "_sshmap_number" in arguments_of(pid)][:1] for parent in supervisors
    ]
    spared = {*supervisors, *itertools.chain(*shells)}
    return {pid: arguments_of(pid) for pid in ours if pid not in spared}


def _environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def end_all_at(path: Path) -> None:
    """Kill whatever a test left running below a path, and wait until it is gone."""

    def gone() -> bool:
        left = processes_at(path)
        for pid in left:
            kill(pid)
        return not left

    wait_until(gone, what=f"processes are left at {path}")


def litter_in(root: Root) -> list[str]:
    """Return what lies in tmp/ and belongs to no living process."""
    litter = []
    for entry in sorted(root.tmp.iterdir()) if root.tmp.exists() else ():
        if entry.name == "outbox":
            litter += [f"outbox/{file.name}" for file in entry.iterdir()]
        elif not is_alive(int(entry.name.partition(".")[0])):
            litter.append(entry.name)
    return litter


def snapshot(top: Path) -> dict[str, tuple[int, bytes]]:
    """Return mode and content (or target) of everything below a directory."""
    state = {}
    for path in sorted(top.rglob("*")):
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        state[str(path.relative_to(top))] = (path.lstat().st_mode, content)
    return state
