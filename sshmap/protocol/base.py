"""The messages of the opening exchange, the errors, and signs of life."""

from __future__ import annotations

import msgspec

from sshmap.errors import BY_NAME, ProtocolError, SshmapError
from sshmap.model import Count, Owed, Peer, Size

#: the highest version of the protocol that this code speaks, and the lowest
VERSION, LOWEST = 3, 3


#: characters of a message and of a hint that are kept of what the other side reports
_MOST_TEXT = 4096


def settle_version(lowest: int, highest: int) -> int:
    """Return the highest version that this code and the other side speak.

    Raises:
        ProtocolError: there is none.
    """
    version = min(VERSION, highest)
    if version < max(LOWEST, lowest):
        raise ProtocolError(
            f"one side speaks protocol {_span(LOWEST, VERSION)}, the other {_span(lowest, highest)}",
            hint="sshmap up, with the newer sshmap",
        )
    return version


def _span(lowest: int, highest: int) -> str:
    if not highest:
        return "2 or lower"
    return str(highest) if lowest in (0, highest) else f"{lowest} to {highest}"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag=True, omit_defaults=True):
    """Base of all messages."""


class Problem(Message, frozen=True, kw_only=True):
    """An error, as an answer to the request that failed."""

    #: class name in `sshmap.errors`
    kind: str
    message: str
    hint: str = ""
    #: key it is about, if it is about one
    key: str = ""

    @classmethod
    def of(cls, error: SshmapError, key: str = "") -> Problem:
        """Pack an error."""
        kind = type(error).__name__
        return cls(kind=kind if kind in BY_NAME else "SshmapError", message=error.message, hint=error.hint, key=key)

    def error(self, host: str = "") -> SshmapError:
        """Return the error that was packed, with the name of the host that sent it."""
        kind = BY_NAME.get(self.kind, ProtocolError)
        return kind(self.message[:_MOST_TEXT], hint=self.hint[:_MOST_TEXT], host=host)


class Hello(Message, frozen=True, kw_only=True):
    """First message of a client: which host it wants to talk to, and the cluster as its inventory has it."""

    #: the highest and the lowest version of the protocol that the client speaks, filled in by its session; the default
    #: is no version, as a field at its default is not sent, and the other side may have another default
    version: int = 0
    lowest: int = 0
    host: str
    ring: tuple[tuple[str, float], ...]
    #: the other hosts; empty when a peer calls
    peers: tuple[Peer, ...] = ()
    workers: int = 0
    idle_stop: float = 0.0
    #: bytes that have to stay free on the disk; 0 for the usual reserve
    reserve: Size = 0
    #: seconds in which the daemon reads each key once; 0 if it does not
    scrub: float = 0.0
    shuffle: str = "auto"
    #: the host whose courier calls; empty when a client does
    caller: str = ""
    #: start the daemon if there is none
    autostart: bool = False
    #: the client stops the daemon and does nothing else, whatever state the root is in
    ending: bool = False


class Welcome(Message, frozen=True, kw_only=True):
    """The agent's answer to Hello."""

    #: the version of the protocol that is spoken from now on
    version: int = 0
    host: str
    #: cancelled runs that other hosts have not been told of: the client tells those that it meets
    owed: tuple[Owed, ...] = ()


def welcome(hello: Hello, owed: tuple[Owed, ...] = ()) -> Welcome:
    """Answer a client in the highest version of the protocol that both sides speak.

    Raises:
        ProtocolError: there is none.
    """
    return Welcome(version=settle_version(hello.lowest, hello.version), host=hello.host, owed=owed)


class Ping(Message, frozen=True, kw_only=True):
    """Asks for a sign of life."""


class Hold(Message, frozen=True, kw_only=True):
    """Takes a name for this session alone, until it ends; answered by Served, or by a Problem that says who has it."""

    #: what is held, such as a directory of keys
    name: str
    #: who holds it, for people
    who: str


class Tick(Message, frozen=True, kw_only=True):
    """A sign of life."""


class Served(Message, frozen=True, kw_only=True):
    """End of a series of answers."""

    count: Count = 0
