"""A real PostgreSQL server on a free loopback port, which lasts as long as the tests of one process.

It refuses to run as root: it is nobody's then.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from tests.conftest import wait_until
from tests.sshd import free_port

USER, PASSWORD = "ana", "se%cr@t/wo:rd?#"
#: where Debian has its programs, each version in a directory of its own
_PROGRAMS = Path("/usr/lib/postgresql")
_MISSING = "no PostgreSQL server on this machine: it is the package postgresql (as root, .ci/components installs it)"
_PORT_TRIES = 5
#: what only makes a server last
_HASTY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=16MB", "autovacuum=off")


def program(name: str) -> str:
    """Return the path of a program of the server.

    Raises:
        RuntimeError: there is none; that fails a test, it does not skip it.
    """
    places = sorted(_PROGRAMS.glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    found = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ.get("PATH", "")]))
    if found is None:
        raise RuntimeError(_MISSING)
    return found


class Server:
    """A server.

    Args:
        top: an empty directory, which becomes its user's.
    """

    def __init__(self, top: Path) -> None:
        self._top, self.port = top, 0
        self._numbers = itertools.count()
        #: what it and its programs are started with
        self._prefix: list[str] = []
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(top, nobody.pw_uid, nobody.pw_gid)
            self._prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
        (top / "password").write_text(PASSWORD, encoding="ascii")
        (top / "password").chmod(0o644)
        subprocess.run(
            [*self._prefix, program("initdb"), "--no-sync", "--encoding=UTF8", "--locale=C", f"--username={USER}", "--auth-host=scram-sha-256",
             "--auth-local=reject", f"--pwfile={top / 'password'}", str(top / "data")],
            cwd=top, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        """Start it on a free port.

        Raises:
            RuntimeError: it does not start; the message holds its log.
        """
        for _ in range(_PORT_TRIES):
            self.port = free_port()
            process = self._listening()
            if process.poll() is None:
                return process
        raise RuntimeError(f"PostgreSQL does not start:\n{(self._top / 'log').read_text(errors='replace')}")

    def _listening(self) -> subprocess.Popen[bytes]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", *_HASTY]
        # it ends with the tests, also when they are killed
        argv = ["setpriv", "--pdeathsig", "INT", *self._prefix[1:], program("postgres"), "-D", str(self._top / "data")]
        with (self._top / "log").open("wb") as log:
            process = subprocess.Popen(
                [*argv, *(word for option in options for word in ("-c", option))],
                cwd=self._top, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until(lambda: process.poll() is not None or self._answers(), limit=60, what="PostgreSQL listens")
        return process

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(self.address("postgres")):
            return True
        return False

    def address(self, name: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the address of a database."""
        return f"postgresql://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{name}"

    def make_database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"trips{next(self._numbers)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)

    def stop(self) -> None:
        """End it, and whoever is connected."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(60)


def rows(address: str, query: str) -> list[tuple[Any, ...]]:
    """Ask a database."""
    with psycopg.connect(address) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture(scope="session")
def postgresql_server(plain_environment: None) -> Iterator[Server]:
    """A server for all tests of this process; each test makes databases of its own."""
    # not in a directory of pytest's, which only its user enters
    with tempfile.TemporaryDirectory(prefix="sshmap-postgresql-", dir="/tmp") as top:
        server = Server(Path(top))
        yield server
        server.stop()
