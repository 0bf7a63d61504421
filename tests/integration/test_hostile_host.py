"""What a host sends is data: whatever it answers, the client names it, exits 3 and writes nothing that was not asked for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client import download, fetching, job_answers, results
from sshmap.client.conversations import Conversations
from sshmap.client.job_results import JobFailed
from sshmap.client.results import TransferFailed
from sshmap.errors import SshmapError, UsageError
from sshmap.inventory import Inventory
from sshmap.protocol import messages as m
from tests import cutting
from tests.conftest import files_below
from tests.cutting import SEAM, in_time
from tests.hostile import CONTENT, END, RECEIPT, Answers, Hosts, Made, Said, bounded_memory
from tests.lies import ENDED, INVENTORY, LIES, UNSENT, assert_refused, fanout

impatient = cutting.impatient
#: bytes that no lie takes
MEMORY = 96 << 20


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lie", LIES)
def test_host_that_lies_is_named_and_nothing_comes_of_it(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, answers = LIES[lie]
    monkeypatch.setattr(SEAM, Hosts(answers).dial)
    with Cluster(INVENTORY) as cluster, bounded_memory(MEMORY):
        outcome = in_time(lambda: call(cluster, tmp_path / "out"))
    assert_refused(lie, outcome, tmp_path)


@pytest.fixture
def lying(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answers], Cluster]]:
    """Make a client of hosts of which the first answers as told."""
    opened: list[Cluster] = []

    def make(answers: Answers) -> Cluster:
        monkeypatch.setattr(SEAM, Hosts(answers).dial)
        opened.append(Cluster(INVENTORY))
        return opened[-1]

    yield make
    for cluster in opened:
        cluster.close()


Lying = Callable[[Answers], Cluster]


def names(count: int) -> Iterator[str]:
    return (f"b/000_{number:07}{'x' * 200}" for number in range(count))


def test_get_holds_no_key_that_is_said_to_be_too_large(lying: Lying) -> None:
    cluster = lying({m.Get: [m.Item(name="b/000_k", size=fetching.MOST_BYTES + 1)]})
    with pytest.raises(UsageError, match=r"h0: .* more than get returns"):
        cluster.get("sm://b/000_k")


def test_large_keys_that_are_named_without_end_are_not_all_remembered(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversations, "splits_by_size", lambda *_: True)
    monkeypatch.setattr(download, "MOST_LARGE", 100)
    cluster = lying({m.Get: Made(lambda: (m.Passed(name=name) for name in names(2**40)))})
    with bounded_memory(MEMORY):
        outcome = in_time(lambda: cluster.get_tree("sm://b/", tmp_path / "out"))
    assert isinstance(outcome, TransferFailed), outcome
    assert "h0: it does not send" in str(outcome.result.lost["h0"])


def test_large_keys_arrive_however_many_are_remembered(
    cluster: Cluster, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = tmp_path / "sent"
    sent.mkdir()
    for number in range(60):
        (sent / f"{number:03}").write_bytes(b"x" * (number % 4 * 30))
    cluster.put_tree(sent, "sm://b/")
    monkeypatch.setattr(Conversations, "splits_by_size", lambda *_: True)
    monkeypatch.setattr(download, "BULK", 50)
    for most in (1, 2, 5, 100):
        monkeypatch.setattr(download, "MOST_LARGE", most)
        out = tmp_path / f"out{most}"
        with Cluster(inventory) as fresh:
            assert fresh.get_tree("sm://b/", out).fresh == 60
        assert {file.name: file.read_bytes() for file in files_below(out)} == {
            file.name: file.read_bytes() for file in files_below(sent)
        }


def test_large_key_that_is_small_when_it_is_asked_for_arrives(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conversations, "splits_by_size", lambda *_: True)
    item = m.Item(name="b/000_k", size=len(CONTENT))
    passes: Iterator[list[Said]] = iter(
        [[m.Passed(name="b/000_k"), m.Served()], [m.Served()], [item, CONTENT, END, m.Served()]]
    )
    assert lying({m.Get: Made(lambda: iter(next(passes)))}).get_tree("sm://b/", tmp_path / "out").fresh == 1
    assert (tmp_path / "out" / "000_k").read_bytes() == CONTENT


def test_keys_that_cannot_be_sent_are_counted_and_not_all_remembered(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MOST_FAILURES", 500)
    count = 3 * results.MOST_FAILURES
    reason = m.Unsent(problem=m.Problem(kind="DigestMismatch", message="x" * 100_000, hint="y" * 100_000))

    def unsent() -> Iterator[Said]:
        for number, name in enumerate(names(count)):
            yield m.Item(name=name, size=0)
            yield UNSENT if number % 20 else reason
        yield m.Served()

    cluster = lying({m.Get: Made(unsent)})
    with bounded_memory(MEMORY):
        outcome = in_time(lambda: cluster.get_tree("sm://b/", tmp_path / "out"))
    assert isinstance(outcome, TransferFailed), outcome
    assert (len(outcome.result.failures), outcome.result.failed) == (results.MOST_FAILURES, count)
    assert max(len(error.message) for error in outcome.result.failures.values()) < 10_000


def test_counts_of_outputs_without_end_are_not_all_remembered(
    lying: Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_answers, "MOST_ROWS", 5000)
    rows = (m.OutputCount(f"out/{number:012}/", RECEIPT, 1, b"x" * 16) for number in itertools.count())
    pages = (m.OutputCounts(rows=page) for page in zip(*[rows] * 1000, strict=False))
    outcome = in_time(lambda: fanout(lying({m.CountOutputs: pages}), tmp_path))
    assert isinstance(outcome, JobFailed), outcome
    assert "its counts of outputs do not end" in str(outcome.result.lost["h0"])


def test_stale_outputs_are_no_more_than_inputs(lying: Lying, tmp_path: Path) -> None:
    stale = [m.StaleOutputs(directories=(m.OutputDirectory(f"out/000_{number}/", RECEIPT),)) for number in range(2)]
    outcome = in_time(lambda: fanout(lying({m.Start: [*stale, ENDED]}), tmp_path))
    assert isinstance(outcome, SshmapError), outcome
    assert "h0" in str(outcome)
    assert "more stale outputs than it has inputs" in str(outcome)
