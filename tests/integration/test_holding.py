"""A name that one client holds on all hosts is refused to others, until that client lets go, however it ends."""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.session import holds as holds_module
from sshmap.agent.session.holds import Holds
from sshmap.client import holding as holding_module
from sshmap.errors import LockHeld, Refused
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.transport.session import Session
from tests.conftest import wait_until
from tests.integration import fleet

#: holds the name that its last argument says until its stdin is closed
HOLDER = """
import sys
from pathlib import Path
from sshmap import Cluster
with Cluster(Path(sys.argv[1])) as cluster, cluster.holding(sys.argv[2], "test"):
    print("held", flush=True)
    sys.stdin.read()
"""


def is_free(cluster: Cluster, name: str) -> bool:
    try:
        with Cluster(cluster.inventory) as other, other.holding(name, "another test"):
            return True
    except LockHeld:
        return False


def test_name_is_held_by_one_client_at_a_time(shared: Cluster, bucket: str) -> None:
    with shared.holding(bucket, "first"):
        with (
            Cluster(shared.inventory) as other,
            pytest.raises(LockHeld, match=rf"{bucket} is in use by first of .* UTC"),
            other.holding(bucket, "second"),
        ):
            pass
        assert is_free(shared, f"{bucket}-other")
    assert is_free(shared, bucket)


def test_of_clients_that_begin_at_once_one_gets_the_name(shared: Cluster, bucket: str) -> None:
    line, over = threading.Barrier(6), threading.Event()

    def hold(_: int) -> bool:
        with Cluster(shared.inventory) as cluster:
            line.wait(20)
            try:
                with cluster.holding(bucket, "one"):
                    return over.wait(20)
            except LockHeld:
                return False

    with ThreadPoolExecutor(6) as pool:
        results = [pool.submit(hold, number) for number in range(6)]
        wait_until(lambda: sum(result.done() for result in results) == 5)
        over.set()
    assert sorted(result.result() for result in results) == [False] * 5 + [True]


def test_name_of_a_client_that_is_about_to_let_go_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session notices a little later than the next command is typed that its client has ended."""
    monkeypatch.setattr(holds_module, "LINGERS", 60.0)
    root = Root(tmp_path / "root")
    root.create()
    ended, next_one = Holds(root), Holds(root)
    ended.hold("name", "somebody who has ended")
    with contextlib.closing(next_one), ThreadPoolExecutor(1) as pool:
        held = pool.submit(next_one.hold, "name", "the next one")
        with contextlib.closing(ended), pytest.raises(TimeoutError):
            held.result(0.2)
        held.result(20)


def test_killed_client_lets_go(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    inventory = fleet.write_inventory(shared.inventory, tmp_path / "inventory.toml")
    argv = [sys.executable, "-c", HOLDER, str(inventory), bucket]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"held\n"
        assert not is_free(shared, bucket)
        client.kill()
    wait_until(lambda: is_free(shared, bucket))


@pytest.mark.parametrize("taken", [False, True], ids=["free", "taken"])
def test_name_is_taken_again_where_a_session_broke(
    shared: Cluster, bucket: str, monkeypatch: pytest.MonkeyPatch, *, taken: bool
) -> None:
    """If somebody else was quicker there, whoever held it is told."""
    monkeypatch.setattr(holding_module, "_LOOK", 0.05)
    with shared.holding(bucket, "first") as held, Cluster(shared.inventory) as other:
        session = held._sessions["h0"]
        if not taken:
            session.close()
            wait_until(lambda: held._sessions.get("h0") not in (None, session))
            held.check()
            assert not is_free(shared, bucket)
            return
        monkeypatch.setattr(held, "_take_on", lambda _: None)
        session.close()
        quick = holding_module.Holding(other._conversations, bucket, "quick")
        wait_until(lambda: "h0" not in held._sessions)
        quick._take_on("h0")
        monkeypatch.undo()
        monkeypatch.setattr(holding_module, "_LOOK", 0.05)
        wait_until(lambda: held._error is not None)
        with pytest.raises(LockHeld, match="in use by quick"):
            held.check()
        quick.close()


def test_host_that_stands_still_does_not_make_the_others_let_go(
    roots: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They hear of the client meanwhile."""
    monkeypatch.setattr(holding_module, "_LOOK", 0.05)
    asked: collections.Counter[str] = collections.Counter()
    ask = Session.ask

    def counted(session: Session, request: m.Message, kind: type[m.Message]) -> m.Message:
        answer = ask(session, request, kind)
        asked[session.host] += isinstance(request, m.Ping)
        return answer

    with Cluster(fleet.local_inventory(roots, hosts=2)) as cluster:
        cluster.up()
        with cluster.holding(bucket, "first"):
            still = fleet.process_of(fleet.root_of(cluster.inventory, "h0"), "listener")
            assert still
            fleet.freeze(still)
            monkeypatch.setattr(Session, "ask", counted)
            try:
                wait_until(lambda: asked["h1"] > 20)
                assert asked["h0"] <= 1
            finally:
                fleet.kill(still, signal.SIGCONT)
        cluster.down(purge=True)


def test_client_that_is_silent_for_too_long_lets_go_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds_module, "LINGERS", 0.0)
    root = Root(tmp_path / "root")
    root.create()
    silent, next_one = Holds(root, patience=0.1), Holds(root)
    with contextlib.closing(silent), contextlib.closing(next_one):
        silent.hold("name", "somebody silent")
        silent.hear()
        with pytest.raises(LockHeld, match="somebody silent"):
            next_one.hold("name", "somebody else")
        wait_until(lambda: silent._lost)
        next_one.hold("name", "somebody else")
        with pytest.raises(Refused):
            silent.hear()
