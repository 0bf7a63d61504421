"""What only a host itself can find out: whether it reaches its peers, and whether its daemon outlives a login."""

from __future__ import annotations

import contextlib
import random
import time
from concurrent.futures import ThreadPoolExecutor

from sshmap.agent.host import logind
from sshmap.agent.host.peers import open_peer
from sshmap.errors import ConnectionDropped, SshmapError
from sshmap.model import Peer
from sshmap.protocol.messages import Diagnosis, Ping, Served
from sshmap.store.layout import Root

#: peers asked at the same time
AT_ONCE = 8
#: how often a peer is asked that drops the connection, and seconds that the first pause takes at most
TRIES, PAUSE = 6, 0.2


def diagnose(root: Root) -> Diagnosis:
    """Connect to all peers as the courier does, and ask the login service whether it would end the daemon."""
    cluster = root.read_cluster()
    peers = [peer for peer in cluster.peers if peer.name != cluster.host and cluster.shuffle != "relay"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(lambda peer: _reach(root, peer), peers))
    unreached = {peer.name: why for peer, why in zip(peers, answers, strict=True) if why}
    return Diagnosis(unreached=unreached, findings=logind.findings())


def _reach(root: Root, peer: Peer) -> str:
    """Return why a peer cannot be reached, or nothing."""
    why = ""
    for tries in range(TRIES):
        try:
            with contextlib.closing(open_peer(root, peer)) as session:
                session.ask(Ping(), Served)
        except ConnectionDropped as exc:
            # all hosts ask at once, and the sshd of one lets only some connections wait for their login (MaxStartups)
            why = exc.message
            time.sleep(random.uniform(0, PAUSE * 2**tries))  # noqa: S311  # no secret
        except SshmapError as exc:
            return exc.message
        else:
            return ""
    return why
