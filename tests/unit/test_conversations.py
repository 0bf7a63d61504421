"""How many hosts are connected to at once."""

from __future__ import annotations

import threading

from sshmap.client import conversations
from sshmap.client.conversations import Conversations
from sshmap.inventory import Host, Inventory


def test_only_some_connect_through_one_gateway_at_a_time() -> None:
    behind = tuple(Host(name=f"h{number}", address="x", gateway="g") for number in range(20))
    opened = Conversations(Inventory(hosts=behind, origin="test"))
    inside, most, full = 0, 0, threading.Event()
    guard, leave = threading.Lock(), threading.Event()

    def connect(host: Host) -> None:
        nonlocal inside, most
        with opened.gate(host):
            with guard:
                inside += 1
                most = max(most, inside)
                if inside == conversations.THROUGH_GATEWAY:
                    full.set()
            assert leave.wait(10)
            with guard:
                inside -= 1

    threads = [threading.Thread(target=connect, args=(host,)) for host in behind]
    for thread in threads:
        thread.start()
    assert full.wait(10)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert (most, inside) == (conversations.THROUGH_GATEWAY, 0)


def test_hosts_without_a_gateway_and_behind_others_do_not_wait() -> None:
    hosts = (
        Host(name="h0", address="x"),
        Host(name="h1", address="x", gateway="a"),
        Host(name="h2", address="x", gateway="b"),
    )
    opened = Conversations(Inventory(hosts=hosts, origin="test"))
    with opened.gate(hosts[0]), opened.gate(hosts[0]), opened.gate(hosts[1]), opened.gate(hosts[2]):
        assert opened.gate(hosts[1]) is not opened.gate(hosts[2])
