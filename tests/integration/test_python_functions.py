"""Python functions as steps: warm interpreters that run one task after the other, and what becomes of those that misbehave."""

from __future__ import annotations

import collections
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.execution.processes import below
from sshmap.client.job_results import JobFailed
from sshmap.errors import OtherReceipt
from sshmap.functions import Input, Inputs, Output, Outputs
from sshmap.limits import Limits
from tests import sshd
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

KEYS = 12
#: part of what a function leaves running
MARK = "4711.2"
CALLS: list[str] = []


@pytest.fixture
def filled(shared: Cluster, bucket: str) -> str:
    """A bucket with inputs on all hosts."""
    for number in range(KEYS):
        shared.put(b"w%d common\n" % number, f"sm://{bucket}/in/x/k{number}")
    return bucket


def results(cluster: Cluster, prefix: str) -> dict[str, bytes]:
    """Return all keys below a prefix."""
    return {row.name.removeprefix(prefix): cluster.get(row) for row in cluster.where(prefix)}


def run(
    cluster: Cluster, bucket: str, function: Callable[[Input, Output], object], to: str = "out", **options: object
) -> dict[str, bytes]:
    """Map a function over the inputs, and return what it made."""
    cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/{to}/", function, **options)  # type: ignore[arg-type]
    return results(cluster, f"sm://{bucket}/{to}/x/")


def words(rows: Input, out: Output) -> None:
    out.csv([word, count] for word, count in sorted(collections.Counter(rows.text().split()).items()))


def by_word(rows: Input, outputs: Outputs) -> None:
    for word, count in rows.csv():
        outputs[word].write(f"{count}\n")


def total(group: Inputs, out: Output) -> None:
    out.lines([sum(int(line) for one in group for line in one.lines())])


def test_pipeline_of_functions(shared: Cluster, filled: str) -> None:
    made = run(shared, filled, words)
    assert made == {f"k{number}": b"common,1\nw%d,1\n" % number for number in range(KEYS)}
    shared.fanout(f"sm://{filled}/out/", f"sm://{filled}/parts/", by_word)
    shared.merge(f"sm://{filled}/parts/", f"sm://{filled}/total/", total)
    counts = {"common": KEYS, **{f"w{number}": 1 for number in range(KEYS)}}
    assert results(shared, f"sm://{filled}/total/") == {word: b"%d\n" % count for word, count in counts.items()}


def test_what_it_prints_is_output_too_in_order(shared: Cluster, filled: str) -> None:
    def talk(rows: Input, out: Output) -> None:
        print("one", rows.name)
        out.write("two\n")
        print(os.path.basename(os.environ["SSHMAP_FILE"]), os.environ["SSHMAP_KEY"][-2:], sys.stdin.read(2))
        print("to stderr", file=sys.stderr)

    assert run(shared, filled, talk)["k3"] == b"one k3\ntwo\nk3 k3 w3\n"


def count_calls(rows: Input, out: Output) -> None:
    CALLS.append(rows.name)
    out.write(f"{os.getpid()} {len(CALLS)}")


def test_interpreter_stays_warm_for_the_tasks_of_a_job(shared: Cluster, filled: str) -> None:
    made = [content.split() for content in run(shared, filled, count_calls).values()]
    assert len({pid for pid, _ in made}) < KEYS
    assert max(int(calls) for _, calls in made) > 1
    # another job has interpreters of its own, in which nothing was called yet
    again = [content.split() for content in run(shared, filled, count_calls_otherwise, "other").values()]
    assert not {pid for pid, _ in made} & {pid for pid, _ in again}


def count_calls_otherwise(rows: Input, out: Output) -> None:
    count_calls(rows, out)


def leak(rows: Input, out: Output) -> None:
    CALLS.append("x" * (600 << 20))
    out.write(f"{os.getpid()} {len(CALLS)}")


def leave_thread(rows: Input, out: Output) -> None:
    out.write(f"{os.getpid()} {threading.active_count()}")
    threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()


@pytest.mark.parametrize(("function", "most"), [(leak, 2), (leave_thread, 1)])
def test_interpreter_that_grows_or_has_threads_left_is_replaced(
    shared: Cluster, filled: str, function: Callable[[Input, Output], object], most: int
) -> None:
    made = [content.split() for content in run(shared, filled, function, limits=Limits(jobs="1")).values()]
    assert max(int(count) for _, count in made) <= most
    assert all(len(row) == 2 for row in made)


def test_exception_is_the_tasks_failure_with_its_traceback(shared: Cluster, filled: str) -> None:
    def pick(rows: Input, out: Output) -> None:
        out.write("begun")
        if rows.name in {"k1", "k2"}:
            raise KeyError("tip")
        out.write(" ended")

    with pytest.raises(JobFailed) as failed:
        run(shared, filled, pick)
    result = failed.value.result
    assert (result.done, result.failed) == (KEYS - 2, 2)
    (message,) = {failure.message for failure in result.failures}
    assert message.startswith("exit 1: ")
    assert "raise KeyError('tip')" in message
    assert "in pick\n" in message
    assert "runner.py" not in message
    # what a task that failed had written is in no other's output
    assert set(results(shared, f"sm://{filled}/out/x/").values()) == {b"begun ended"}


def end_at_once(rows: Input, out: Output) -> None:
    os._exit(0)


def crash(rows: Input, out: Output) -> None:
    ctypes.string_at(0)


def kill_supervisor(rows: Input, out: Output) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


def stop_itself(rows: Input, out: Output) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def answer_for_the_next(rows: Input, out: Output) -> None:
    os.write(4, b"0123456789abcdef 0 0 0 0 0\n" * 2)
    raise SystemExit(3)


def close_all(rows: Input, out: Output) -> None:
    os.closerange(0, 256)


def exit_with_three(rows: Input, out: Output) -> None:
    sys.exit(3)


def replace_everything(rows: Input, out: Output) -> None:
    for name in os.listdir(".."):
        os.rename(f"../{name}", f"../{name}.gone")
    os.chdir("/")
    os.environ.clear()
    sys.stdout = sys.stderr = None
    sys.path.clear()
    raise ValueError


@pytest.mark.parametrize(
    "attack",
    [end_at_once, crash, kill_supervisor, stop_itself, answer_for_the_next, close_all, exit_with_three, replace_everything],
    ids=lambda attack: str(attack.__name__),
)  # fmt: skip
def test_function_that_misbehaves_fails_alone(
    shared: Cluster, filled: str, attack: Callable[[Input, Output], object]
) -> None:
    """One attempt is lost, or the task fails; the tasks before and after it on the same worker are right."""
    file = Path(__file__).read_text(encoding="utf-8")
    assert f"def {attack.__name__}" in file
    victim = "k5"

    def maybe(rows: Input, out: Output) -> None:
        out.write(f"{rows.name}: {rows.text()}")
        if rows.name == victim:
            attack(rows, out)

    with pytest.raises(JobFailed) as failed:
        run(shared, filled, maybe, limits=Limits(timeout=20.0))
    assert {failure.key for failure in failed.value.result.failures} == {f"sm://{filled}/in/x/{victim}"}
    expected = {f"k{number}": b"k%d: w%d common\n" % (number, number) for number in range(KEYS) if number != 5}
    assert results(shared, f"sm://{filled}/out/x/") == expected


def write_late(rows: Input, out: Output) -> None:
    def write() -> None:
        while not output.closed:
            time.sleep(0.001)
        while True:
            os.write(1, b"late")
            time.sleep(0.01)

    output = sys.stdout
    threading.Thread(target=write, daemon=True).start()
    out.write(rows.name)


def fork(rows: Input, out: Output) -> None:
    out.write("begin ")
    if os.fork() == 0:
        sys.exit(0)
    os.wait()
    out.write(rows.name)


def fork_and_leave(rows: Input, out: Output) -> None:
    out.write(rows.name)
    if os.fork() == 0:
        time.sleep(0.2)


def close_streams(rows: Input, out: Output) -> None:
    with open(0, "rb") as file:
        assert file.read()
    out.write(rows.name)
    sys.stdout.flush()
    subprocess.run(["true"], check=True)


def write_below(rows: Input, out: Output) -> None:
    ctypes.CDLL(None).printf(b"%s", rows.name.encode())
    print(" below ", end="", file=sys.__stdout__)
    os.umask(0o777)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def start_program(rows: Input, out: Output) -> None:
    os.close(0)
    subprocess.run(["cat"], stdin=subprocess.DEVNULL, check=True)
    subprocess.run(["echo", rows.name], check=True)


LEFT: dict[Callable[[Input, Output], object], str] = {
    write_late: "{}", fork: "begin {}", fork_and_leave: "{}", close_streams: "{}", write_below: " below {}", start_program: "{}\n",
}  # fmt: skip


@pytest.mark.parametrize("function", LEFT, ids=lambda function: str(function.__name__))
def test_what_a_task_leaves_behind_reaches_no_other(
    shared: Cluster, filled: str, function: Callable[[Input, Output], object]
) -> None:
    made = run(shared, filled, function, limits=Limits(jobs="1"))
    assert made == {f"k{number}": LEFT[function].format(f"k{number}").encode() for number in range(KEYS)}
    assert not any(host.damages for host in shared.verify(f"sm://{filled}/out/").values())


def test_time_limit_ends_it_with_what_it_has_started(shared: Cluster, filled: str) -> None:
    def wait(rows: Input, out: Output) -> None:
        subprocess.Popen(["sleep", MARK], start_new_session=True)
        if rows.name == "k1":
            time.sleep(60)

    with pytest.raises(JobFailed) as failed:
        run(shared, filled, wait, limits=Limits(timeout=0.5))
    (failure,) = failed.value.result.failures
    assert (failure.key, failure.kind) == (f"sm://{filled}/in/x/k1", "TimeLimit")
    wait_until(lambda: not fleet.processes_marked(f"sleep {MARK}"))


def hold_on(rows: Input, out: Output) -> None:
    """Tell who it is, and neither end nor be asked to."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
    Path(rows.text().split()[0], f"{rows.name}.{os.getpid()}").touch()
    for _ in range(600):
        time.sleep(0.1)


@pytest.fixture
def told(shared: Cluster, bucket: str, tmp_path: Path) -> Path:
    """Where `hold_on` tells who it is."""
    told = tmp_path / "told"
    told.mkdir()
    for number in range(KEYS):
        shared.put(f"{told} {number}".encode(), f"sm://{bucket}/in/x/k{number}")
    return told


def pids_in(told: Path) -> list[int]:
    return [int(path.name.rsplit(".", 1)[1]) for path in told.iterdir()]


def test_cancel_ends_functions_that_ignore_it_and_what_they_have_forked(
    shared: Cluster, bucket: str, told: Path
) -> None:
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", hold_on, detach=True)
    wait_until(lambda: len(pids_in(told)) >= 4, what="functions run")
    shared.cancel("last")
    assert not [pid for pid in pids_in(told) if fleet.is_alive(pid)]
    assert run(shared, bucket, words, "after").keys() == {f"k{number}" for number in range(KEYS)}


@pytest.mark.parametrize("role", ["worker", "supervisor", "daemon"])
def test_no_function_outlives_what_watches_over_it(shared: Cluster, bucket: str, told: Path, role: str) -> None:
    """New attempts may run; those of the killed one do not."""
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", hold_on, detach=True)
    wait_until(lambda: len(pids_in(told)) >= 2 * 3, what="functions run on all hosts")
    root = fleet.root_of(shared.inventory, "h0")
    victim = fleet.process_of(root, role)
    mine = set(pids_in(told)) & set(below(victim))
    assert mine
    fleet.kill(victim)
    wait_until(lambda: not any(map(fleet.is_alive, mine)), limit=10.0)
    shared.cancel("last")
    wait_until(lambda: not [pid for pid in pids_in(told) if fleet.is_alive(pid)], limit=10.0)


def test_threads_that_share_a_cluster_call_their_own_functions(shared: Cluster, filled: str) -> None:
    def make(number: int) -> Callable[[Input, Output], None]:
        def call(rows: Input, out: Output) -> None:
            out.write(f"{number} {rows.name}")

        return call

    def submit(number: int) -> None:
        made = run(shared, filled, make(number), f"out{number}")
        assert made == {f"k{key}": f"{number} k{key}".encode() for key in range(KEYS)}

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(8)))


def test_same_function_is_kept_and_a_changed_one_runs(shared: Cluster, filled: str) -> None:
    def first(rows: Input, out: Output) -> None:
        out.write("1")

    same = first

    def first(rows: Input, out: Output) -> None:  # type: ignore[no-redef]
        out.write("2")

    target = (f"sm://{filled}/in/", f"sm://{filled}/out/")
    assert shared.map(*target, same).done == KEYS
    assert shared.map(*target, same).kept == KEYS
    with pytest.raises(OtherReceipt, match=r"the files shipped with it differ: test_python_functions\.py"):
        shared.map(*target, first)
    assert shared.map(*target, first, replace=True).done == KEYS


def test_memory_and_cpu_time_are_those_of_the_task(shared: Cluster, filled: str) -> None:
    def burn(rows: Input, out: Output) -> None:
        if rows.name == "k1":
            held = bytearray(80 << 20)
            until = time.process_time() + 0.2
            while time.process_time() < until:
                held[0] = 1

    run(shared, filled, burn)
    rows = {row.key.rsplit("/", 1)[1]: row for _, row in shared.attempts("last")}
    assert rows["k1"].peak > 80 << 20
    assert rows["k1"].user + rows["k1"].system > 0.19
    assert all(row.peak < 60 << 20 and row.user < 0.15 for name, row in rows.items() if name != "k1")


def test_functions_run_on_hosts_reached_by_ssh(sshd_hosts: SshdHosts, bucket: str) -> None:
    """These have the shipped code alone, and no command line."""
    sshd_hosts.add(2)
    with Cluster(sshd_hosts.inventory("openssh", workers=1)) as cluster:
        _, failures = cluster.up()
        assert not failures
        for number in range(KEYS):
            cluster.put(b"w%d common\n" % number, f"sm://{bucket}/in/x/k{number}")
        assert run(cluster, bucket, words)["k3"] == b"common,1\nw3,1\n"
        cluster.fanout(f"sm://{bucket}/out/", f"sm://{bucket}/parts/", by_word)
        cluster.merge(f"sm://{bucket}/parts/", f"sm://{bucket}/total/", total)
        assert cluster.get(f"sm://{bucket}/total/common") == b"%d\n" % KEYS
        cluster.down(purge=True)
