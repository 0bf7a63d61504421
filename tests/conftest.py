"""What all tests share: a clean environment, clusters of their own, and a look at what is left running."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.inventory import Host, Inventory


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a run fail that could not test everything."""
    parser.addoption("--forbid-skips", action="store_true", help="fail if tests are skipped that are not marked extra")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Count skipped tests as failed where that is asked for."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and session.config.getoption("--forbid-skips"):
        skipped = [report.nodeid for report in reporter.stats.get("skipped", ()) if "extra" not in report.keywords]
        if skipped:
            reporter.write_line(f"skipped, which is forbidden: {' '.join(skipped)}", red=True)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


#: what a login gives a user; whatever else is set where the tests are started, as PYTHONUNBUFFERED, would hide faults
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "TERM": "dumb"}
#: pytest's own, and where pip finds the packages of another Python
_KEPT = ("PYTEST_", "PIP_")


@pytest.fixture(scope="session", autouse=True)
def plain_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and all that they start, have a user's environment and inherit nothing by chance."""
    with pytest.MonkeyPatch.context() as patch:
        pip = Path("~/.config/pip/pip.conf").expanduser()
        if pip.exists():
            patch.setenv("PIP_CONFIG_FILE", str(pip))
        for name in set(os.environ) - set(PLAIN):
            if not name.startswith(_KEPT):
                patch.delenv(name)
        for name, value in {**PLAIN, "HOME": str(tmp_path_factory.mktemp("home"))}.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_environment: None) -> None:
    """Each test has a home of its own, where state and inventories would lie."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


def processes_below(path: Path) -> dict[int, str]:
    """Return processes that have the path in their arguments or in SSHMAP_ROOT, by id."""
    mark = os.fsencode(path)
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                arguments = (entry / "cmdline").read_bytes()
                variables = [
                    part for part in (entry / "environ").read_bytes().split(b"\0") if part.startswith(b"SSHMAP_ROOT=")
                ]
            except OSError:
                continue
            if mark in arguments or any(mark in part for part in variables):
                found[int(entry.name)] = arguments.replace(b"\0", b" ").decode("utf-8", "replace")[:200]
    return found


def wait_until(condition: Callable[[], object], limit: float = 20.0, what: str = "") -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not hold within the limit, in seconds.
    """
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit} s: {what or condition}"
        signal.sigtimedwait([], 0.01)


def files_below(top: Path) -> list[Path]:
    """Return all that is no directory below one, where processes may still come and go; `rglob` fails then."""
    return [Path(folder, name) for folder, _, names in os.walk(top) for name in names]


def end_processes(path: Path) -> None:
    """Kill what a test left running below a path."""
    for pid in processes_below(path):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    """Three local hosts; whatever runs for them is ended afterwards, and it is an error if `down` leaves something."""
    hosts = tuple(
        Host(
            name=f"h{number}", connect="local", root=str(tmp_path / "roots" / f"h{number}"), workers=1, idle_stop=120.0
        )
        for number in range(3)
    )
    yield Inventory(hosts=hosts, origin="test")
    end_processes(tmp_path / "roots")
    wait_until(lambda: not processes_below(tmp_path / "roots"), what="processes are left")


@pytest.fixture
def cluster(inventory: Inventory) -> Iterator[Cluster]:
    """A cluster of three local hosts."""
    with Cluster(inventory) as opened:
        yield opened
        opened.down()
