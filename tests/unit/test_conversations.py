"""Whose a session is, when it is used again, and how many hosts are connected to at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from sshmap.client import conversations
from sshmap.client.conversations import Conversations
from sshmap.errors import ConversationBroken, HostLost
from sshmap.inventory import Host, Inventory
from sshmap.model import Entry
from sshmap.protocol.framing import FrameReader, FrameWriter
from sshmap.protocol.handshake import read_marker
from sshmap.protocol.messages import VERSION, Hello, Listed, Listing, Ls, Ping, Served, Welcome
from sshmap.transport import memory
from sshmap.transport.channel import Channel
from sshmap.transport.session import Session


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


class Echo:
    """A channel to an agent that answers every Ping, and a listing with three pages; counts how many are open."""

    opened: ClassVar[list[Channel]] = []

    @classmethod
    def dial(cls, host: Host, *, warm: bool = True, bulk: bool = False) -> Channel:
        """Open one."""
        channel = memory.connect(cls._serve)
        cls.opened.append(channel)
        return channel

    @staticmethod
    def _serve(channel: Channel) -> None:
        marker = read_marker(channel)
        channel.send(marker)
        reader, writer = FrameReader(channel), FrameWriter(channel)
        with contextlib.closing(channel), contextlib.suppress(HostLost):
            while (request := reader.read()) is not None:
                if isinstance(request, Hello):
                    writer.message(Welcome(version=VERSION, host=request.host))
                elif isinstance(request, Ping):
                    writer.message(Served())
                elif isinstance(request, Ls):
                    for name in "abc":
                        writer.message(Listing(entries=(Entry(name, 0, 0),)))
                    writer.message(Listed(generation="g"))
                else:
                    return


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversations]:
    """Conversations with one host that is an `Echo`."""
    Echo.opened = []
    monkeypatch.setattr(conversations, "dial", Echo.dial)
    opened = Conversations(Inventory(hosts=(Host(name="h0", connect="local", root="/nowhere"),), origin="test"))
    yield opened
    opened.close()


def ping(session: Session) -> Served:
    return session.ask(Ping(), Served)


def test_session_is_used_again_after_its_last_message_was_read(echo: Conversations) -> None:
    for _ in range(3):
        echo.ask("h0", ping)
        assert len(echo.ask("h0", lambda session: list(session.stream(Ls(prefix=""), Listed)))) == 4
    assert len(Echo.opened) == 1


def test_session_with_answers_still_to_come_is_not_used_again(echo: Conversations) -> None:
    pages = echo.converse("h0", lambda session: session.stream(Ls(prefix=""), Listed))
    next(pages)
    pages.close()
    assert echo.ask("h0", ping) == Served()
    assert len(Echo.opened) == 2


def test_request_within_another_has_a_session_of_its_own(echo: Conversations) -> None:
    for _ in echo.converse("h0", lambda session: session.stream(Ls(prefix=""), Listed)):
        assert echo.ask("h0", ping) == Served()
    assert len(Echo.opened) == 2


def test_kept_session_that_died_meanwhile_is_replaced(echo: Conversations) -> None:
    with echo.lease("h0") as first, echo.lease("h0") as second:
        assert (ping(first), ping(second)) == (Served(), Served())
    for channel in Echo.opened:
        channel.abort()
    assert echo.once("h0", ping) == Served()
    assert len(Echo.opened) == 3


def test_only_some_idle_sessions_are_kept(echo: Conversations) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(conversations.MOST_KEPT + 3):
            ping(stack.enter_context(echo.lease("h0")))
    with contextlib.ExitStack() as stack:
        for _ in range(conversations.MOST_KEPT + 3):
            ping(stack.enter_context(echo.lease("h0")))
    assert len(Echo.opened) == conversations.MOST_KEPT + 6


def test_session_leased_while_all_are_closed_is_closed_when_it_is_given_back(echo: Conversations) -> None:
    with echo.lease("h0") as session:
        echo.close()
        assert ping(session) == Served()
    assert echo.ask("h0", ping) == Served()
    assert len(Echo.opened) == 2


def test_request_that_must_not_be_made_twice_is_not(echo: Conversations) -> None:
    calls = []

    def call(session: Session) -> Served:
        calls.append(1)
        session.channel.abort()
        return ping(session)

    with pytest.raises(ConversationBroken) as caught:
        echo.once("h0", call)
    assert (len(calls), caught.value.host) == (1, "h0")


def test_threads_never_share_a_session(echo: Conversations) -> None:
    users: dict[int, int] = {}
    mixed: list[int] = []

    def use(_: int) -> None:
        for _ in range(50):
            with echo.lease("h0") as session:
                users[id(session)] = threading.get_ident()
                ping(session)
                if users[id(session)] != threading.get_ident():
                    mixed.append(1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(use, range(8)))
    assert mixed == []


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Conversations]:
    """Conversations with one host that large content reaches in another way; it is an `Echo`."""
    Echo.opened = []
    monkeypatch.setattr(conversations, "dial", Echo.dial)
    opened = Conversations(Inventory(hosts=(Host(name="h0", address="h0"),), origin="test"))
    yield opened
    opened.close()


def test_small_content_has_a_way_of_its_own_only_where_a_session_is_at_hand(remote: Conversations) -> None:
    assert not remote.splits_by_size("h0")
    remote.ask("h0", ping, bulk=True)
    assert not remote.splits_by_size("h0")
    remote.ask("h0", ping)
    assert remote.splits_by_size("h0")
    assert len(Echo.opened) == 2


def test_content_shares_the_session_of_all_else_where_there_is_one_way_only(echo: Conversations) -> None:
    echo.ask("h0", ping)
    echo.ask("h0", ping, bulk=True)
    assert not echo.splits_by_size("h0")
    assert len(Echo.opened) == 1
