"""Messages keep all they hold on the way, and tell an error again on the other side."""

from __future__ import annotations

import enum
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshmap.errors import BY_NAME, InvalidInventory, KeyExists, ProtocolError, SshmapError
from sshmap.protocol.framing import HEADER, MESSAGE, FrameReader, FrameWriter
from sshmap.protocol.messages import AnyMessage, Message, Ping, Problem, Tick
from tests.unit.streams import MemoryStream

CLASSES: tuple[type[Message], ...] = get_args(AnyMessage)
LEAVES: dict[object, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**63), 2**64 - 1),
    float: st.floats(allow_nan=False),
    str: st.text(),
    bytes: st.binary(max_size=100),
    bool: st.booleans(),
    type(None): st.none(),
}


def anything(hint: object) -> st.SearchStrategy[Any]:
    """Return a strategy for what a field may hold."""
    arguments = get_args(hint)
    match get_origin(hint):
        case origin if origin is Annotated:
            return limited(*arguments)
        case None if isinstance(hint, type):
            return LEAVES[hint] if hint in LEAVES else anything_of(hint)
        case origin if origin in {types.UnionType, Union}:
            return st.one_of(*map(anything, arguments))
        case origin if origin is Literal:
            return st.sampled_from(arguments)
        case origin if origin is dict:
            return st.dictionaries(*map(anything, arguments), max_size=3)
        case _ if arguments[-1] is Ellipsis:
            return st.lists(anything(arguments[0]), max_size=3).map(tuple)
        case _:
            return st.tuples(*map(anything, arguments))


def limited(kind: type, meta: msgspec.Meta) -> st.SearchStrategy[Any]:
    """Return a strategy for a field that has limits."""
    if kind is str:
        return st.text(max_size=meta.max_length)
    if kind is float:
        return st.floats(min_value=meta.ge, max_value=meta.le, allow_nan=False)
    if kind is int:
        return st.integers(int(meta.ge or 0), int(meta.le or 0))
    if kind is bytes:
        return st.binary(min_size=meta.min_length or 0, max_size=meta.max_length)
    return anything(kind)


def anything_of(kind: type) -> st.SearchStrategy[Any]:
    """Return a strategy for a class of values."""
    if issubclass(kind, enum.Enum):
        return st.sampled_from(kind)
    return st.builds(kind, **{name: anything(hint) for name, hint in get_type_hints(kind, include_extras=True).items()})


def received(payload: bytes) -> object:
    return FrameReader(MemoryStream(HEADER.pack(len(payload), MESSAGE) + payload)).read()


def on_the_way(message: Message) -> bytes:
    stream = MemoryStream()
    FrameWriter(stream).message(message)
    return bytes(stream.sent)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind is not Tick])
@settings(deadline=None)  # other work on the machine must not fail it
@given(data=st.data())
def test_message_comes_out_as_it_went_in(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(anything_of(kind))
    assert FrameReader(MemoryStream(on_the_way(message))).read() == message


def test_every_message_can_be_received() -> None:
    assert set(Message.__subclasses__()) == set(CLASSES)


@pytest.mark.parametrize(("size", "mtime"), [(-1, 0), (2**63, 0), (0, -1), (0, 10**12)])
def test_sizes_and_times_out_of_range_are_refused(size: int, mtime: int) -> None:
    with pytest.raises(ProtocolError, match="bad message"):
        received(msgspec.msgpack.encode({"t": "Listing", "entries": [["b/k", size, mtime, b""]]}))


def test_unknown_fields_are_ignored() -> None:
    assert received(msgspec.msgpack.encode({"t": "Ping", "color": "red"})) == Ping()


@pytest.mark.parametrize(
    "content",
    [{"t": "Dance"}, {}, {"t": 5}, {"t": "Has"}, {"t": "Has", "name": 5}, [], "Ping", None],
    ids=str,
)
def test_what_is_no_message_is_refused(content: object) -> None:
    with pytest.raises(ProtocolError, match="bad message") as caught:
        received(msgspec.msgpack.encode(content))
    assert "version" in caught.value.hint


def test_empty_message_is_refused() -> None:
    with pytest.raises(ProtocolError, match="bad frame"):
        received(b"")


@pytest.mark.parametrize("kind", BY_NAME.values())
def test_error_is_the_same_on_the_other_side(kind: type[SshmapError]) -> None:
    problem = Problem.of(kind("what", hint="next"), key="b/k")
    error = problem.error("h1")
    assert type(error) is kind
    assert (error.message, error.hint, error.host, problem.key) == ("what", "next", "h1", "b/k")


def test_error_of_the_client_alone_travels_as_a_bug() -> None:
    assert type(Problem.of(InvalidInventory("what")).error()) is SshmapError


def test_problem_of_a_later_version_is_an_error_all_the_same() -> None:
    assert type(Problem(kind="Melted", message="what").error("h1")) is ProtocolError
    assert type(Problem(kind="KeyExists", message="what").error("h1")) is KeyExists
