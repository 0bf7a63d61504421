"""What calls return: counts that add up, the gravest failure, hosts that have more than their share."""

from __future__ import annotations

import pytest

from sshmap.client import results
from sshmap.client.results import Removal, RemovalFailed, Status, Transfer, TransferFailed, all_of, health_of
from sshmap.errors import DigestMismatch, HostLost, HostsFailed, KeyExists, NoSpace, NotCopied, SshmapError

LOST = HostLost("down: 3 files did not arrive", host="h1")


def test_transfer_counts_failures_beyond_those_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "MOST_FAILURES", 2)
    transfer = Transfer(failures={})
    for number in range(5):
        transfer.fail(str(number), NotCopied("no"))
    assert (sorted(transfer.failures), transfer.more_failures, transfer.failed) == (["0", "1"], 3, 5)


@pytest.mark.parametrize(
    ("failures", "lost", "code"),
    [
        ({"a": NotCopied("x")}, {}, 1),
        ({"a": NotCopied("x"), "b": KeyExists("y")}, {}, 4),
        ({"a": NotCopied("x")}, {"h1": LOST}, 3),
        ({}, {"h1": LOST}, 3),
        ({"a": NoSpace("x"), "b": DigestMismatch("y")}, {"h1": LOST}, 6),
    ],
)
def test_transfer_that_is_not_complete_has_the_gravest_code(
    failures: dict[str, SshmapError], lost: dict[str, SshmapError], code: int
) -> None:
    transfer = Transfer(fresh=3, failures=failures, lost=lost)
    with pytest.raises(TransferFailed) as caught:
        transfer.complete()
    assert (caught.value.exit_code, caught.value.result) == (code, transfer)
    with pytest.raises(SshmapError) as plain:
        transfer.check()
    assert plain.value.exit_code == code


def test_complete_transfer_is_returned() -> None:
    transfer = Transfer(fresh=1)
    assert transfer.complete() is transfer.check() is transfer


SHARES = {"h0": 0.25, "h1": 0.25, "h2": 0.25, "h3": 0.25}


def spread(*counts: int, size: int = 10) -> Transfer:
    transfer = Transfer(spread={})
    for host, count in zip(SHARES, counts, strict=True):
        for _ in range(count):
            transfer.arrived(host, size)
    return transfer


@pytest.mark.parametrize(
    ("counts", "fullest"),
    [
        ((6, 4, 2, 0), ""),
        ((7, 3, 2, 0), "h0"),
        ((0, 2, 3, 7), "h3"),
        ((3, 3, 3, 3), ""),
        ((4, 0, 0, 0), ""),
        ((199, 0, 0, 0), "h0"),
        ((200, 0, 0, 0), ""),
        ((0, 0, 0, 0), ""),
    ],
)
def test_host_with_over_twice_its_share_of_few_files_is_found(counts: tuple[int, ...], fullest: str) -> None:
    assert spread(*counts).uneven(SHARES) == fullest
    assert spread(*counts, size=0).uneven(SHARES) == ""


def test_share_goes_by_weight_and_by_bytes() -> None:
    weighted = {"h0": 0.7, "h1": 0.1, "h2": 0.1, "h3": 0.1}
    assert spread(7, 3, 2, 0).uneven(weighted) == "h1"
    transfer = spread(1, 4, 4, 4)
    transfer.arrived("h0", 10_000)
    assert transfer.uneven(SHARES) == "h0"


def test_results_of_all_hosts_or_an_error_that_holds_those_of_the_others() -> None:
    assert all_of({"h0": 1}, {}) == {"h0": 1}
    with pytest.raises(HostsFailed) as caught:
        all_of({"h0": 1}, {"h1": LOST, "h2": NoSpace("full", host="h2")})
    assert (caught.value.results, [*caught.value.failures], caught.value.exit_code) == ({"h0": 1}, ["h1", "h2"], 6)


def test_removal_that_failed_says_what_the_others_deleted() -> None:
    failed = RemovalFailed(Removal(keys=4, size=40, failures={"h1": LOST}))
    assert (failed.result.keys, failed.exit_code, [*failed.failures]) == (4, 3, ["h1"])


def status(**fields: object) -> Status:
    told = {"host": "h0", "keys": 0, "size": 0, "free": 1, "cores": 1, "workers": 1, "daemon": True, "round_trip": 0.1}
    return Status(**{**told, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "failure", "reasons"),
    [
        (status(), None, ()),
        (None, LOST, (LOST.message,)),
        (status(daemon=False), None, ("the daemon is not running: sshmap up",)),
        (status(findings=("only 3 MiB free",)), None, ("only 3 MiB free",)),
        (status(findings=("one", "two"), daemon=False), None, ("one", "two", "the daemon is not running: sshmap up")),
    ],
)
def test_health_is_judged_by_status_or_failure(
    seen: Status | None, failure: SshmapError | None, reasons: tuple[str, ...]
) -> None:
    state = health_of("h0", seen, failure)
    assert (state.host, state.reasons, state.healthy) == ("h0", reasons, not reasons)
