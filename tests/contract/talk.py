"""What the contract tests say to an agent: whole puts and gets over an open session."""

from __future__ import annotations

from sshmap.protocol.messages import (
    End,
    Get,
    Hello,
    Item,
    Listed,
    Listing,
    Ls,
    Message,
    Problem,
    Put,
    PutResult,
    Served,
    Stored,
    Sync,
    Synced,
)
from sshmap.store.digest import digest_of
from sshmap.transport.session import Session

HELLO = Hello(host="h0", ring=(("h0", 1.0),))
#: bytes of content in one frame
PIECE = 100_000


def send_content(session: Session, content: bytes, end: End | None = None) -> None:
    """Send content in pieces, and an End that matches unless another is given."""
    for start in range(0, len(content), PIECE):
        session.writer.data(content[start : start + PIECE])
    session.writer.message(end or End(size=len(content), digest=digest_of(content)), flush=False)


def announce(session: Session, name: str, content: bytes) -> None:
    """Send a key without waiting for what becomes of it."""
    session.writer.message(Put(name=name), flush=False)
    send_content(session, content)


def results(session: Session) -> list[PutResult]:
    """Return what has become of all keys sent so far."""
    stored = list(session.stream(Sync(), Synced))
    return [result for message in stored if isinstance(message, Stored) for result in message.results]


def put(session: Session, name: str, content: bytes) -> PutResult:
    """Send a key and return what has become of it."""
    announce(session, name, content)
    (result,) = results(session)
    return result


def problem_of(result: PutResult) -> str:
    """Return the class name of what went wrong with a key, or nothing."""
    return result.problem.kind if result.problem else ""


def get_all(session: Session, prefix: str, *, exact: bool = False) -> dict[str, bytes]:
    """Return the content of keys, checked against their digests."""
    session.writer.message(Get(prefix=prefix, exact=exact))
    found: dict[str, bytes] = {}
    while isinstance(item := session.next(), Item):
        found[item.name] = _content(session, item)
    assert item == Served(count=len(found))
    return found


def _content(session: Session, item: Item) -> bytes:
    content = bytearray()
    while isinstance(frame := session.frame(), memoryview):
        content += frame
    assert frame == End(size=item.size, digest=digest_of(bytes(content)))
    return bytes(content)


def get(session: Session, name: str) -> bytes:
    """Return the content of one key."""
    return get_all(session, name, exact=True)[name]


def ls(session: Session, prefix: str = "", *, known: str = "") -> tuple[list[str], Listed]:
    """Return the names below a prefix and how the listing ended."""
    messages = list(session.stream(Ls(prefix=prefix, recursive=True, known=known), Listed))
    names = [entry.name for message in messages if isinstance(message, Listing) for entry in message.entries]
    last = messages[-1]
    assert isinstance(last, Listed)
    return names, last


def refusal(session: Session, request: Message) -> Problem:
    """Send a request that has to be refused and return why."""
    session.writer.message(request)
    answer = session.frame()
    assert isinstance(answer, Problem)
    return answer
