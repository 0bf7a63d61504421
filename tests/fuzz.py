"""Messages of every class with any content, in any order, and bytes that are none: what a hostile client sends to an agent."""

from __future__ import annotations

import contextlib
import enum
import typing
from pathlib import Path

import msgspec
from hypothesis import strategies as st

from sshmap.agent.session.server import serve
from sshmap.errors import HostLost, ProtocolError
from sshmap.protocol import messages as m
from sshmap.protocol.framing import DATA, HEADER, MESSAGE, FrameReader, FrameWriter
from sshmap.protocol.handshake import await_marker, new_marker
from sshmap.store.layout import Root
from sshmap.transport import memory

HELLO = m.Hello(host="h0", ring=(("h0", 1.0),), version=m.VERSION, lowest=m.LOWEST)
#: start processes, or connect to addresses that are said here
_LEFT_OUT = (m.StartDaemon, m.StopDaemon, m.Diagnose, m.SetPeers, m.Hello, m.Exec, m.Eval)
_NAMES = st.one_of(
    st.sampled_from(["b/k", "b/000_k", "b/", "b", "", "../canary", "/etc/passwd", "b/../../canary", "b/\0", "b/\x1b"]),
    st.text(max_size=12),
)
_NUMBERS = st.one_of(
    st.sampled_from([0, 1, -1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]), st.integers(-(2**63), 2**64 - 1)
)
_BYTES = st.one_of(st.sampled_from([b"", b"x" * 16, b"../../canary"]), st.binary(max_size=40))
_PLAIN: dict[object, st.SearchStrategy[object]] = {
    str: _NAMES, int: _NUMBERS, bytes: _BYTES, bool: st.booleans(), float: st.floats(), type(None): st.none(),
}  # fmt: skip


def _of(hint: object) -> st.SearchStrategy[object]:
    """Return values for a field as a message may hold them, whatever limits the field has."""
    hint = getattr(hint, "__supertype__", hint)
    arguments = typing.get_args(hint)
    match typing.get_origin(hint):
        case None:
            return _PLAIN[hint] if hint in _PLAIN else _of_class(typing.cast("type", hint))
        case origin if origin is typing.Annotated:
            return _of(arguments[0])
        case origin if origin is typing.Literal:
            return st.sampled_from(arguments)
        case origin if origin is dict:
            return st.dictionaries(*map(_of, arguments), max_size=2)
        case origin if origin is tuple and arguments[-1] is Ellipsis:
            return st.lists(_of(arguments[0]), max_size=2)
        case origin if origin is tuple:
            return st.tuples(*map(_of, arguments))
        case _:
            return st.one_of(*map(_of, arguments))


def _of_class(kind: type) -> st.SearchStrategy[object]:
    if issubclass(kind, msgspec.Struct):
        return _fields(kind)
    return st.sampled_from([member.value for member in typing.cast("type[enum.Enum]", kind)])


def _fields(kind: type[msgspec.Struct]) -> st.SearchStrategy[object]:
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.encode_name: _of(hints[field.name]) for field in msgspec.structs.fields(kind)}
    if kind.__struct_config__.array_like:
        return st.tuples(*fields.values())
    return st.fixed_dictionaries(fields)


def messages_of(kind: type[m.Message]) -> st.SearchStrategy[bytes]:
    """Return frames with messages of a class."""
    return _fields(kind).map(lambda held: _packed(kind, typing.cast("dict[str, object]", held)))


def framed(payload: bytes, kind: int = MESSAGE) -> bytes:
    """Return a frame."""
    return HEADER.pack(len(payload), kind) + payload


def about_run(run: str) -> st.SearchStrategy[bytes]:
    """Return frames with any requests about one run, and with commands and keys at a terminal on one key."""
    kinds = (m.Jobs, m.CancelRun, m.GetJob, m.ListAttempts, m.Look, m.RunOver)
    requests = [
        _fields(kind).map(lambda held, kind=kind: _packed(kind, {**typing.cast("dict[str, object]", held), "run": run}))  # type: ignore[misc]
        for kind in kinds
    ]
    shells = st.builds(
        m.Shell, name=st.sampled_from(["b/k", "b/none", "../canary"]), command=st.sampled_from(["", "true", "cat; exit 7", "a\0b"]),
        run=st.sampled_from(["", run, "none"]), failed=st.booleans(), rows=st.sampled_from([0, 1, 65535]),
        columns=st.sampled_from([0, 80, 65535]), terminal=st.sampled_from(["", "xterm", "\x1b]0;x"]),
    )  # fmt: skip
    return st.one_of(*requests, shells.map(msgspec.msgpack.encode).map(framed), messages_of(m.Resize), CONTENT)


def _packed(kind: type[m.Message], held: dict[str, object]) -> bytes:
    return framed(msgspec.msgpack.encode({"t": kind.__name__, **held}))


KINDS = typing.get_args(m.AnyMessage)
CONTENT = st.binary(max_size=64).map(lambda content: framed(content, DATA))
GARBAGE = st.one_of(
    st.binary(max_size=32),
    st.binary(max_size=32).map(framed),
    st.just(framed(b"\x82\xa1t\xa4Ping\xa1x" + b"\x91" * 5000 + b"\xc0")),
)
#: to an agent; a put that is well formed among them, so that what follows one is reached
REQUESTS = st.lists(
    st.one_of(*(messages_of(kind) for kind in KINDS if kind not in _LEFT_OUT), CONTENT, st.just(framed(msgspec.msgpack.encode(m.Put(name="b/k")))), GARBAGE),
    min_size=1, max_size=12,
)  # fmt: skip
#: to a client
ANSWERS = st.lists(st.one_of(*map(messages_of, KINDS), CONTENT, GARBAGE), min_size=1, max_size=6)


def ask_anything(root: Path, frames: list[bytes]) -> list[str]:
    """Send frames to an agent in this process and return what it complains of, once it has ended the session."""
    channel = memory.connect(lambda far: serve(Root(root), far))
    complaints: list[str] = []
    with contextlib.closing(channel), contextlib.suppress(HostLost):
        reader, writer = FrameReader(channel), FrameWriter(channel)
        marker = new_marker()
        channel.send(marker)
        writer.message(HELLO)
        await_marker(channel, reader, marker)
        with contextlib.suppress(HostLost):
            for frame in frames:
                channel.send(frame)
            channel.send(framed(msgspec.msgpack.encode(m.Wanted(wanted=True))))
        while (answer := reader.read()) is not None:
            if isinstance(answer, m.Problem):
                complaints.append(answer.message)
                if answer.kind == ProtocolError.__name__:
                    break
    return complaints
