"""A host that lies behind a real sshd, on both transports: it is named, exit 3, and nothing comes of what it says."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypedDict

import pytest

from sshmap import Cluster
from sshmap.inventory import Host, Inventory
from sshmap.protocol import messages as m
from sshmap.transport.channel import Channel
from sshmap.transport.dial import dial
from tests import cutting, sshd
from tests.conftest import files_below
from tests.cutting import SEAM, in_time
from tests.hostile import Hosts, bounded_memory, status
from tests.hostile_sshd import FACTS, INSTALLED, PROBED, LyingSshd
from tests.integration import fleet
from tests.lies import BAD_NAMES, GARBAGE, INVENTORY, LIES, assert_refused, doctor, up
from tests.sshd import TRANSPORTS, SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts
impatient = cutting.impatient
#: bytes that no lie takes
MEMORY = 96 << 20


#: of the lies that are alike, enough to see that they come through
ALIKE = [f" name {name[:20]!a}" for name in BAD_NAMES if name not in ("/etc/000_k", "b/../000_k", "b/000_\x1b[2J")]


def chosen_lies() -> list[tuple[str, str]]:
    """Choose lies and the transport of each: on both what belongs into no answer, for each request; all others on one of them."""
    plain = [lie for lie in LIES if not lie.endswith((*GARBAGE, *ALIKE))]
    found = [("openssh" if number % 3 == 0 else "fabric", lie) for number, lie in enumerate(plain)]
    garbage = [(call, lie) for lie, (call, _) in LIES.items() if lie.endswith(tuple(GARBAGE))]
    for number, transport in enumerate(TRANSPORTS):
        # another call for the same request, and another answer, on the other transport
        by_request = {lie.split(", ")[1]: lie for _, lie in garbage[number :: len(GARBAGE) + 1][:: 1 - 2 * number]}
        found += [(transport, lie) for lie in by_request.values()]
    return found


@pytest.fixture(scope="module")
def liar(make_sshd_hosts: Callable[[], SshdHosts]) -> Iterator[LyingSshd]:
    with contextlib.closing(LyingSshd(make_sshd_hosts())) as opened:
        yield opened


@pytest.fixture
def client(
    liar: LyingSshd, make_sshd_hosts: Callable[[], SshdHosts], monkeypatch: pytest.MonkeyPatch, impatient: None
) -> Callable[[str], Cluster]:
    """Make a client of the host that lies, through a transport, and of two honest ones in this process."""
    others = Hosts({}, liar="")

    def open_channel(host: Host, **options: bool) -> Channel:
        return dial(host, **options) if host.name == "h0" else others.dial(host)

    def make(transport: str) -> Cluster:
        monkeypatch.setattr(SEAM, open_channel)
        return Cluster(Inventory(hosts=(liar.host(transport), *INVENTORY.hosts[1:]), origin="test"))

    return make


@pytest.mark.parametrize(("transport", "lie"), chosen_lies())
def test_host_that_lies_is_named_and_nothing_comes_of_it(
    transport: str, lie: str, liar: LyingSshd, client: Callable[[str], Cluster], tmp_path: Path
) -> None:
    call, answers = LIES[lie]
    liar.tell(answers)
    with client(transport) as cluster, bounded_memory(MEMORY):
        outcome = in_time(lambda: call(cluster, tmp_path / "out"))
    assert_refused(lie, outcome, tmp_path)


class Printed(TypedDict, total=False):
    """What a shell prints where it does not tell the truth."""

    probed: Iterable[str]
    installed: Iterable[str]


#: what the search for an interpreter may print, and the installer
SHELL_LIES: dict[str, Printed] = {
    "the same interpreter for ever": {"probed": itertools.repeat(PROBED[0])},
    "no end of interpreters": {"probed": (f"/bin/python{number} x" for number in itertools.count())},
    "an interpreter without a line's end": {"probed": ["x" * (1 << 20)]},
    "an answer of the installer that is none": {"installed": [INSTALLED[0], "[]"]},
    "an answer of the installer without an end": {"installed": [INSTALLED[0], "[" * 100_000]},
    "facts that are none": {"installed": ["17"]},
    "facts without measure": {"installed": [json.dumps(FACTS | {"free": 1e400, "clock": "now"}), "{}"]},
    "facts of another kind": {"installed": [json.dumps(FACTS | {"bash_version": ["x", {}]}), "{}"]},
}


@pytest.mark.parametrize(
    ("call", "lie"), [*((up, lie) for lie in SHELL_LIES), *((doctor, lie) for lie in SHELL_LIES if "answer" not in lie)]
)
def test_host_whose_shell_lies_is_named(
    call: Callable[[Cluster, Path], object], lie: str, liar: LyingSshd, client: Callable[[str], Cluster], tmp_path: Path
) -> None:
    # no agent answers, so that `up` sets the host up
    liar.tell({m.StartDaemon: [m.Problem(kind="HostNotReady", message="not here")]}, **SHELL_LIES[lie])
    with client("fabric") as cluster, bounded_memory(MEMORY):
        outcome = in_time(lambda: call(cluster, tmp_path))
    assert_refused(lie, outcome, tmp_path)


@pytest.mark.parametrize("version", ["", "3.x", "9" * 10_000])
def test_host_whose_python_is_of_no_version_is_named_by_the_doctor(
    version: str, liar: LyingSshd, client: Callable[[str], Cluster], tmp_path: Path
) -> None:
    liar.tell({m.GetStatus: [status(platform=(version, "x", "y"))]})
    with client("fabric") as cluster:
        outcome = in_time(lambda: doctor(cluster, tmp_path))
    assert_refused("", outcome, tmp_path)


# what waits to be read at the end of ssh's stderr holds up its stdout in time, so that the host would count as lost
@pytest.mark.parametrize(("transport", "count"), [("fabric", 1 << 40), ("openssh", 16)])
def test_complaints_without_end_are_not_kept(
    transport: str, count: int, liar: LyingSshd, client: Callable[[str], Cluster], tmp_path: Path
) -> None:
    liar.tell({m.Get: [m.Item(name="/etc/000_k", size=1)]}, complaints=count)
    with client(transport) as cluster, bounded_memory(MEMORY):
        outcome = in_time(lambda: LIES["get, another key"][0](cluster, tmp_path / "out"))
    assert_refused("", outcome, tmp_path)


#: verbs as typed, and the lie each is told
TYPED: dict[str, tuple[list[str], str]] = {
    "cp": (["cp", "-r", "sm://b/", "out"], "cp out, a name '/etc/000_k'"),
    "ls": (["ls", "-r", "sm://b/"], "ls, a name 'b/../000_k'"),
    "jobs": (["jobs"], "jobs, an unknown state"),
    "health": (["health"], "health, GetStatus, text that is not UTF-8"),
    "doctor": (["doctor"], "doctor, Diagnose, a message that is none"),
    "map": (["map", "sm://b/", "sm://out/", "cat"], "map, counts without measure"),
    "down": (["down"], "down, no answer to the question"),
    "exec": (["exec", "true"], "execute, Exec, a message of another request"),
}


@pytest.mark.parametrize(("transport", "verb"), list(zip(itertools.cycle(TRANSPORTS), TYPED, strict=False)))
def test_command_line_names_the_host_that_lies_in_a_line(
    transport: str, verb: str, liar: LyingSshd, tmp_path: Path
) -> None:
    words, lie = TYPED[verb]
    liar.tell(LIES[lie][1])
    inventory = liar.write(transport)
    code, out, err = fleet.sshmap(inventory, *words)
    assert (code, b"h0" in out + err, b"Traceback" in err) == (3, True, False), err
    assert not (tmp_path / "out").exists() or not files_below(tmp_path / "out")
