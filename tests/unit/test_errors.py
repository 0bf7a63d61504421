"""Every error has its class, its exit code and its place in the tree."""

from __future__ import annotations

import ast
import inspect
import re

import pytest

from sshmap import errors
from sshmap.errors import (
    BY_NAME,
    HostKeyRefused,
    HostLost,
    HostNotReady,
    HostsFailed,
    KeyExists,
    NoSpace,
    ProtocolError,
    SshmapError,
    UsageError,
    is_silent,
)

#: exit codes as design.md and README have them
EXIT_CODES = {
    "SshmapError": 70,
    "CommandsFailed": 1,
    "NothingMatched": 1,
    "UsageError": 2,
    "InvalidKey": 2,
    "InvalidInventory": 2,
    "NotCopied": 1,
    "HostLost": 3,
    "ConversationBroken": 3,
    "HostNotReady": 3,
    "ConnectionDropped": 3,
    "HostKeyRefused": 3,
    "ProtocolError": 3,
    "Refused": 4,
    "KeyExists": 4,
    "OtherReceipt": 4,
    "RingChanged": 4,
    "LockHeld": 4,
    "DigestMismatch": 5,
    "NoSpace": 6,
    "TimeLimit": 7,
    "Cancelled": 130,
}
#: made by the client about hosts or files it knows, so they never travel
CLIENT_ONLY = {"HostsFailed", "InvalidInventory"}
CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, SshmapError)}


def test_every_class_has_its_exit_code() -> None:
    assert {name: kind.exit_code for name, kind in CLASSES.items() if name != "HostsFailed"} == EXIT_CODES


def test_the_tree_in_the_docstring_is_the_tree_in_the_code() -> None:
    drawn = re.findall(r"^[├└│─ ]*(\w+) +(\d+|…)  ", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in drawn if code != "…"} == EXIT_CODES
    assert {name for name, _ in drawn} == set(CLASSES)


def test_every_error_that_travels_is_known_by_name() -> None:
    assert {name: kind for name, kind in CLASSES.items() if name not in CLIENT_ONLY} == BY_NAME


def test_errors_imports_nothing() -> None:
    tree = ast.parse(inspect.getsource(errors))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported == {"__future__"}
    assert not any(isinstance(node, ast.Import) for node in ast.walk(tree))


def test_text_begins_with_the_host() -> None:
    assert str(HostLost("no route", host="h1")) == "h1: no route"
    assert str(UsageError("no such verb")) == "no such verb"


@pytest.mark.parametrize("kind", BY_NAME.values())
def test_message_hint_and_host_are_kept_apart(kind: type[SshmapError]) -> None:
    error = kind("what", hint="next", host="h1")
    assert (error.message, error.hint, error.host) == ("what", "next", "h1")


def test_several_hosts_failing_keeps_failures_and_results_and_takes_the_gravest_code() -> None:
    failures = {"h1": HostLost("gone", host="h1"), "h2": KeyExists("there", host="h2")}
    error = HostsFailed(dict(failures), {"h3": "ok"})
    assert error.exit_code == KeyExists.exit_code
    assert (error.failures, error.results) == (failures, {"h3": "ok"})
    assert str(error) == "h1: gone (and 1 more hosts)"


def test_silent_hosts_are_told_from_those_that_answer() -> None:
    errors = [HostLost("x"), HostNotReady("x"), HostKeyRefused("x"), ProtocolError("x"), NoSpace("x")]
    assert [is_silent(error) for error in errors] == [True, False, False, False, False]
