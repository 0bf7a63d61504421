"""A job as its user describes it, and as hosts remember it: they have to agree, and what they say is checked like what is typed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import xxhash

from sshmap import Cluster
from sshmap.client.conversations import Conversations
from sshmap.client.described import Options, again, described
from sshmap.client.job_results import JobFailed
from sshmap.client.summaries import list_runs
from sshmap.errors import HostLost, Refused, SshmapError, UsageError
from sshmap.limits import Limits
from sshmap.model import JobSpec, Maker, Shipped, Verb
from sshmap.protocol import messages as m
from tests import cutting
from tests.cutting import SEAM
from tests.hostile import RECEIPT, Answers, Hosts, Made, Said
from tests.lies import INVENTORY

impatient = cutting.impatient
pytestmark = pytest.mark.usefixtures("impatient")
SPEC = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))
ROW = m.JobRow(
    job="j", run="a1", number=7, verb=Verb.MAP, indir="sm://in/", outdir="sm://out/", command="cat", submitted=1, ended=2, states={}
)  # fmt: skip


def changed(**fields: object) -> JobSpec:
    return msgspec.structs.replace(SPEC, **fields)


def told(spec: JobSpec = SPEC, limits: Limits | None = None) -> Answers:
    """Return what a host says that knows the run."""
    return {m.Jobs: [m.JobList(jobs=(ROW,))], m.GetJob: [m.JobIs(job=spec, limits=limits or Limits())]}


#: what a host says that has never heard of the job
STRANGER: Answers = {m.GetJob: [m.Problem(kind="Refused", message="this host knows no run a1")]}
#: what a host says that knows the job by an earlier run, which had other limits
EARLIER: Answers = {m.GetJob: [m.JobIs(job=SPEC, limits=Limits(nice=3))]}
Dialled = Callable[[dict[str, Answers]], Hosts]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    """Have three hosts answer as told; those that are told nothing know no run."""

    def dial(answers: dict[str, Answers]) -> Hosts:
        hosts = Hosts({}, liar="", others={**dict.fromkeys(("h0", "h1", "h2"), STRANGER), **answers})
        monkeypatch.setattr(SEAM, hosts.dial)
        return hosts

    return dial


@pytest.fixture
def conversations() -> Iterator[Conversations]:
    with contextlib.closing(Conversations(INVENTORY)) as opened:
        yield opened


def test_job_is_that_of_all_hosts_which_know_it_by_this_run_or_another(
    dialled: Dialled, conversations: Conversations
) -> None:
    limits = Limits(retries=3)
    hosts = dialled({"h0": told(limits=limits), "h1": EARLIER, "h2": told(limits=limits)})
    (run,), _ = list_runs(conversations)
    job, found = again(conversations, run)
    assert (job.spec, job.hosts, job.attachments, found) == (SPEC, ("h0", "h1", "h2"), (), limits)
    assert hosts.asked(m.GetJob) == {name: [m.GetJob(run="a1", job="j")] for name in ("h0", "h1", "h2")}


def test_host_that_never_heard_of_the_job_is_named_and_not_passed_over(dialled: Dialled) -> None:
    hosts = dialled({"h0": told(), "h2": told()})
    with Cluster(INVENTORY) as cluster, pytest.raises(Refused, match="h1 not told what run 7 was to do") as refused:
        cluster.retry("7")
    assert "type its command again" in refused.value.hint
    assert not any(hosts.asked(kind) for kind in (m.Open, m.Plan, m.Start, m.Ship))


OTHERS = {
    "command": told(changed(maker=Maker(verb=Verb.MAP, command="rm -rf ~"))),
    "verb": told(changed(maker=Maker(verb=Verb.MERGE, command="cat"))),
    "indir": told(changed(indir="sm://secret/")),
    "outdir": told(changed(outdir="sm://precious/")),
    "replace": told(changed(replace=True)),
    "keep_done": told(changed(keep_done=True)),
    "limits": told(limits=Limits(nice=19)),
    "shipped": told(changed(maker=Maker(verb=Verb.MAP, command="cat", shipped=(Shipped(name="f", digest=b"d" * 16),)))),
}


@pytest.mark.parametrize("liar", ["h0", "h1"])
@pytest.mark.parametrize("what", OTHERS)
def test_hosts_that_disagree_are_named_and_nothing_is_run(dialled: Dialled, liar: str, what: str) -> None:
    """Whoever is first to answer."""
    hosts = dialled({**dict.fromkeys(("h0", "h1", "h2"), told()), liar: OTHERS[what]})
    with Cluster(INVENTORY) as cluster, pytest.raises(Refused, match="do not agree on what run 7 was to do") as refused:
        cluster.retry("7")
    assert (liar in refused.value.message or "h[1-2]" in refused.value.message, refused.value.exit_code) == (True, 4)
    assert "type its command again" in refused.value.hint
    assert not any(hosts.asked(kind) for kind in (m.Open, m.Plan, m.Start, m.Ship))


def test_run_that_one_host_has_invented_is_run_nowhere(dialled: Dialled) -> None:
    evil = changed(maker=Maker(verb=Verb.MAP, command="rm -rf ~"))
    hosts = dialled({"h1": told(evil)})
    with Cluster(INVENTORY) as cluster, pytest.raises(Refused):
        cluster.retry("last")
    assert not any(hosts.asked(kind) for kind in (m.Open, m.Plan, m.Start))


def test_run_that_one_host_has_invented_deletes_nothing_elsewhere(dialled: Dialled) -> None:
    """A fan-out that replaces has what is stale deleted, everywhere."""
    evil = changed(outdir="sm://precious/", maker=Maker(verb=Verb.FANOUT, command="ls"), replace=True)
    stale = m.StaleOutputs(directories=(m.OutputDirectory("precious/001_k/", RECEIPT),))
    hosts = dialled({"h1": {**told(evil), m.Start: [stale, m.RunEnded(done=1, failed=0, size=0, kept=0)]}})
    with Cluster(INVENTORY) as cluster, pytest.raises(Refused):
        cluster.retry("last")
    assert not hosts.asked(m.Sweep)


@pytest.mark.parametrize(
    "spec",
    [
        changed(indir="sm:///etc/"),
        changed(indir="/etc/passwd"),
        changed(outdir="sm://b/../../x/"),
        changed(outdir="sm://in/"),
        changed(outdir=""),
        changed(maker=Maker(verb=Verb.MAP, command="")),
        changed(maker=Maker(verb=Verb.MAP, command="a\0b")),
    ],
    ids=lambda spec: f"{spec.indir} {spec.outdir} {spec.maker.command!r}",
)
def test_job_that_nobody_could_have_typed_is_refused(
    dialled: Dialled, conversations: Conversations, spec: JobSpec
) -> None:
    dialled(dict.fromkeys(("h0", "h1", "h2"), told(spec)))
    (run,), _ = list_runs(conversations)
    with pytest.raises(SshmapError) as refused:
        again(conversations, run)
    assert refused.value.exit_code in (2, 3, 4)


def test_host_that_does_not_say_what_the_job_was_is_told_nothing_and_named(dialled: Dialled) -> None:
    """The others do their part."""

    def broken() -> Iterator[Said]:
        raise HostLost("it broke")
        yield m.Served()

    hosts = dialled({"h0": told(), "h1": {**told(), m.GetJob: Made(broken)}, "h2": told()})
    with Cluster(INVENTORY) as cluster, pytest.raises(JobFailed) as failed:
        cluster.retry("7")
    assert (failed.value.exit_code, [*failed.value.result.lost]) == (3, ["h1"])
    for kind in (m.Open, m.Plan, m.Start):
        assert sorted(hosts.asked(kind)) == ["h0", "h2"]


def test_shipped_file_that_a_host_has_no_more_cannot_be_sent_again(dialled: Dialled) -> None:
    spec = changed(maker=Maker(verb=Verb.MAP, command="cat", shipped=(Shipped(name="f.py", digest=b"d" * 16),)))
    there: Answers = {**told(spec), m.Ship: [m.Wanted(wanted=False)]}
    dialled({"h0": {**told(spec), m.Ship: [m.Wanted(wanted=True)]}, "h1": there, "h2": there})
    with (
        Cluster(INVENTORY) as cluster,
        pytest.raises(UsageError, match="h0 does not have the shipped file"),
    ):
        cluster.retry("7")


def test_limits_of_the_run_count_unless_others_are_given(dialled: Dialled) -> None:
    hosts = dialled({"h0": told(limits=Limits(retries=3)), "h1": EARLIER, "h2": EARLIER})
    with Cluster(INVENTORY) as cluster:
        cluster.retry("7")
        cluster.retry("7", limits=Limits(nice=5))
    assert [request.limits for request in hosts.asked(m.Start)["h0"]] == [Limits(retries=3), Limits(nice=5)]


def job(**options: object) -> JobSpec:
    return described(Verb.MAP, "sm://in/", "s4://out/", "cat", options).spec  # type: ignore[arg-type]


def test_names_are_those_of_one_scheme() -> None:
    assert (job().indir, job().outdir) == ("sm://in/", "sm://out/")


@pytest.mark.parametrize("name", ["replace", "partial", "keep_done"])
def test_choice_is_part_of_the_job(name: str) -> None:
    chosen = msgspec.structs.asdict(job(**{name: True}))
    assert [choice for choice in ("replace", "partial", "keep_done") if chosen[choice]] == [name]


def test_shipped_files_are_part_of_what_made_a_key(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("print()")
    found = described(Verb.MAP, "sm://in/", "sm://out/", "cat", {"shipped": [script]})
    (file,) = found.spec.maker.shipped
    assert (file.name, file.digest, file.executable) == ("script.py", xxhash.xxh3_128_digest(b"print()"), False)
    assert [attachment.path for attachment in found.attachments] == [script]


@pytest.mark.parametrize(
    ("verb", "options", "refused"),
    [
        (Verb.MAP, {"detach": True, "prune": True}, True),
        (Verb.FANOUT, {"detach": True, "replace": True}, True),
        (Verb.MAP, {"detach": True, "replace": True}, False),
        (Verb.FANOUT, {"detach": True}, False),
    ],
)
def test_job_that_deletes_at_its_end_is_not_detached(verb: Verb, options: Options, *, refused: bool) -> None:
    with pytest.raises(UsageError, match="detached") if refused else contextlib.nullcontext():
        described(verb, "sm://in/", "sm://out/", "cat", options)
