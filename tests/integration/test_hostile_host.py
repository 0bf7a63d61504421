"""What a host sends is data: whatever it answers, the client names it, exits 3 and writes nothing that was not asked for."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.results import JobFailed, TransferFailed
from sshmap.errors import SshmapError
from sshmap.inventory import Host, Inventory
from sshmap.model import Entry, Receipt
from sshmap.protocol import messages as m
from sshmap.protocol.framing import HEADER, MESSAGE
from sshmap.store.digest import digest_of
from tests import cutting
from tests.conftest import files_below
from tests.cutting import SEAM, in_time
from tests.hostile import Answers, Hosts

impatient = cutting.impatient
CONTENT = b"content"
END = m.End(size=len(CONTENT), digest=digest_of(CONTENT))
RECEIPT = Receipt(b"m" * 16, b"i" * 16)
ENDED = m.RunEnded(done=1, failed=0, size=0, kept=0)
INVENTORY = Inventory(
    hosts=tuple(Host(name=f"h{number}", connect="local", root=f"/nonexistent/h{number}") for number in range(3)),
    origin="test",
)


def frame(payload: bytes) -> bytearray:
    """Return a message of any bytes."""
    return bytearray(HEADER.pack(len(payload), MESSAGE) + payload)


def page(*names: str) -> m.Listing:
    return m.Listing(entries=tuple(Entry(name, 1, 1) for name in names))


def item(name: str, size: int = len(CONTENT)) -> list[m.Message | bytes]:
    return [m.Item(name=name, size=size), CONTENT, END]


#: no key may be named so, or none that was asked for, or none of this host's: a numeric prefix says whose it is
BAD_NAMES = [
    "other/000_k", "/etc/000_k", "b/../000_k", "b/./000_k", "b//000_k", "b/", "b", "", "b/000_\x1b[2J", "b/000_\n", "b/000_" + "x" * 300,
    "b/000_/" + "y/" * 2000 + "000_k",
]  # fmt: skip
ELSEWHERE = "b/001_k"
#: frames that belong into no answer
GARBAGE: dict[str, list[m.Message | bytes | bytearray]] = {
    "a message of another request": [m.Wanted(wanted=True)],
    "content where there is none": [CONTENT],
    "an unknown kind of frame": [bytearray(b"\x00\x00\x00\x01\x07x")],
    "a frame that is too long": [bytearray(b"\xff\xff\xff\xff\x00")],
    "a message that is none": [frame(b"\xc1")],
    "text that is not UTF-8": [frame(b"\x81\xa1t\xa2\xff\xfe")],
    "a message without an end": [frame(b"\x82\xa1t\xa4Tick\xa1x" + b"\x91" * 100_000 + b"\xc0"), m.Wanted(wanted=False)],
    "an error of an unknown kind": [m.Problem(kind="KeyError", message="x")],
    "a file that was handed over": [m.Handed(size=1, digest=b"d" * 16)],
}  # fmt: skip

Call = Callable[[Cluster, Path], object]


def ls(cluster: Cluster, _: Path) -> object:
    return list(cluster.ls("sm://b/", recursive=True))


def get_tree(cluster: Cluster, out: Path) -> object:
    return cluster.get_tree("sm://b/", out).check()


def get(cluster: Cluster, _: Path) -> object:
    return cluster.get("sm://b/000_k")


def get_file(cluster: Cluster, out: Path) -> object:
    return cluster.get_file("sm://b/000_k", out / "file")


def cat(cluster: Cluster, _: Path) -> object:
    return cluster.cat("sm://b/000_k", io.BytesIO())


def put(cluster: Cluster, _: Path) -> object:
    return cluster.put(CONTENT, "sm://b/000_k")


def rm(cluster: Cluster, _: Path) -> object:
    return cluster.rm("sm://b/000_k")


def eval_(cluster: Cluster, _: Path) -> object:
    return cluster.eval("sm://b/000_k", "cat", io.BytesIO(), io.BytesIO())


def execute(cluster: Cluster, _: Path) -> object:
    failures = cluster.exec("true", ["h0"])[1]
    raise failures["h0"]


def status(cluster: Cluster, _: Path) -> object:
    failures = cluster.statuses(["h0"])[1]
    raise failures["h0"]


def jobs(cluster: Cluster, _: Path) -> object:
    return cluster.jobs()


def map_(cluster: Cluster, _: Path) -> object:
    return cluster.map("sm://b/", "sm://out/", "cat")


def fanout(cluster: Cluster, _: Path) -> object:
    return cluster.fanout("sm://b/", "sm://out/", "cat", replace=True)


def job_row(**fields: object) -> bytearray:
    """Return a JobList that the message class would not hold."""
    row = {
        "job": "j",
        "verb": "map",
        "indir": "i",
        "outdir": "o",
        "command": "c",
        "submitted": 1,
        "states": {},
        **fields,
    }
    return frame(msgspec.msgpack.encode({"t": "JobList", "jobs": [row]}))


LIES: dict[str, tuple[Call, Answers]] = {
    **{f"ls, a name {name[:20]!a}": (ls, {m.Ls: [page(name), m.Listed(generation="g")]}) for name in BAD_NAMES},
    "ls, not sorted": (ls, {m.Ls: [page("b/000_b", "b/000_a")]}),
    "ls, a name twice": (ls, {m.Ls: [page("b/000_a", "b/000_a")]}),
    "ls, a page twice": (ls, {m.Ls: [page("b/000_a"), page("b/000_a")]}),
    "ls, pages without rows": (ls, {m.Ls: itertools.repeat(m.Listing())}),
    "ls, a size below zero": (ls, {m.Ls: [m.Listing(entries=(Entry("b/000_a", -1, 1),))]}),
    "ls, a time after the last year": (ls, {m.Ls: [m.Listing(entries=(Entry("b/000_a", 1, 2**60),))]}),
    "ls, too many rows in a message": (ls, {m.Ls: [m.Listing(prefixes=tuple("" for _ in range(1_000_000)))]}),
    "ls, unchanged where nothing is known": (ls, {m.Ls: [m.Listed(generation="g", unchanged=True)]}),
    **{f"cp out, a name {name[:20]!a}": (get_tree, {m.Get: [*item(name), m.Served()]}) for name in [*BAD_NAMES, ELSEWHERE]},
    "cp out, a name twice": (get_tree, {m.Get: [*item("b/000_k"), *item("b/000_k"), m.Served()]}),
    "cp out, not sorted": (get_tree, {m.Get: [*item("b/000_l"), *item("b/000_k"), m.Served()]}),
    "cp out, more than announced": (get_tree, {m.Get: [m.Item(name="b/000_k", size=3), *itertools.repeat(b"x" * 1000, 9), END]}),
    "cp out, content without an end": (get_tree, {m.Get: itertools.chain([m.Item(name="b/000_k", size=3)], itertools.repeat(b"x"))}),
    "cp out, End without Item": (get_tree, {m.Get: [END]}),
    "cp out, Item in an Item": (get_tree, {m.Get: [m.Item(name="b/000_k", size=3), m.Item(name="b/000_l", size=3)]}),
    "cp out, passed without order": (get_tree, {m.Get: itertools.repeat(m.Passed(name="b/000_k"))}),
    "get, another key": (get, {m.Get: [*item("b/000_l"), m.Served()]}),
    "get, Served too early": (get, {m.Get: [m.Served()]}),
    "get, only passed": (get, {m.Get: [m.Passed(name="b/000_k"), m.Served()]}),
    "get, more than announced": (get, {m.Get: itertools.chain([m.Item(name="b/000_k", size=3)], itertools.repeat(b"x"))}),
    "get to a file, another key": (get_file, {m.Get: [*item("b/000_l"), m.Served()]}),
    "cat, more than announced": (cat, {m.Get: itertools.chain([m.Item(name="b/000_k", size=3)], itertools.repeat(b"x"))}),
    "put, synced without an answer": (put, {m.Sync: [m.Synced()]}),
    "put, synced before it was asked": (put, {m.Put: [m.Synced()]}),
    "put, an answer for another key": (put, {m.Sync: [m.Stored(results=(m.PutResult("b/x"),)), m.Synced()]}),
    "put, two answers": (put, {m.Sync: [m.Stored(results=(m.PutResult("b/000_k"), m.PutResult("b/000_k"))), m.Synced()]}),
    "rm, fewer than none": (rm, {m.Remove: [m.Removed(count=-1, size=0)]}),
    "eval, an exit code that would be 0": (eval_, {m.Eval: [m.Exited(code=256)]}),
    "jobs, an unknown state": (jobs, {m.Jobs: [job_row(states={"asleep": 1})]}),
    "jobs, a time after the last year": (jobs, {m.Jobs: [job_row(submitted=2**60)]}),
    "jobs, fewer than none": (jobs, {m.Jobs: [job_row(states={"done": -1})]}),
    "map, refused without a reason": (map_, {m.Plan: [m.Planned(job="j", inputs=1, fresh=0, kept=0, refused=1)]}),
    "map, counts below zero": (map_, {m.Start: [m.RunEnded(done=-1, failed=0, size=0, kept=0)]}),
    "map, counts without measure": (map_, {m.Start: [m.RunEnded(done=2**63, failed=0, size=0, kept=0)]}),
    "map, files for a host that is none": (map_, {m.Start: [m.Progress(sending=1, stuck={"h9": 1}), ENDED]}),
    "map, ended with files for a host that is none": (map_, {m.Start: [m.RunEnded(done=1, failed=0, size=0, kept=0, stuck={"\x1b": 1})]}),
    "fanout, stale outputs elsewhere": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("precious/", RECEIPT),)), ENDED]}),
    "fanout, stale outputs of all": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("", RECEIPT),)), ENDED]}),
    "fanout, stale outputs of another host": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("out/001_k/", RECEIPT),)), ENDED]}),
    "fanout, a digest that is too long": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("out/000_k/", None, 1, b"x" * 99),)), m.Served()]}),
    "fanout, counts without measure": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("out/000_k/", None, 2**63, b"x" * 16),)), m.Served()]}),
    "fanout, counts of other directories": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("b/000_k/", None, 1, b"x" * 16),)), m.Served()]}),
    **{
        f"{call.__name__}, {what}": (call, {request: answer})
        for call, request in (
            (ls, m.Ls), (get_tree, m.Get), (get, m.Get), (get_file, m.Get), (cat, m.Get), (put, m.Sync), (rm, m.Remove), (eval_, m.Eval), (execute, m.Exec),
            (status, m.GetStatus), (jobs, m.Jobs), (map_, m.Open), (map_, m.Plan), (map_, m.Start), (fanout, m.CountOutputs),
        )
        for what, answer in GARBAGE.items() if (call, what) not in ((eval_, "content where there is none"), (execute, "content where there is none"))
    },
}  # fmt: skip


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lie", LIES)
def test_host_that_lies_is_named_and_nothing_comes_of_it(
    lie: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, answers = LIES[lie]
    monkeypatch.setattr(SEAM, Hosts(answers).dial)
    out = tmp_path / "out"
    with Cluster(INVENTORY) as cluster:
        outcome = in_time(lambda: call(cluster, out))
    assert isinstance(outcome, SshmapError), f"taken for an answer: {outcome!r}"
    assert outcome.exit_code == 3, repr(outcome)
    assert "h0" in _said(outcome), outcome
    assert [file.name for file in files_below(out)] in ([], ["000_k"], ["000_l"])
    assert not [file for file in files_below(tmp_path) if out not in file.parents]


def _said(error: SshmapError) -> str:
    if isinstance(error, TransferFailed):
        return " ".join(map(str, error.result.failures.values()))
    if isinstance(error, JobFailed):
        return " ".join(map(str, error.result.lost.values()))
    return str(error)
