"""Real sshd, on loopback unless told otherwise: each has a host key, a home and a log of its own.

They end with the test or benchmark.

Logins are those of the user who runs them, with HOME set to a directory of theirs, so nothing below the
real home is read or written. The laptop's side is an ssh_config that names its key and its known_hosts.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import pytest

from sshmap.inventory import Host, Inventory
from tests.conftest import end_processes, processes_below, wait_until

TRANSPORTS = ("fabric", "openssh")
#: how long a command a user types may take here
LIMIT = 60.0
_MISSING = "no sshd on this machine: ssh mode needs the package openssh-server (as root, .ci/components installs it)"
_PORT_TRIES = 5


def sshd_program() -> str:
    """Return the path of sshd, which has to be called by it.

    Raises:
        RuntimeError: there is none; that fails a test, it does not skip it.
    """
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(_MISSING)
    return found


def user_name() -> str:
    """Return who logs in: only root could log in as another."""
    return pwd.getpwuid(os.getuid()).pw_name


def free_port() -> int:
    """Return a port that nothing listened on a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519") -> None:
    """Make a key pair without a passphrase, in place of one that is there."""
    path.unlink(missing_ok=True)
    subprocess.run(
        ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True, stdin=subprocess.DEVNULL
    )


def fingerprint_of(key: Path) -> str:
    """Return a public key's SHA256 fingerprint."""
    done = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], check=True, capture_output=True, text=True)
    return done.stdout.split()[1]


class Place(NamedTuple):
    """Where an sshd listens."""

    address: str = "127.0.0.1"
    #: words before the command line of a program that is to run there
    prefix: tuple[str, ...] = ()


LOOPBACK = Place()


class Sshd:
    """One sshd.

    Args:
        name: what the inventory calls it.
        top: directory that holds all that belongs to it.
        authorized: content of the account's authorized_keys.
        config: lines of sshd_config that count before ours.
        environment: further variables of every session; HOME is set anyway.
        bashrc: content of the account's .bashrc.
        place: where it listens.
    """

    def __init__(
        self,
        name: str,
        top: Path,
        authorized: str,
        *,
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        bashrc: str = "",
        place: Place = LOOPBACK,
    ) -> None:
        self.name, self.top, self.port, self.place = name, top, 0, place
        self.home = top / "home"
        self.root = self.home / ".sshmap"
        self.authorized_keys = self.home / ".ssh" / "authorized_keys"
        self.host_key = top / "hostkey"
        self._config, self._environment = config, {"HOME": str(self.home), **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.authorized_keys.parent.mkdir(mode=0o700, parents=True)
        self.authorized_keys.write_text(authorized, encoding="utf-8")
        self.authorized_keys.chmod(0o600)
        if bashrc:
            (self.home / ".bashrc").write_text(bashrc, encoding="utf-8")
        make_key(self.host_key)
        self.start()

    @property
    def pid(self) -> int:
        """The listening process."""
        assert self._process is not None, f"{self.name} is stopped"
        return self._process.pid

    @property
    def log(self) -> str:
        """What sshd has logged so far."""
        path = self.top / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def known_line(self) -> str:
        """The line of known_hosts that is true of it now."""
        kind, key, *_ = Path(f"{self.host_key}.pub").read_text(encoding="ascii").split()
        return f"{self.known_name} {kind} {key}\n"

    @property
    def known_name(self) -> str:
        """What known_hosts calls it."""
        return f"[{self.place.address}]:{self.port}"

    @property
    def sessions(self) -> list[str]:
        """The sessions it has started, as logged."""
        return [line for line in self.log.splitlines() if "Starting session" in line]

    def start(self) -> None:
        """Start listening: on the former port, or on a free one the first time.

        Raises:
            RuntimeError: it does not; the message holds its log.
        """
        for _ in range(_PORT_TRIES):
            self.port = self.port or free_port()
            if self._listens():
                return
            self.port = 0
        raise RuntimeError(f"sshd does not start:\n{self.log}")

    def _listens(self) -> bool:
        (self.top / "log").unlink(missing_ok=True)
        (self.top / "sshd_config").write_text(self._config_text(), encoding="utf-8")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        # it ends with the tests, also when they are killed
        argv = ["setpriv", "--pdeathsig", "TERM", *self.place.prefix, sshd_program(), "-D"]
        process = subprocess.Popen(
            [*argv, "-f", str(self.top / "sshd_config"), "-E", str(self.top / "log")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        self._process = process
        wait_until(
            lambda: "Server listening" in self.log or process.poll() is not None, what=f"sshd of {self.name} listens"
        )
        return process.poll() is None

    def _config_text(self) -> str:
        variables = " ".join(f'"{name}={value}"' for name, value in self._environment.items())
        ours = [
            f"Port {self.port}", f"ListenAddress {self.place.address}", f"HostKey {self.host_key}", "PidFile none",
            f"AuthorizedKeysFile {self.authorized_keys}", f"SetEnv {variables}", "UsePAM no", "StrictModes no", "UseDNS no",
            "PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin yes", "LogLevel VERBOSE",
        ]  # fmt: skip
        return "\n".join([*self._config, *ours]) + "\n"

    def tree(self) -> list[int]:
        """Return the listening process and all below it: the sessions and what they run."""
        found: list[int] = []
        todo = [self._process.pid] if self._process else []
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    todo += [int(word) for word in (task / "children").read_text(encoding="ascii").split()]
        return found

    def stop(self) -> None:
        """Kill it and its sessions, as a host that goes down; daemons of its root live on."""
        for pid in self.tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process:
            self._process.wait()
            self._process = None

    def renew_host_key(self) -> None:
        """Come back with another host key on the same port."""
        self.stop()
        make_key(self.host_key)
        self.start()


class SshdHosts:
    """Some sshd, and the laptop that logs in to them.

    Args:
        top: an empty directory for all of it.
    """

    def __init__(self, top: Path) -> None:
        sshd_program()
        top.mkdir(parents=True)
        self.top = top
        self.hosts: list[Sshd] = []
        self.identity = top / "id"
        self.known_hosts = top / "known_hosts"
        self.ssh_config = top / "ssh_config"
        make_key(self.identity)
        self.known_hosts.touch()
        lines = [
            f"UserKnownHostsFile {self.known_hosts}", "GlobalKnownHostsFile /dev/null", f"IdentityFile {self.identity}", "IdentitiesOnly yes",
            f"User {user_name()}",
        ]  # fmt: skip
        self.ssh_config.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for host in self.hosts:
            host.stop()
        end_processes(self.top)
        wait_until(lambda: not processes_below(self.top), what=f"processes are left below {self.top}")

    def add(
        self,
        count: int = 1,
        *,
        config: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        bashrc: str = "",
        known: bool = True,
    ) -> list[Sshd]:
        """Start some more, and let the laptop know their keys unless told otherwise."""
        authorized = Path(f"{self.identity}.pub").read_text(encoding="ascii")
        fresh = []
        for number in range(len(self.hosts), len(self.hosts) + count):
            name = f"h{number}"
            host = Sshd(
                name, self.top / name, authorized, config=config, environment=environment, bashrc=bashrc, place=self.place(number),
            )  # fmt: skip
            fresh.append(host)
            self.hosts.append(host)
        if known:
            self.know(*fresh)
        return fresh

    def place(self, number: int) -> Place:
        """Return where a host listens."""
        return LOOPBACK

    def know(self, *hosts: Sshd) -> None:
        """Write down the present keys of hosts in the laptop's known_hosts, in place of former ones."""
        places = tuple(f"{host.known_name} " for host in hosts)
        kept = [
            line
            for line in self.known_hosts.read_text(encoding="utf-8").splitlines(keepends=True)
            if not line.startswith(places)
        ]
        self.known_hosts.write_text("".join([*kept, *(host.known_line for host in hosts)]), encoding="utf-8")

    def host(self, sshd: Sshd, transport: str = "fabric", **fields: object) -> Host:
        """Describe an sshd as the inventory does."""
        known = {
            "name": sshd.name, "address": sshd.place.address, "port": sshd.port, "user": user_name(), "identity_file": str(self.identity),
            "ssh_config": str(self.ssh_config), "root": str(sshd.root), "workers": 1, "transport": transport,
        }  # fmt: skip
        return msgspec.convert({**known, **fields}, Host)

    def inventory(self, transport: str = "fabric", hosts: Sequence[Sshd] | None = None, **fields: object) -> Inventory:
        """Return an inventory of some hosts, all by themselves, with further fields that are the same for each."""
        chosen = self.hosts if hosts is None else hosts
        return Inventory(hosts=tuple(self.host(sshd, transport, **fields) for sshd in chosen), origin="test")

    def write(self, inventory: Inventory) -> Path:
        """Write an inventory as the file a user would have."""
        path = self.top / f"inventory.{len(list(self.top.glob('inventory.*')))}.toml"
        tables = [f'[cluster]\nshuffle = "{inventory.shuffle}"\n']
        for host in inventory.hosts:
            values = {name: value for name, value in msgspec.structs.asdict(host).items() if value not in ("", 0, ())}
            tables.append("[[hosts]]\n" + "".join(f"{name} = {_toml(value)}\n" for name, value in values.items()))
        path.write_text("\n".join(tables), encoding="utf-8")
        return path


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


def tree_state(top: Path) -> dict[str, tuple[int, int, bytes]]:
    """Return mode, time of change (ns) and content of everything below a directory."""
    state = {}
    for path in sorted([top, *top.rglob("*")]):
        seen = path.lstat()
        state[str(path.relative_to(top))] = (
            seen.st_mode,
            seen.st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
    return state


def listeners_of(pids: Sequence[int]) -> list[str]:
    """Return the TCP addresses that processes listen on, as /proc/net/tcp writes them."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(link))
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text(encoding="ascii").splitlines()[1:]]
        found += [f"{table} {row[1]}" for row in rows if row[3] in ("0A", "07") and f"socket:[{row[9]}]" in inodes]
    return found


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Accept connections and never say a word."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(32)
        yield int(sock.getsockname()[1])


@pytest.fixture
def sshd_hosts(tmp_path: Path) -> Iterator[SshdHosts]:
    """No hosts yet: a test adds those it needs."""
    with SshdHosts(tmp_path / "ssh") as hosts:
        yield hosts


@pytest.fixture(scope="module")
def make_sshd_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], SshdHosts]]:
    """Make sets of hosts that several tests of a module share."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(SshdHosts(tmp_path_factory.mktemp("sshd") / "ssh"))
