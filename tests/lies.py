"""What a host that lies may answer, and the call of a client that asks it: one table for all ways to such a host."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec

from sshmap import Cluster
from sshmap.client.conversations import Conversations
from sshmap.client.doctor import blocked
from sshmap.client.job_results import JobFailed
from sshmap.client.relay import carry_some
from sshmap.client.results import TransferFailed
from sshmap.errors import SshmapError
from sshmap.inventory import Host, Inventory
from sshmap.limits import Limits
from sshmap.model import Bucket, Damage, Entry, Maker, Receipt, TaskState, Verb
from sshmap.protocol import messages as m
from sshmap.protocol.framing import DATA, HEADER, MESSAGE
from sshmap.store.receipts import digest_maker
from tests.conftest import files_below
from tests.hostile import CONTENT, END, RECEIPT, SPEC, Answers, Endless, Made, Said, status

ITEM, BAD = m.Item(name="b/000_k", size=len(CONTENT)), m.Item(name="/etc/000_k", size=0)
UNSENT = m.Unsent(problem=m.Problem(kind="HostLost", message="x"))
PARCEL = m.RelayItem(id=1, name="b/000_k", receipt=RECEIPT)
ENDED = m.RunEnded(done=1, failed=0, size=0, kept=0)
#: what makes a client that prunes ask
ORPHANED = m.Planned(job="job", inputs=1, fresh=1, kept=0, orphans=1)
INVENTORY = Inventory(
    hosts=tuple(Host(name=f"h{number}", connect="local", root=f"/nonexistent/h{number}") for number in range(3)),
    origin="test",
)


def frame(payload: bytes, kind: int = MESSAGE) -> bytearray:
    """Return a frame of any bytes."""
    return bytearray(HEADER.pack(len(payload), kind) + payload)


def page(*names: str) -> m.Listing:
    return m.Listing(entries=tuple(Entry(name, 1, 1) for name in names))


def bucket(name: str) -> Bucket:
    return Bucket(name, 1, 1, 1)


def item(name: str, size: int = len(CONTENT)) -> list[Said]:
    return [m.Item(name=name, size=size), CONTENT, END]


#: no key may be named so, or none that was asked for, or none of this host's: a numeric prefix says whose it is
BAD_NAMES = [
    "other/000_k", "/etc/000_k", "b/../000_k", "b/./000_k", "b//000_k", "b/", "b", "", "b/000_\x1b[2J", "b/000_\n", "b/000_" + "x" * 300,
    "b/000_/" + "y/" * 2000 + "000_k",
]  # fmt: skip
ELSEWHERE = "b/001_k"
#: an honest listing of one key
KNOWN = [page("b/000_k"), m.Listed(generation="g")]
#: frames that belong into no answer
GARBAGE: dict[str, list[Said]] = {
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


def sync_out(cluster: Cluster, out: Path) -> object:
    return cluster.sync("sm://b/", out)


def cat_all(cluster: Cluster, _: Path) -> object:
    return cluster.cat("sm://b/", io.BytesIO())


def get(cluster: Cluster, _: Path) -> object:
    return cluster.get("sm://b/000_k")


def get_file(cluster: Cluster, out: Path) -> object:
    return cluster.get_file("sm://b/000_k", out / "file")


def cat(cluster: Cluster, _: Path) -> object:
    return cluster.cat("sm://b/000_k", io.BytesIO())


def put(cluster: Cluster, _: Path) -> object:
    return cluster.put(CONTENT, "sm://b/000_k")


def put_tree(cluster: Cluster, out: Path) -> object:
    sent = out.with_name("sent")
    sent.mkdir(exist_ok=True)
    for number in range(3):
        (sent / f"000_{number}").write_bytes(CONTENT)
    return cluster.put_tree(sent, "sm://b/")


def rm(cluster: Cluster, _: Path) -> object:
    return cluster.rm("sm://b/000_k")


def rm_tree(cluster: Cluster, _: Path) -> object:
    return cluster.rm("sm://b/", recursive=True)


def ls_level(cluster: Cluster, _: Path) -> object:
    return list(cluster.ls("sm://b/"))


def where(cluster: Cluster, _: Path) -> object:
    return list(cluster.where("sm://b/"))


def eval_(cluster: Cluster, _: Path) -> object:
    return cluster.eval("sm://b/000_k", "cat", io.BytesIO(), io.BytesIO())


def execute(cluster: Cluster, _: Path) -> object:
    return cluster.exec("true", ["h0"])


def health(cluster: Cluster, _: Path) -> object:
    failures = cluster.statuses(["h0"])[1]
    raise failures["h0"]


def up(cluster: Cluster, _: Path) -> object:
    failures = cluster.up()[1]
    raise failures["h0"]


def down(cluster: Cluster, _: Path) -> object:
    return cluster.down()


def doctor(cluster: Cluster, _: Path) -> object:
    error = blocked(cluster.doctor())
    assert error, "it found nothing"
    raise error


def relay_from(cluster: Cluster, _: Path) -> object:
    return relay(cluster, "h0", "h1")


def relay_to(cluster: Cluster, _: Path) -> object:
    return relay(cluster, "h1", "h0")


def relay(cluster: Cluster, source: str, target: str) -> object:
    with (
        contextlib.closing(Conversations(cluster.inventory)) as ways,
        ways.lease(source) as one,
        ways.lease(target) as other,
    ):
        return carry_some(one, other)


def jobs(cluster: Cluster, _: Path) -> object:
    return cluster.jobs()


def attempts(cluster: Cluster, _: Path) -> object:
    return sum(1 for _ in cluster.attempts("last", stderr=True))


def attach(cluster: Cluster, _: Path) -> object:
    return cluster.attach("last")


def cancel(cluster: Cluster, _: Path) -> object:
    return cluster.cancel("last")


def retry(cluster: Cluster, _: Path) -> object:
    return cluster.retry("last")


def explain(cluster: Cluster, _: Path) -> object:
    return cluster.explain(Verb.MAP, "sm://b/", "sm://out/", "cat")


def look(cluster: Cluster, _: Path) -> object:
    failures = cluster.look()[1]
    raise failures["h0"]


def forget(cluster: Cluster, _: Path) -> object:
    return cluster.forget(0)


def page_about(cluster: Cluster, _: Path) -> object:
    return cluster.report(["last"])


def buckets(cluster: Cluster, _: Path) -> object:
    return cluster.buckets()


def count(cluster: Cluster, _: Path) -> object:
    failures = cluster.count().failures
    raise failures["h0"]


def verify(cluster: Cluster, _: Path) -> object:
    return cluster.verify("sm://b/")


def put_aside(cluster: Cluster, _: Path) -> object:
    return cluster.verify("sm://b/", quarantine=True)


def damages(*names: str) -> m.Damages:
    return m.Damages(rows=tuple(Damage(name, 1) for name in names))


def verified(name: str, keys: int = 1, **fields: object) -> m.Verified:
    return m.Verified(name=name, keys=keys, **fields)  # type: ignore[arg-type]


def aside(name: str, path: str = "quarantine/b/000_k.0") -> list[Said]:
    """Return what is said of a damaged key, and of what was put aside."""
    return [damages("b/000_k"), verified("b/000_k", aside=(m.Aside(name, path),)), m.Served(count=1)]


def map_(cluster: Cluster, _: Path) -> object:
    return cluster.map("sm://b/", "sm://out/", "cat")


def fanout(cluster: Cluster, _: Path) -> object:
    return cluster.fanout("sm://b/", "sm://out/", "cat", replace=True)


def map_and_prune(cluster: Cluster, _: Path) -> object:
    return cluster.map("sm://b/", "sm://out/", "cat", prune=True)


def fanout_and_prune(cluster: Cluster, _: Path) -> object:
    return cluster.fanout("sm://b/", "sm://out/", "cat", prune=True)


def orphaned(output: str, command: str = "cat") -> m.StaleOutputs:
    """Return a page with one directory that the fan-out of a command is said to have filled from an input that is gone."""
    receipt = Receipt(digest_maker(Maker(verb=Verb.FANOUT, command=command)), bytes(16))
    return m.StaleOutputs(directories=(m.OutputDirectory(output, receipt),))


def pruning(*pages: m.StaleOutputs) -> Answers:
    """Return what a host says that has orphans, and names their directories."""
    return {m.Plan: [ORPHANED], m.Prune: [*pages, m.Removed(count=0, size=0)]}


def merge(cluster: Cluster, _: Path) -> object:
    return cluster.merge("sm://b/", "sm://out/", "cat")


def map_with_file(cluster: Cluster, out: Path) -> object:
    sent = out.with_name("sent") / "file"
    sent.parent.mkdir(exist_ok=True)
    sent.write_bytes(CONTENT)
    return cluster.map("sm://b/", "sm://out/", "cat", shipped=[sent])


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


def raw(message: m.Message, **fields: object) -> bytearray:
    """Return a message with fields that its class would not hold."""
    held: dict[str, object] = msgspec.to_builtins(message, builtin_types=(bytes,))
    return frame(msgspec.msgpack.encode({**held, **fields}))


#: a run that only the host that lies knows, and that is the newest
RUN = [
    m.JobList(
        jobs=(
            m.JobRow(
                job="j", run="r", number=9, verb=Verb.MAP, indir="sm://b/", outdir="sm://out/", command="cat", submitted=1, states={}
            ),
        )
    )
]  # fmt: skip
SEEN = m.Seen(queued=0, sending=0, size=0, load=0.0, cores=1, free=0)
FORGOTTEN = m.Forgotten(runs=0, attempts=0, files=0, size=0)


def about(request: type[m.Message], *answers: Said) -> Answers:
    """Return what is said by a host that knows the newest run, and answers a request about it."""
    return {m.Jobs: RUN, request: answers}


def endless_about(request: type[m.Message], *answers: Said) -> Answers:
    return {m.Jobs: RUN, request: Endless(*answers)}


def tried(*numbers: tuple[int, int]) -> m.AttemptList:
    """Return a page of attempts, by task and number."""
    rows = (
        m.AttemptRow(task=task, key="sm://b/000_k", state=TaskState.DONE, attempt=number) for task, number in numbers
    )
    return m.AttemptList(rows=tuple(rows))


def job_is(**fields: object) -> m.JobIs:
    """Return what a host says that a run was to do."""
    return m.JobIs(job=msgspec.structs.replace(SPEC, **fields), limits=Limits())


#: what is said about runs
LIES_ABOUT_RUNS: dict[str, tuple[Call, Answers]] = {
    "jobs, a number without measure": (jobs, {m.Jobs: [job_row(number=2**63)]}),
    "jobs, a number below none": (jobs, {m.Jobs: [job_row(number=-1)]}),
    "jobs, limits that are none": (jobs, {m.Jobs: [job_row(limits={"retries": -1})]}),
    "jobs, an ending that is none": (jobs, {m.Jobs: [job_row(ending="exploded")]}),
    "jobs, more bytes than there can be": (jobs, {m.Jobs: [job_row(size=2**63)]}),
    "jobs, two answers": (jobs, {m.Jobs: [m.Served(), m.JobList(jobs=())]}),
    "attempts, pages without rows": (attempts, endless_about(m.ListAttempts, m.AttemptList(rows=()))),
    "attempts, the same page for ever": (attempts, endless_about(m.ListAttempts, tried((1, 1)))),
    "attempts, the same large page for ever": (attempts, endless_about(m.ListAttempts, tried(*((task, 1) for task in range(500))))),
    "attempts, out of order": (attempts, about(m.ListAttempts, tried((2, 1), (1, 1)), m.Served())),
    "attempts, one twice": (attempts, about(m.ListAttempts, tried((1, 1), (1, 1)), m.Served())),
    "attempts, one after a task that waits": (attempts, about(m.ListAttempts, tried((1, 0), (1, 1)), m.Served())),
    "attempts, of a task below none": (attempts, about(m.ListAttempts, raw(tried(), rows=[{"task": -1, "key": "k", "state": "done"}]))),
    "attempts, a state that is none": (attempts, about(m.ListAttempts, raw(tried(), rows=[{"task": 1, "key": "k", "state": "asleep"}]))),
    "attempts, memory without measure": (attempts, about(m.ListAttempts, raw(tried(), rows=[{"task": 1, "key": "k", "state": "done", "peak": 2**63}]))),
    "attempts, an end of something else": (attempts, about(m.ListAttempts, tried((1, 1)), m.Listed(generation="g"))),
    "report, the same attempts for ever": (page_about, {**endless_about(m.ListAttempts, tried((1, 1))), m.GetJob: [job_is()]}),
    "attach, fewer than none": (attach, about(m.Follow, raw(ENDED, done=-1))),
    "attach, counts without measure": (attach, about(m.Follow, raw(ENDED, done=2**63))),
    "attach, more failures than fit": (attach, about(m.Follow, raw(ENDED, failures=[{"key": "k", "attempt": 1, "kind": "x", "message": "x"}] * 100_000))),
    "attach, files for a host that is none": (attach, about(m.Follow, m.Progress(stuck={"h9": 1}), ENDED)),
    "attach, an answer to something else": (attach, about(m.Follow, m.Served())),
    "attach, stale outputs of a map without end": (attach, endless_about(m.Follow, m.StaleOutputs(directories=()))),
    "attach, a slow task without measure": (attach, about(m.Follow, raw(m.Progress(), slow=[["k", -1, 0.0]]))),
    "cancel, fewer left than none": (cancel, about(m.CancelRun, raw(m.CancelNoted(left=0), left=-1))),
    "cancel, an answer to something else": (cancel, about(m.CancelRun, m.Served())),
    "retry, what was to be done is none": (retry, about(m.GetJob, raw(job_is(), job={"indir": 3}))),
    "retry, an answer to something else": (retry, about(m.GetJob, m.Served())),
    "retry, limits that are none": (retry, about(m.GetJob, raw(job_is(), limits={"nice": 99}))),
    "explain, a decision that is none": (explain, {m.Explain: [frame(msgspec.msgpack.encode({"t": "Reasons", "rows": [["k", "burn", "x", 1]]}))]}),
    "explain, reasons without rows": (explain, {m.Explain: Endless(m.Reasons(rows=()))}),
    "explain, a size below none": (explain, {m.Explain: [frame(msgspec.msgpack.encode({"t": "Reasons", "rows": [["k", "run", "x", -1]]}))]}),
    "top, fewer than none": (look, {m.Look: [raw(SEEN, queued=-1)]}),
    "top, tasks that are none": (look, {m.Look: [raw(SEEN, tasks=[["x"]])]}),
    "top, more tasks than fit": (look, {m.Look: [raw(SEEN, tasks=[[1, "r", "k", 1, 1.0]] * 100_000)]}),
    **{
        f"{call.__name__}, {what}{number} seconds": (call, answers)
        for number in (float("nan"), float("inf"), -float("inf"), 1e300)
        for call, what, answers in (
            (attach, "", about(m.Follow, raw(ENDED, busy=number))),
            (attach, "a task with ", about(m.Follow, raw(m.Progress(), slow=[["k", 1, number]]))),
            (attempts, "", about(m.ListAttempts, raw(tried(), rows=[{"task": 1, "key": "k", "state": "done", "ran": number}]))),
            (look, "", about(m.Look, raw(SEEN, tasks=[[1, "r", "k", 1, number]]))),
            (explain, "", about(m.Explain, raw(m.Explained(free=0), seconds=number))),
        )
    },
    "gc, fewer than none": (forget, {m.Forget: [raw(FORGOTTEN, runs=-1)]}),
    "gc, more bytes than there can be": (forget, {m.Forget: [raw(FORGOTTEN, size=2**63)]}),
    **{
        f"{call.__name__}, {request.__name__}, {what}": (call, {m.Jobs: RUN, request: answer})
        for call, request in (
            (attempts, m.ListAttempts), (attach, m.Follow), (cancel, m.CancelRun), (retry, m.GetJob), (explain, m.Explain), (look, m.Look),
            (forget, m.Forget),
        )
        for what, answer in GARBAGE.items()
    },
}  # fmt: skip
#: what may be answered to some
HONEST_THERE = [
    (eval_, "content where there is none"), (execute, "content where there is none"), (map_with_file, "a message of another request"),
]  # fmt: skip
LIES: dict[str, tuple[Call, Answers]] = {
    **LIES_ABOUT_RUNS,
    **{f"ls, a name {name[:20]!a}": (ls, {m.Ls: [page(name), m.Listed(generation="g")]}) for name in BAD_NAMES},
    "ls, not sorted": (ls, {m.Ls: [page("b/000_b", "b/000_a")]}),
    "ls, a name twice": (ls, {m.Ls: [page("b/000_a", "b/000_a")]}),
    "ls, a page twice": (ls, {m.Ls: [page("b/000_a"), page("b/000_a")]}),
    "ls, pages without rows": (ls, {m.Ls: Endless(m.Listing())}),
    "ls, a size below zero": (ls, {m.Ls: [m.Listing(entries=(Entry("b/000_a", -1, 1),))]}),
    "ls, a time after the last year": (ls, {m.Ls: [m.Listing(entries=(Entry("b/000_a", 1, 2**60),))]}),
    "ls, too many rows in a message": (ls, {m.Ls: [m.Listing(prefixes=tuple("" for _ in range(1_000_000)))]}),
    "ls, unchanged where nothing is known": (ls, {m.Ls: [m.Listed(generation="g", unchanged=True)]}),
    **{f"cp out, a name {name[:20]!a}": (get_tree, {m.Get: [*item(name), m.Served()]}) for name in [*BAD_NAMES, ELSEWHERE]},
    "cp out, a name twice": (get_tree, {m.Get: [*item("b/000_k"), *item("b/000_k"), m.Served()]}),
    "cp out, not sorted": (get_tree, {m.Get: [*item("b/000_l"), *item("b/000_k"), m.Served()]}),
    "cp out, more than announced": (get_tree, {m.Get: [m.Item(name="b/000_k", size=3), *[b"x" * 1000] * 9, END]}),
    "cp out, content without an end": (get_tree, {m.Get: Endless(m.Item(name="b/000_k", size=3), b"x")}),
    "cp out, End without Item": (get_tree, {m.Get: [END]}),
    "cp out, Item in an Item": (get_tree, {m.Get: [m.Item(name="b/000_k", size=3), m.Item(name="b/000_l", size=3)]}),
    "cp out, passed without order": (get_tree, {m.Get: Endless(m.Passed(name="b/000_k"))}),
    "cp out, another digest": (get_tree, {m.Get: [ITEM, CONTENT, m.End(size=7, digest=b"d" * 16), BAD]}),
    "cp out, another size": (get_tree, {m.Get: [ITEM, CONTENT, m.End(size=6, digest=END.digest), BAD]}),
    "cp out, content without bytes": (get_tree, {m.Get: Endless(m.Item(name="b/000_k", size=3), frame(b"", DATA))}),
    "cp out, the same one as unsent for ever": (get_tree, {m.Get: Endless(ITEM, UNSENT)}),
    "cat, content without bytes": (cat, {m.Get: Endless(m.Item(name="b/000_k", size=3), frame(b"", DATA))}),
    "get, content without bytes": (get, {m.Get: Endless(m.Item(name="b/000_k", size=3), frame(b"", DATA))}),
    "get, another digest": (get, {m.Get: [ITEM, CONTENT, m.End(size=7, digest=b"d" * 16), m.Served()]}),
    "get, another key": (get, {m.Get: [*item("b/000_l"), m.Served()]}),
    "get, Served too early": (get, {m.Get: [m.Served()]}),
    "get, only passed": (get, {m.Get: [m.Passed(name="b/000_k"), m.Served()]}),
    "get, more than announced": (get, {m.Get: Endless(m.Item(name="b/000_k", size=3), b"x")}),
    "get to a file, another key": (get_file, {m.Get: [*item("b/000_l"), m.Served()]}),
    "cat, more than announced": (cat, {m.Get: Endless(m.Item(name="b/000_k", size=3), b"x")}),
    "put, synced without an answer": (put, {m.Sync: [m.Synced()]}),
    "put, synced before it was asked": (put, {m.Put: [m.Synced()]}),
    "put, an answer for another key": (put, {m.Sync: [m.Stored(results=(m.PutResult("b/x"),)), m.Synced()]}),
    "put, two answers": (put, {m.Sync: [m.Stored(results=(m.PutResult("b/000_k"), m.PutResult("b/000_k"))), m.Synced()]}),
    "put, answers without a result": (put, {m.Sync: Endless(m.Stored(results=()))}),
    "put, answers without an end": (put, {m.Sync: Endless(m.Stored(results=(m.PutResult("b/000_k"),)))}),
    "put_tree, fewer answers": (put_tree, {m.Sync: [m.Stored(results=(m.PutResult("b/000_0"),)), m.Synced()]}),
    "put_tree, answers out of order": (put_tree, {m.Sync: [m.Stored(results=tuple(map(m.PutResult, ("b/000_1", "b/000_0", "b/000_2")))), m.Synced()]}),
    "sync out, a key that was not asked for": (sync_out, {m.Ls: KNOWN, m.Get: [*item("b/000_l"), m.Served()]}),
    "sync out, a key twice": (sync_out, {m.Ls: KNOWN, m.Get: [*item("b/000_k"), *item("b/000_k"), m.Served()]}),
    "sync out, a key that leads out": (sync_out, {m.Ls: KNOWN, m.Get: [*item("b/../000_k"), m.Served()]}),
    "sync out, passed over": (sync_out, {m.Ls: KNOWN, m.Get: [m.Passed(name="b/000_k"), m.Served()]}),
    "sync out, a listing of what was not asked for": (sync_out, {m.Ls: [page("other/000_k"), m.Listed(generation="g")]}),
    "cat of a directory, another key": (cat_all, {m.Ls: KNOWN, m.Get: [*item("b/000_l"), m.Served()]}),
    **{f"verify, damage of {name[:20]!a}": (verify, {m.Verify: [damages(name), m.Served()]}) for name in [*BAD_NAMES, ELSEWHERE]},
    **{f"verify, read {name[:20]!a}": (verify, {m.Verify: [verified(name), m.Served(count=1)]}) for name in [*BAD_NAMES, ELSEWHERE]},
    "verify, damage out of order": (verify, {m.Verify: [damages("b/000_l", "b/000_k")]}),
    "verify, damage twice": (verify, {m.Verify: [damages("b/000_k", "b/000_k")]}),
    "verify, damage of what was read": (verify, {m.Verify: [verified("b/000_l"), damages("b/000_k")]}),
    "verify, read what lies before the damage": (verify, {m.Verify: [damages("b/000_l"), verified("b/000_k")]}),
    "verify, the same damage for ever": (verify, {m.Verify: Endless(damages("b/000_k"))}),
    "verify, damage without rows": (verify, {m.Verify: Endless(m.Damages(rows=()))}),
    "verify, damage without an end": (verify, {m.Verify: Made(lambda: (damages(f"b/000_{number:09}") for number in itertools.count()))}),
    "verify, the same as read for ever": (verify, {m.Verify: Endless(verified("b/000_k"))}),
    "verify, nothing is read": (verify, {m.Verify: Endless(m.Verified(name=""))}),
    "verify, more keys than there can be": (verify, {m.Verify: [verified("b/000_k", 2**48), verified("b/000_l", 1)]}),
    "verify, more bytes than there can be": (verify, {m.Verify: [verified("b/000_k", size=2**62), verified("b/000_l", size=1)]}),
    "verify, another count at the end": (verify, {m.Verify: [verified("b/000_k"), m.Served(count=2)]}),
    "verify, put aside without being asked": (verify, {m.Verify: aside("b/000_k")}),
    "verify, put aside what is whole": (put_aside, {m.Verify: aside("b/000_a")}),
    "verify, put aside elsewhere": (put_aside, {m.Verify: aside("b/000_k", "data/b/000_k")}),
    "verify, put aside where it leads out": (put_aside, {m.Verify: aside("b/000_k", "quarantine/../../x")}),
    "buckets, out of order": (buckets, {m.ListBuckets: [m.Buckets(rows=(bucket("b"), bucket("a"))), m.Served()]}),
    "buckets, one twice": (buckets, {m.ListBuckets: [m.Buckets(rows=(bucket("b"),)), m.Buckets(rows=(bucket("b"),)), m.Served()]}),
    "buckets, a name that leads out": (buckets, {m.ListBuckets: [m.Buckets(rows=(bucket(".."),)), m.Served()]}),
    "buckets, a name with a part": (buckets, {m.ListBuckets: [m.Buckets(rows=(bucket("b/c"),)), m.Served()]}),
    "buckets, a name with an escape": (buckets, {m.ListBuckets: [m.Buckets(rows=(bucket("\x1b[2J"),)), m.Served()]}),
    "buckets, pages without rows": (buckets, {m.ListBuckets: Endless(m.Buckets(rows=()))}),
    "buckets, the same page for ever": (buckets, {m.ListBuckets: Endless(m.Buckets(rows=(bucket("b"),)))}),
    "buckets, bytes below none": (buckets, {m.ListBuckets: [m.Buckets(rows=(Bucket("b", 1, -1, 0),)), m.Served()]}),
    "count, fewer copied than none": (count, {m.Remove: [m.Removed(count=1, size=0, copied=-1)]}),
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
    "map, an epoch below zero": (map_, {m.Open: [frame(msgspec.msgpack.encode({"t": "Opened", "run": "r", "epoch": -1}))]}),
    "merge, more inputs than can be": (merge, {m.Plan: [m.Planned(job="j", inputs=2**63, fresh=1, kept=0)]}),
    "merge, progress of unknown states": (merge, {m.Start: [frame(msgspec.msgpack.encode({"t": "Progress", "queued": "many"})), ENDED]}),
    "health, fewer keys than none": (health, {m.GetStatus: [status(keys=-1)]}),
    "up, fewer keys than none": (up, {m.StartDaemon: [status(keys=-1)]}),
    "up, a platform that is none": (up, {m.StartDaemon: [frame(msgspec.msgpack.encode({"t": "Status", "platform": ["3", 11]}))]}),
    "doctor, findings that are none": (doctor, {m.Diagnose: [frame(msgspec.msgpack.encode({"t": "Diagnosis", "findings": [["x"]]}))]}),
    "down, no answer to the question": (down, {m.StopDaemon: [frame(msgspec.msgpack.encode({"t": "DaemonStopped", "was_running": 3}))]}),
    "relay, a file without an end": (relay_from, {m.Relay: [PARCEL, CONTENT, m.Served(count=1)]}),
    "relay, content of no file": (relay_from, {m.Relay: [CONTENT, END]}),
    "relay, End of no file": (relay_from, {m.Relay: [END, m.Served()]}),
    "relay, more files than are asked for": (relay_from, {m.Relay: Endless(PARCEL, END, *[PARCEL, END] * 2000)}),
    "relay, a message of no relay for ever": (relay_from, {m.Relay: Endless(m.Wanted(wanted=True))}),
    "relay, no answer for a file": (relay_to, {m.Sync: [m.Synced()]}),
    "relay, two answers for a file": (relay_to, {m.Sync: [m.Stored(results=(m.PutResult("b/000_k"), m.PutResult("b/000_k"))), m.Synced()]}),
    "relay, answers without an end": (relay_to, {m.Sync: Endless(m.Stored(results=(m.PutResult("b/000_k"),) * 1000))}),
    "relay, answers without a result": (relay_to, {m.Sync: Endless(m.Stored(results=()))}),
    "fanout, stale outputs without rows": (fanout, {m.Start: Endless(m.StaleOutputs(directories=()))}),
    "fanout, the same stale outputs for ever": (fanout, {m.Start: Endless(m.StaleOutputs(directories=(m.OutputDirectory("out/000_k/", RECEIPT),) * 1000))}),
    "map --prune, fewer than none": (map_and_prune, {m.Plan: [ORPHANED], m.Prune: [m.Removed(count=-1, size=0)]}),
    "map --prune, without measure": (map_and_prune, {m.Plan: [ORPHANED], m.Prune: [m.Removed(count=2**63, size=0)]}),
    "map --prune, a message of something else": (map_and_prune, {m.Plan: [ORPHANED], m.Prune: [m.Wanted(wanted=True)]}),
    "fanout, fewer orphans than none": (fanout, {m.Plan: [m.Planned(job="j", inputs=1, fresh=1, kept=0, orphans=-1)]}),
    "fanout --prune, outputs elsewhere": (fanout_and_prune, pruning(orphaned("precious/"))),
    "fanout --prune, outputs of all": (fanout_and_prune, pruning(orphaned(""))),
    "fanout --prune, outputs of another host": (fanout_and_prune, pruning(orphaned("out/001_k/"))),
    "fanout --prune, outputs of other work": (fanout_and_prune, pruning(orphaned("out/000_k/", "tac"))),
    "fanout --prune, directories without an end": (fanout_and_prune, {m.Plan: [ORPHANED], m.Prune: Endless(orphaned("out/000_k/"))}),
    "fanout --prune, directories out of order": (fanout_and_prune, pruning(orphaned("out/003_k/"), orphaned("out/000_k/"))),
    "fanout --prune, pages without rows": (fanout_and_prune, {m.Plan: [ORPHANED], m.Prune: Endless(m.StaleOutputs(directories=()))}),
    "fanout, counts without rows": (fanout, {m.CountOutputs: Endless(m.OutputCounts(rows=()))}),
    "fanout, the same counts for ever": (fanout, {m.CountOutputs: Endless(m.OutputCounts(rows=(m.OutputCount("out/000_k/", RECEIPT, 1, b"x" * 16),)))}),
    "fanout, counts of what is no directory": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("out/a/b/", None, 1, b"x" * 16),)), m.Served()]}),
    "fanout, stale outputs elsewhere": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("precious/", RECEIPT),)), ENDED]}),
    "fanout, stale outputs of all": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("", RECEIPT),)), ENDED]}),
    "fanout, stale outputs of another host": (fanout, {m.Start: [m.StaleOutputs(directories=(m.OutputDirectory("out/001_k/", RECEIPT),)), ENDED]}),
    "fanout, a digest that is too long": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("out/000_k/", None, 1, b"x" * 99),)), m.Served()]}),
    "fanout, counts without measure": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("out/000_k/", None, 2**63, b"x" * 16),)), m.Served()]}),
    "fanout, counts of other directories": (fanout, {m.CountOutputs: [m.OutputCounts(rows=(m.OutputCount("b/000_k/", None, 1, b"x" * 16),)), m.Served()]}),
    **{
        f"{call.__name__.strip('_')}, {request.__name__}, {what}": (call, {request: answer})
        for call, request in (
            (ls, m.Ls), (get_tree, m.Get), (get, m.Get), (get_file, m.Get), (cat, m.Get), (put, m.Sync), (rm, m.Remove), (eval_, m.Eval),
            (execute, m.Exec), (health, m.GetStatus), (jobs, m.Jobs), (buckets, m.ListBuckets), (count, m.Remove), (map_, m.Open), (map_, m.Plan),
            (map_, m.Start), (fanout, m.CountOutputs), (verify, m.Verify),
            (ls_level, m.Ls), (where, m.Ls), (put_tree, m.Sync), (put_tree, m.Put), (rm_tree, m.Remove), (up, m.StartDaemon), (down, m.StopDaemon),
            (doctor, m.GetStatus), (doctor, m.Diagnose), (relay_from, m.Relay), (relay_from, m.Delivered), (relay_to, m.Sync), (merge, m.Open),
            (map_and_prune, m.Plan), (merge, m.Plan), (merge, m.Start), (map_with_file, m.Ship), (fanout, m.Start),
        )
        for what, answer in GARBAGE.items() if (call, what) not in HONEST_THERE
    },
}  # fmt: skip


#: what is no lie that only a host could tell: content that was damaged on its way
CODES = {"cp out, another digest": 5, "cp out, another size": 5, "get, another digest": 5}


def assert_refused(lie: str, outcome: object, top: Path) -> None:
    """The host is named, with exit 3 unless `CODES` says another, and below a directory nothing was written but whole files in ``out``."""
    assert isinstance(outcome, SshmapError), f"taken for an answer: {outcome!r}"
    assert outcome.exit_code == CODES.get(lie, 3), repr(outcome)
    assert "h0" in _said(outcome), outcome
    out, sent = top / "out", top / "sent"
    assert [file.name for file in files_below(out)] in ([], ["000_k"], ["000_l"])
    assert not [file for file in files_below(top) if out not in file.parents and sent not in file.parents]


def _said(error: SshmapError) -> str:
    if isinstance(error, TransferFailed):
        return " ".join(map(str, [*error.result.lost.values(), *error.result.failures.values()]))
    if isinstance(error, JobFailed):
        return " ".join(map(str, error.result.lost.values()))
    return str(error)
