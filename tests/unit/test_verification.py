"""What a client makes of what hosts say about damage: each key once, however often a conversation breaks, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest

from sshmap import Cluster
from sshmap.client import verifying
from sshmap.client.verifying import DamagedKey, Verification, errors_of
from sshmap.errors import DigestMismatch, HostLost, HostsFailed, NoSpace
from sshmap.model import Damage
from sshmap.protocol import messages as m
from tests import cutting
from tests.cutting import SEAM
from tests.hostile import Hosts, Made, Said
from tests.lies import INVENTORY

impatient = cutting.impatient
Breaking = Callable[..., Cluster]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch, impatient: None) -> Iterator[Breaking]:
    """Make a client of hosts of which the first answers a Verify with one part after the other, and breaks off after each but the last."""
    opened: list[Cluster] = []

    def make(*parts: Iterable[Said]) -> Cluster:
        left = list(parts)

        def answer() -> Iterator[Said]:
            yield from left.pop(0)
            if left:
                raise HostLost("cut")

        monkeypatch.setattr(SEAM, Hosts({m.Verify: Made(answer), m.PutAside: []}).dial)
        opened.append(Cluster(INVENTORY))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


def key(number: int) -> str:
    return f"b/000_{number:06}"


def damages(*numbers: int, missing: bool = False) -> m.Damages:
    return m.Damages(rows=tuple(Damage(key(number), 7, missing=missing) for number in numbers))


def verified(number: int, keys: int, *aside: int) -> m.Verified:
    rows = tuple(m.Aside(key(one), f"quarantine/{key(one)}.0") for one in aside)
    return m.Verified(name=key(number), keys=keys, size=7 * keys, aside=rows)


def test_conversation_goes_on_behind_the_last_key_that_is_known_to_be_read(breaking: Breaking) -> None:
    cluster = breaking(
        [damages(2, 4), verified(5, 5), damages(7)],
        [],
        [damages(7, 8, missing=True), verified(9, 4), m.Served(count=4)],
    )
    seen: list[tuple[int, int]] = []
    found = cluster.verify("sm://b/", report=lambda keys, size: seen.append((keys, size)))["h0"]
    assert (found.keys, found.size, found.damaged, found.missing) == (9, 63, 2, 2)
    assert [one.key[-1] for one in found.damages] == ["2", "4", "7", "8"]
    assert not any(one.put_aside for one in found.damages)
    assert seen == [(5, 35), (4, 28)]


def test_key_that_was_put_aside_without_its_being_heard_is_named(breaking: Breaking) -> None:
    cluster = breaking([damages(1, 2)], [damages(2), verified(3, 2, 2), m.Served(count=2)])
    found = cluster.verify("sm://b/", quarantine=True)["h0"]
    assert (found.keys, found.damaged) == (3, 2)
    assert [(one.key[-1], one.put_aside, bool(one.path)) for one in found.damages] == [
        ("1", False, False),
        ("2", True, True),
    ]


def test_host_that_fails_half_way_is_named_with_what_it_has_found(breaking: Breaking) -> None:
    problem = m.Problem(kind="NoSpace", message="no space left")
    cluster = breaking([damages(1), verified(2, 2), damages(3), problem])
    with pytest.raises(HostsFailed) as caught:
        cluster.verify("sm://b/")
    found = caught.value.results["h0"]
    assert isinstance(found, Verification)
    assert ([one.key[-1] for one in found.damages], found.keys) == (["1", "3"], 3)
    assert set(caught.value.results) == {"h0", "h1", "h2"}
    assert caught.value.exit_code == NoSpace.exit_code


def test_damaged_keys_beyond_a_number_are_counted_and_not_remembered(
    breaking: Breaking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "MOST_FAILURES", 3)
    pages = ([damages(number), verified(number, 1)] for number in range(10))
    found = breaking([*(said for page in pages for said in page), m.Served(count=10)]).verify("sm://b/")["h0"]
    assert (found.damaged, len(found.damages)) == (10, 3)


def test_errors_say_how_much_is_damaged_and_what_failed() -> None:
    bad = Verification(keys=5, damaged=1, missing=1)
    errors = errors_of(
        {"h0": bad, "h1": Verification(keys=3), "h2": bad}, {"h2": HostLost("gone"), "h3": HostLost("gone, too")}, "do"
    )
    assert [(host, str(error)) for host, error in sorted(errors.items())] == [
        ("h0", "h0: 2 of 5 keys are damaged"),
        ("h2", "h2: 2 of 5 keys are damaged, and then: gone"),
        ("h3", "gone, too"),
    ]
    assert isinstance(errors["h2"], DigestMismatch)
    assert (errors["h2"].exit_code, errors["h2"].hint) == (5, "do")
    assert errors_of({"h1": Verification(keys=3)}, {}, "do") == {}


def test_damage_is_put_into_words() -> None:
    assert DamagedKey(key="sm://b/k", size=1, missing=True).problem == "its file is missing"
    assert DamagedKey(key="sm://b/k", size=1, missing=False).problem == "content does not match its digest"
