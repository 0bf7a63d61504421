"""What a run is allowed, on hosts that work: turns, retries, time, failures, slow tasks, and what attempts took."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.following import JobProgress
from sshmap.client.job_results import JobFailed
from sshmap.client.summaries import RunSummary
from sshmap.limits import Limits
from sshmap.model import AttemptEnd, Ending, TaskState
from sshmap.protocol.messages import AttemptRow
from tests.conftest import wait_until

#: hosts of the shared fleet, each with one worker; keys with numbers are dealt out in turn
HOSTS = 3


def fill(cluster: Cluster, bucket: str, numbers: range) -> None:
    """Store some keys."""
    for number in numbers:
        cluster.put(b"content\n", f"sm://{bucket}/in/{number:03}_k")


def row_of(cluster: Cluster, bucket: str) -> RunSummary:
    """Return the newest run of a bucket."""
    return next(run for run in cluster.jobs() if run.indir.startswith(f"sm://{bucket}/"))


def attempts_of(cluster: Cluster, bucket: str) -> list[AttemptRow]:
    """Return the attempts of the newest run of a bucket."""
    return [row for _, row in cluster.attempts(row_of(cluster, bucket).run, stderr=True)]


def until(gate: Path) -> str:
    """Return a command that waits for a file."""
    return f"until [ -e {gate} ]; do read -rt 0.02 <> <(:) || true; done"


def test_job_of_many_tasks_does_not_starve_one_of_few(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    fill(shared, bucket, range(240))
    fill(shared, f"{bucket}-small", range(10))
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", f"[ -e {tmp_path}/gate ] || sleep 0.05; cat", detach=True)
    result = shared.map(f"sm://{bucket}-small/in/", f"sm://{bucket}-small/out/", "cat")
    assert result.done == 10
    large = row_of(shared, bucket)
    assert large.states[TaskState.QUEUED] > 200
    (tmp_path / "gate").touch()
    assert shared.attach(large.run).done == 240


def test_failed_task_is_tried_again_after_a_pause_that_grows(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    fill(shared, bucket, range(2))
    command = f"echo x >> {tmp_path}/$filename; [ $(wc -l < {tmp_path}/$filename) = 3 ] || exit 5; cat"
    assert shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", command, limits=Limits(retries=2)).done == 2
    for key in ("000_k", "001_k"):
        tries = [row for row in attempts_of(shared, bucket) if row.key.endswith(key)]
        assert [(row.attempt, row.outcome, row.exit_code) for row in tries] == [
            (1, AttemptEnd.FAILED, 5), (2, AttemptEnd.FAILED, 5), (3, AttemptEnd.DONE, 0),
        ]  # fmt: skip
        first, second, third = tries
        assert 0.4 < second.began - first.ended < 0.95 < third.began - second.ended


def test_other_tasks_go_on_while_a_failed_one_waits(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    fill(shared, bucket, range(0, 4 * HOSTS, HOSTS))
    command = f"echo $filename >> {tmp_path}/order; [ $filename != 000_k ] || mkdir {tmp_path}/once; cat"
    (tmp_path / "once").mkdir()
    limits = Limits(retries=9)
    runner = threading.Thread(
        target=shared.map, args=(f"sm://{bucket}/in/", f"sm://{bucket}/out/", command), kwargs={"limits": limits}
    )
    runner.start()
    wait_until(lambda: (tmp_path / "order").exists() and len((tmp_path / "order").read_text().split()) >= 4)
    (tmp_path / "once").rmdir()
    runner.join(20)
    order = (tmp_path / "order").read_text().split()
    assert order[:4] == ["000_k", "003_k", "006_k", "009_k"]
    assert set(order[4:]) == {"000_k"}


def test_time_limit_by_percent_counts_from_the_third_task_on(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    fill(shared, bucket, range(0, 5 * HOSTS, HOSTS))
    command = "case $filename in 000_k) sleep 0.8;; 012_k) sleep 300;; *) sleep 0.2;; esac; cat"
    with pytest.raises(JobFailed) as caught:
        shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", command, limits=Limits(timeout_percent=300))
    (failure,) = caught.value.result.failures
    assert (failure.key, failure.kind) == (f"sm://{bucket}/in/012_k", "TimeLimit")
    limit = float(failure.message.removeprefix("took longer than ").partition("s")[0])
    assert 0.5 < limit < 1.2
    assert caught.value.result.done == 4


@pytest.mark.parametrize("way", ["submitted", "attached"])
def test_failures_on_all_hosts_together_halt_a_run_that_a_client_follows(
    shared: Cluster, bucket: str, tmp_path: Path, way: str
) -> None:
    """One on each host: no host has enough to halt the run by itself."""
    fill(shared, bucket, range(4 * HOSTS))
    command = f"case $filename in 00[012]_k) exit 3;; esac; {until(tmp_path / 'gate')}; cat"
    limits, job = Limits(halt_failed=3, halt_now=True), (f"sm://{bucket}/in/", f"sm://{bucket}/out/", command)
    if way == "attached":
        shared.map(*job, limits=limits, detach=True)
        wait_until(lambda: row_of(shared, bucket).states.get(TaskState.FAILED) == HOSTS, what="the tasks fail")
        assert row_of(shared, bucket).state == "running"
    with pytest.raises(JobFailed) as caught:
        shared.attach(row_of(shared, bucket).run) if way == "attached" else shared.map(*job, limits=limits)
    result = caught.value.result
    assert (result.ending, result.failed, result.done) == (Ending.HALTED, HOSTS, 0)
    assert row_of(shared, bucket).states == {TaskState.FAILED: HOSTS, TaskState.CANCELLED: 3 * HOSTS}


def test_host_halts_a_run_by_itself_that_nobody_follows(shared: Cluster, bucket: str) -> None:
    fill(shared, bucket, range(0, 8 * HOSTS, HOSTS))
    shared.map(
        f"sm://{bucket}/in/", f"sm://{bucket}/out/", "sleep 0.1; exit 3", limits=Limits(halt_failed=2), detach=True
    )
    wait_until(lambda: row_of(shared, bucket).state == "halted", what="the run is not halted")
    assert row_of(shared, bucket).states == {TaskState.FAILED: 2, TaskState.CANCELLED: 6}


def test_slow_task_is_named_while_it_runs(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    fill(shared, bucket, range(0, 5 * HOSTS, HOSTS))
    gate = tmp_path / "gate"
    named: list[tuple[str, int, float]] = []

    def report(progress: JobProgress) -> None:
        for slow in (slow for host in progress.hosts.values() for slow in host.slow):
            named.append((slow.key, slow.seconds, slow.median))
            gate.touch()

    command = f"if [ $filename = 012_k ]; then {until(gate)}; fi; sleep 0.05; cat"
    assert shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", command, report=report).done == 5
    assert {key for key, *_ in named} == {f"sm://{bucket}/in/012_k"}
    assert all(seconds >= 2 and 0.03 < median < 1 for _, seconds, median in named)


@pytest.mark.parametrize("prefix", ["", "true; "], ids=["plain", "shell"])
def test_attempt_has_its_memory_and_cpu_time(shared: Cluster, bucket: str, prefix: str) -> None:
    fill(shared, bucket, range(1))
    holds = "x = bytearray(80 << 20); import time; time.sleep(0.7)"
    burns = "import time; [0 for _ in iter(lambda: time.process_time() < 0.4, False)]"
    taken = []
    for name, program in (("held", holds), ("burnt", burns)):
        shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/{name}/", f"{prefix}python3 -c '{program}'")
        taken += attempts_of(shared, bucket)
    held, burnt = taken
    assert 80 << 20 < held.peak < 200 << 20
    assert held.user + held.system < 0.5 < held.ran
    assert 0.35 < burnt.user + burnt.system < 1.0
    assert burnt.peak < 60 << 20
