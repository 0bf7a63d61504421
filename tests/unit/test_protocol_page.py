"""The page of the protocol says what the classes of its messages say."""

from __future__ import annotations

import re
from typing import get_args

import sshmap.protocol
from sshmap.protocol.messages import AnyMessage, Message

CLASSES: dict[str, type[Message]] = {kind.__name__: kind for kind in get_args(AnyMessage)}
PAGE = sshmap.protocol.__doc__ or ""
#: what starts with a capital letter and is no message
OTHERS = {"Unix", "MessagePack", "Content"}
_WITH_FIELDS = re.compile(r"\b([A-Z][A-Za-z]+)\{([^}]*)\}")


def test_every_message_on_the_page_exists() -> None:
    named = {name for name, _ in _WITH_FIELDS.findall(PAGE)} | set(re.findall(r"``([A-Z][A-Za-z]+)(?:\{\})?``", PAGE))
    assert named - CLASSES.keys() == set()


def test_every_field_on_the_page_exists() -> None:
    for name, fields in _WITH_FIELDS.findall(PAGE):
        known = set(CLASSES[name].__struct_fields__)
        said = {field.strip() for field in fields.split(",")} - {"", "…"}
        assert said <= known, name


def test_every_message_stands_on_the_page() -> None:
    assert CLASSES.keys() - set(re.findall(r"\b[A-Z][A-Za-z]+\b", PAGE)) == set()
