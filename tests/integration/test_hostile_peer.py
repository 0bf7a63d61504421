"""A peer that lies to a host's courier: its files stay, it counts as one that does not answer, and the others are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from sshmap.agent.daemon import courier as courier_module
from sshmap.model import Peer
from sshmap.protocol import messages as m
from sshmap.store.layout import Root
from sshmap.store.outbox import Outbox
from sshmap.transport import memory
from sshmap.transport.session import Session
from tests.conftest import wait_until
from tests.hostile import Endless, Said, bounded_memory, speak
from tests.integration import test_courier
from tests.integration.test_courier import RING, Fleet, output_for

fleet = test_courier.fleet
#: bytes that no lie takes
MEMORY = 96 << 20
RESULT = m.PutResult(output_for("h1", 0))
LIES: dict[str, list[Said] | Endless] = {
    "no result": [m.Synced()],
    "two results for a file": [m.Stored(results=(RESULT, RESULT)), m.Synced()],
    "results without an end": Endless(m.Stored(results=(RESULT,) * 1000)),
    "answers without a result": Endless(m.Stored(results=())),
    "a message of another request": [m.Wanted(wanted=True)],
    "content": [b"x"],
    "an error of an unknown kind": [m.Problem(kind="KeyError", message="x")],
}


@pytest.mark.parametrize("lie", LIES)
def test_peer_that_lies_takes_no_file_out_of_the_outbox(
    lie: str, fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fleet.reach

    def reach(root: Root, peer: Peer) -> Session:
        if peer.name != "h1":
            return honest(root, peer)
        channel = memory.connect(lambda channel: speak(channel, {m.Sync: LIES[lie]}))
        return Session(channel, m.Hello(host="h1", ring=RING, caller="h0"))

    monkeypatch.setattr(courier_module, "open_peer", reach)
    fleet.post("h1", 1)
    fleet.post("h2", 1)
    outbox = Outbox(fleet.store.ledger)
    with bounded_memory(MEMORY):
        wait_until(lambda: fleet.waiting() == ["h1"] and outbox.stuck(1) == {"h1": 1})
    assert "h1" in outbox.why_stuck("h1")
