"""Listings of a real ledger: order, levels, totals, and what a prefix takes in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sshmap.model import Entry, Maker, Receipt, Verb
from sshmap.store.keys import Keys, Row, after_prefix, merge_group
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger

LAST = chr(0x10FFFF)
NAMES = ["b/a", "b/a!b", "b/a/1", "b/a/2/3", "b/a0", "b/ab", "b/b/1", "b/日/1", "b/😀", "b2/x", "c/x"]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    root = Root(tmp_path / "r")
    root.create()
    opened = Ledger(root)
    yield opened
    opened.close()


def filled(ledger: Ledger, names: list[str], receipt: Receipt | None = None) -> Keys:
    keys = Keys(ledger)
    with ledger.change():
        for size, name in enumerate(names, start=1):
            keys.insert(Row(name, size, b"digest", 1_700_000_000, receipt))
    return keys


def level(keys: Keys, prefix: str) -> list[str]:
    return [row.name if isinstance(row, Entry) else row for row in keys.level(prefix)]


@given(st.text(max_size=6), st.text(max_size=6))
@example("", LAST * 3)
@example("b" + LAST, LAST)
@example("\ud7ff", "\ue000")
def test_every_text_with_a_prefix_sorts_before_what_comes_after_it(prefix: str, rest: str) -> None:
    assert prefix <= prefix + rest < after_prefix(prefix)


@given(st.text(max_size=6), st.text(max_size=6))
def test_no_other_text_sorts_between_a_prefix_and_what_comes_after_it(prefix: str, text: str) -> None:
    assert text.startswith(prefix) or not prefix <= text < after_prefix(prefix)


@given(st.text())
def test_what_comes_after_a_prefix_can_be_stored(prefix: str) -> None:
    assert after_prefix(prefix).encode()


@pytest.mark.parametrize("prefix", ["", "b", "b/", "b/a", "b/a/", "b/日", "nothing"])
def test_scan_finds_every_key_with_the_prefix_in_order(ledger: Ledger, prefix: str) -> None:
    keys = filled(ledger, NAMES[::-1])
    assert [entry.name for entry in keys.scan(prefix)] == sorted(name for name in NAMES if name.startswith(prefix))


def test_scan_goes_on_after_a_key(ledger: Ledger) -> None:
    keys = filled(ledger, NAMES)
    assert [entry.name for entry in keys.scan("b/", after="b/ab")] == ["b/b/1", "b/日/1", "b/😀"]


def test_scan_tells_size_time_and_digest(ledger: Ledger) -> None:
    keys = filled(ledger, ["b/a"])
    assert list(keys.scan("")) == [Entry("b/a", 1, 1_700_000_000, b"digest")]


@pytest.mark.parametrize(
    ("prefix", "shown"),
    [
        ("", ["b/", "b2/", "c/"]),
        ("b", ["b/", "b2/"]),
        ("b/", ["b/a", "b/a!b", "b/a/", "b/a0", "b/ab", "b/b/", "b/日/", "b/😀"]),
        ("b/a", ["b/a", "b/a!b", "b/a/", "b/a0", "b/ab"]),
        ("b/a/", ["b/a/1", "b/a/2/"]),
        ("nothing", []),
    ],
)
def test_level_shows_keys_and_directories_of_one_level(ledger: Ledger, prefix: str, shown: list[str]) -> None:
    assert level(filled(ledger, NAMES), prefix) == shown


def test_level_skips_what_is_in_a_directory(ledger: Ledger) -> None:
    keys = filled(ledger, [f"b/{folder}/{number}" for folder in "xyz" for number in range(1500)])
    statements: list[str] = []
    ledger.db.set_trace_callback(statements.append)
    assert level(keys, "b/") == ["b/x/", "b/y/", "b/z/"]
    assert len(statements) <= 4


@pytest.mark.parametrize("count", [499, 500, 501, 1200])
def test_level_of_any_length_is_whole(ledger: Ledger, count: int) -> None:
    names = [f"b/{number:05}" for number in range(count)]
    assert level(filled(ledger, names), "b/") == names


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.sets(st.text("ab/!0", min_size=1, max_size=6)), prefix=st.sampled_from(["", "a", "a/", "b/a"]))
def test_level_is_the_scan_cut_after_the_next_slash(ledger: Ledger, names: set[str], prefix: str) -> None:
    with ledger.change() as db:
        db.execute("DELETE FROM keys")
    keys = filled(ledger, sorted(names))
    found = [entry.name for entry in keys.scan(prefix)]
    assert level(keys, prefix) == list(dict.fromkeys(name[: name.find("/", len(prefix)) + 1] or name for name in found))


@pytest.mark.parametrize(("prefix", "total"), [("", (11, 66)), ("b/a/", (2, 7)), ("b/a", (6, 21)), ("nothing", (0, 0))])
def test_total_is_number_and_bytes(ledger: Ledger, prefix: str, total: tuple[int, int]) -> None:
    assert filled(ledger, NAMES).total(prefix)[:2] == total


def test_total_of_one_key_leaves_out_what_begins_with_it(ledger: Ledger) -> None:
    keys = filled(ledger, NAMES)
    assert keys.total("b/a", exact=True) == (1, 1, 1, 1)
    assert keys.total("b/", exact=True) == (0, 0, 0, 0)


def test_total_sees_keys_of_the_last_characters(ledger: Ledger) -> None:
    assert filled(ledger, [LAST * 3 + "/x"]).total() == (1, 1, 1, 1)


def test_members_come_by_group_and_name(ledger: Ledger) -> None:
    keys = filled(ledger, ["in/2/a", "in/1/b", "in/1/a", "in/1/003_y", "in/2/003_x", "out/a"])
    assert [name for _, name, _ in keys.grouped("in/")] == ["in/1/003_y", "in/2/003_x", "in/1/a", "in/2/a", "in/1/b"]


def test_group_is_the_numeric_prefix_or_else_the_base_name() -> None:
    assert merge_group("in/1/003_x") == merge_group("in/2/003_y") == merge_group("in/003")
    assert merge_group("in/1/name") == "name"
    assert merge_group("in/003x") != merge_group("in/003_x")


def test_get_finds_a_key_with_its_receipt(ledger: Ledger) -> None:
    receipt = Receipt(b"m", b"i")
    keys = filled(ledger, ["b/a"], receipt)
    assert keys.get("b/a") == Row("b/a", 1, b"digest", 1_700_000_000, receipt)
    assert keys.get("b/") is None


def test_receipts_tells_which_of_many_names_exist(ledger: Ledger) -> None:
    keys = filled(ledger, [f"b/{number}" for number in range(600)])
    assert keys.receipts([f"b/{number}" for number in range(1200)]) == {f"b/{number}": None for number in range(600)}


def test_discard_takes_the_rows_and_notes_the_files(ledger: Ledger) -> None:
    keys = filled(ledger, NAMES)
    with ledger.change():
        keys.discard("b/a")
    assert [entry.name for entry in keys.scan("b/")] == ["b/b/1", "b/日/1", "b/😀"]
    assert ledger.db.execute("SELECT count(*) FROM garbage").fetchone() == (6,)


def test_maker_is_remembered_by_its_digest(ledger: Ledger) -> None:
    keys, maker = Keys(ledger), Maker(verb=Verb.MAP, command="cut -f1")
    with ledger.change():
        identity = keys.remember(maker)
        assert keys.remember(maker) == identity
    assert keys.maker(identity) == maker
    assert keys.maker(b"other") is None


@pytest.mark.parametrize(
    "members", [(), ("in/a",), ("in/日", "in/x y"), tuple(f"in/{number:05}/part" for number in range(3000))]
)
def test_key_keeps_the_names_of_its_inputs(ledger: Ledger, members: tuple[str, ...]) -> None:
    keys = Keys(ledger)
    with ledger.change():
        keys.insert(Row("out/a", 1, b"digest", 1_700_000_000, Receipt(b"m" * 16, b"i" * 16)), members)
    assert keys.members_of("out/a") == members
    with ledger.change():
        keys.discard("out/", exact=False)
    assert keys.members_of("out/a") == ()


def test_names_of_many_inputs_are_kept_small(ledger: Ledger) -> None:
    keys = Keys(ledger)
    members = tuple(f"in/{number:05}/part" for number in range(3000))
    with ledger.change():
        keys.insert(Row("out/a", 1, b"digest", 1_700_000_000, Receipt(b"m" * 16, b"i" * 16)), members)
    (size,) = ledger.db.execute("SELECT length(members) FROM keys").fetchone()
    assert size < len("\n".join(members)) / 4


def test_makers_that_nothing_refers_to_are_forgotten(ledger: Ledger) -> None:
    keys = Keys(ledger)
    with ledger.change():
        used, unused = (keys.remember(Maker(verb=Verb.MAP, command=command)) for command in ("used", "unused"))
        keys.insert(Row("b/k", 1, b"digest", 1_700_000_000, Receipt(used, b"inputs")))
    with ledger.change():
        assert keys.forget_makers() == 1
    assert (keys.maker(unused), keys.maker(used)) == (None, Maker(verb=Verb.MAP, command="used"))
