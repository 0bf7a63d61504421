"""`up` and `down`: setting up all hosts, starting their daemons and telling them about each other; and undoing that.

A host that runs our code already costs one session. The others are set up first; one
that fails is named and the rest come up. Both work on a root whose parts are missing or damaged, as long as it can
be written to, and both use an agent outside the daemon, as they may have to stop the daemon.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from sshmap.client import bootstrap
from sshmap.client.conversations import Conversations
from sshmap.client.doctor import judge_clock, skew_of
from sshmap.client.results import Counted
from sshmap.client.retrying import again
from sshmap.client.runtime import wanted
from sshmap.errors import ConversationBroken, HostNotReady, ProtocolError, SshmapError
from sshmap.inventory import Host
from sshmap.model import Peer
from sshmap.protocol import messages as m
from sshmap.store.digest import digest_of
from sshmap.transport.dial import target_of
from sshmap.transport.target import Resolved, known_keys, resolve


def bring_up(conversations: Conversations, report: Counted) -> tuple[dict[str, m.Status], dict[str, SshmapError]]:
    """Bring all hosts up, reporting each that is done; return statuses and failures by host."""
    hosts = {host.name: host for host in conversations.hosts}

    def reported(name: str) -> m.Status:
        try:
            return _raise(conversations, hosts[name])
        finally:
            report(1, 0)

    statuses, failures = conversations.gather(reported)
    remote = [hosts[name] for name in statuses if not hosts[name].is_local]
    if len(remote) > 1:
        places, unresolved = conversations.gather(lambda name: _locate(hosts[name]), [host.name for host in remote])
        _, strangers = conversations.gather(
            lambda name: _introduce(conversations, name, statuses, hosts, places), list(places)
        )
        failures |= unresolved | strangers
    return {name: answer for name, answer in statuses.items() if name not in failures}, failures


def _raise(conversations: Conversations, host: Host) -> m.Status:
    """Have the host run our code and its daemon."""
    if host.is_local:
        return again(lambda: _start_daemon(conversations, host))
    try:
        status = again(lambda: _start_daemon(conversations, host))
        if status.runtime == wanted(status.platform) and status.public_key:
            return status
    except (HostNotReady, ProtocolError, ConversationBroken):
        pass
    before = time.time()
    with conversations.gate(host):
        facts = again(lambda: bootstrap.set_up(host))
    late = judge_clock(host.name, skew_of(facts.clock, before, time.time()))
    status = again(lambda: _start_daemon(conversations, host))
    told = tuple(f"{finding.problem}: {finding.mend}" for finding in late)
    return msgspec.structs.replace(status, findings=status.findings + told)


def _start_daemon(conversations: Conversations, host: Host) -> m.Status:
    with contextlib.closing(conversations.open(host.name, warm=False)) as session:
        return session.ask(m.StartDaemon(), m.Status)


def take_down(
    conversations: Conversations, names: Iterable[str] | None, *, purge: bool
) -> tuple[dict[str, m.DaemonStopped], dict[str, SshmapError]]:
    """Stop daemons, and delete the roots if told so; return answers and failures by host."""
    hosts = {host.name: host for host in conversations.hosts}
    return conversations.gather(lambda name: _take_down(conversations, hosts[name], purge=purge), names)


def _take_down(conversations: Conversations, host: Host, *, purge: bool) -> m.DaemonStopped:
    """Stop a host's daemon; to purge a root whose code is missing or damaged, ship the code again first."""
    try:
        return again(lambda: _stop_daemon(conversations, host, purge=purge))
    except (HostNotReady, ProtocolError, ConversationBroken):
        if host.is_local or not purge:
            raise
    with conversations.gate(host):
        python = again(lambda: bootstrap.find_python(host))
        if not bootstrap.look(host, python.path).there:
            return m.DaemonStopped(was_running=False, there=False)
        bootstrap.set_up(host)
    return _stop_daemon(conversations, host, purge=True)


def _stop_daemon(conversations: Conversations, host: Host, *, purge: bool) -> m.DaemonStopped:
    with contextlib.closing(conversations.open(host.name, warm=False, ending=True)) as session:
        return session.ask(m.StopDaemon(purge=purge), m.DaemonStopped)


class _Place(NamedTuple):
    """The address of a host and its host keys; looked up once, and then told to all other hosts."""

    where: Resolved
    known_hosts: list[str]


def _locate(host: Host) -> _Place:
    where = resolve(target_of(host))
    return _Place(where, known_keys(where))


def _introduce(
    conversations: Conversations,
    name: str,
    statuses: dict[str, m.Status],
    hosts: dict[str, Host],
    places: dict[str, _Place],
) -> None:
    """Tell one host about the others, unless it was told the same before."""
    others = [other for other in places if other != name]
    peers = tuple(
        Peer(
            name=other,
            connect="ssh",
            root=hosts[other].root,
            address=places[other].where.hostname,
            port=places[other].where.port,
            user=places[other].where.user,
        )
        for other in others
    )
    request = m.SetPeers(
        peers=peers,
        known_hosts=tuple(line for other in others for line in places[other].known_hosts),
        authorized=tuple((other, statuses[other].public_key) for other in others if statuses[other].public_key),
    )
    if digest_of(msgspec.json.encode(request)).hex() != statuses[name].peers_digest:
        conversations.ask(name, lambda session: session.ask(request, m.PeersSet))
