"""Placement may never change under people's data: golden vectors, pins, balance."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sshmap.model import HostName
from sshmap.placement import Ring, numeric_prefix, ring_difference

THREE = Ring([("a", 1.0), ("b", 1.0), ("c", 1.0)])
TWELVE = Ring([(f"h{number:02}", (1.0, 2.0, 0.5)[number % 3]) for number in range(12)])

#: key, its host among three, its host among twelve
GOLDEN = [
    ("in/a", "a", "h07"),
    ("in/b", "c", "h10"),
    ("in/c", "a", "h06"),
    ("in/part-00000", "a", "h09"),
    ("in/part-00001", "c", "h00"),
    ("in/deep/er/x.csv", "b", "h04"),
    ("in/x.csv", "b", "h04"),
    ("b/data.json", "a", "h00"),
    ("b/ü", "c", "h04"),
    ("b/日本", "c", "h04"),
    ("b/with space", "a", "h10"),
    ("b/it's", "b", "h10"),
    ("b/$HOME", "b", "h07"),
    ("b/-rf", "a", "h05"),
    ("b/*", "c", "h03"),
    ("b/a.b.c", "c", "h01"),
    ("b/003x", "b", "h01"),
    ("b/x_003", "c", "h05"),
    ("b/.hidden", "a", "h10"),
    ("b/2x", "a", "h10"),
    ("b/_1", "a", "h10"),
]

host_names = st.lists(st.text("abcdefgh0123456789-.", min_size=1, max_size=8), min_size=2, max_size=6, unique=True)


@pytest.mark.parametrize(("key", "among_three", "among_twelve"), GOLDEN)
def test_placement_never_changes(key: str, among_three: str, among_twelve: str) -> None:
    assert (THREE.place(key), TWELVE.place(key)) == (among_three, among_twelve)


def test_fingerprint_never_changes() -> None:
    assert THREE.fingerprint == "0c399439d40834daa15b81d95c4962c6"
    assert TWELVE.fingerprint == "6e0aab088d69737d5c88e72b37f0af5b"


@pytest.mark.parametrize(
    ("key", "host"),
    [
        ("b/003_x", "a"),
        ("b/003", "a"),
        ("b/4", "b"),
        ("b/5_", "c"),
        ("b/0_1", "a"),
        ("b/1" + "0" * 38 + "1_x", "c"),
        ("1/2/4_x", "b"),
    ],
)
def test_numeric_prefix_pins_a_key_to_the_host_of_that_number(key: str, host: str) -> None:
    assert THREE.place(key) == host


@pytest.mark.parametrize("base", ["003x", "3.csv", "-3", "_3", "3-x", "x_3", "٣_x", "\uff13_x", "²_x"])
def test_other_digits_pin_nothing(base: str) -> None:
    assert numeric_prefix(base) == ""


def test_numeric_prefix_keeps_leading_zeros() -> None:
    assert numeric_prefix("003_x") == "003"


@given(st.text(alphabet=st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1))
def test_only_the_last_part_counts(base: str) -> None:
    assert TWELVE.place(f"b/{base}") == TWELVE.place(f"other/deep/er/{base}")


@given(st.text())
def test_a_single_host_has_every_key(name: str) -> None:
    assert Ring([("only", 1.0)]).place(name) == "only"


@settings(max_examples=20, deadline=None)
@given(host_names)
def test_equal_hosts_get_about_equal_shares(names: list[str]) -> None:
    shares = Ring([(name, 1.0) for name in names]).shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert all(0.6 / len(names) < share < 1.5 / len(names) for share in shares.values())


def test_keys_follow_the_shares() -> None:
    counts: Counter[str] = Counter(TWELVE.place(f"b/name-{number}") for number in range(12_000))
    for host, share in TWELVE.shares().items():
        assert counts[host] == pytest.approx(12_000 * share, abs=120)


@settings(max_examples=20, deadline=None)
@given(host_names, st.sampled_from([0.5, 1.0, 3.0]))
def test_a_new_host_takes_keys_and_no_other_does(names: list[str], weight: float) -> None:
    before = Ring([(name, 1.0) for name in names])
    after = Ring([*((name, 1.0) for name in names), ("NEW", weight)])
    keys = [f"b/name-{number}" for number in range(300)]
    moved = [key for key in keys if before.place(key) != after.place(key)]
    assert moved
    assert {after.place(key) for key in moved} == {"NEW"}


@settings(max_examples=20, deadline=None)
@given(host_names)
def test_weight_two_gets_about_twice_as_much(names: list[str]) -> None:
    shares = Ring([("BIG", 2.0), *((name, 1.0) for name in names)]).shares()
    assert 1.4 < shares.pop(HostName("BIG")) * len(names) / sum(shares.values()) < 2.8


def test_order_of_hosts_moves_pinned_keys_only() -> None:
    turned = Ring(THREE.members[::-1])
    assert turned.place("b/0_x") == "c"
    assert all(turned.place(key) == host for key, host, _ in GOLDEN)


def test_fingerprint_tells_order_names_and_weights_apart() -> None:
    rings = [
        [("a", 1.0), ("b", 1.0)],
        [("b", 1.0), ("a", 1.0)],
        [("a", 1.0), ("b", 2.0)],
        [("a", 1.0), ("c", 1.0)],
        [("a", 1.0)],
    ]
    assert len({Ring(ring).fingerprint for ring in rings}) == len(rings)


def test_a_whole_weight_is_the_same_as_its_float() -> None:
    assert Ring([("a", 1), ("b", 2)]).fingerprint == Ring([("a", 1.0), ("b", 2.0)]).fingerprint


@pytest.mark.parametrize(
    ("ours", "words"),
    [
        ([("a", 1.0)], "b is gone"),
        ([("a", 1.0), ("b", 1.0), ("c", 1.0)], "c is new"),
        ([("a", 1.0), ("b", 2.0)], "weight of b was 1, is 2"),
        ([("b", 1.0), ("a", 1.0)], "order was a b, is b a"),
    ],
)
def test_difference_of_two_rings_is_said_in_words(ours: list[tuple[str, float]], words: str) -> None:
    assert ring_difference([("a", 1.0), ("b", 1.0)], ours) == words
