"""The same command twice, other commands for the same outputs, and several clients at once: promise 5 and the receipts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed, JobResult
from sshmap.client.jobs import JobRun
from sshmap.errors import DigestMismatch, OtherReceipt, SshmapError
from sshmap.model import Verb
from tests.conftest import wait_until

KEYS = 12
FIRST = {
    Verb.MAP: 'echo "$SSHMAP_NAME" >> {log}; tr a-z A-Z',
    Verb.FANOUT: 'echo "$SSHMAP_NAME" >> {log}; for n in 0 1 2; do cat > ${{n}}_p < "$SSHMAP_FILE"; echo ${{n}}_p; done',
    Verb.MERGE: 'echo "$SSHMAP_NAME" >> {log}; xargs cat',
}


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Takes a line from each command that runs."""
    return tmp_path / "log"


class Loaded(msgspec.Struct, frozen=True):
    """A cluster with some inputs in a bucket of the test's own; names are given below the bucket."""

    cluster: Cluster
    bucket: str

    def key(self, path: str) -> str:
        """Write a key or directory in full."""
        return f"sm://{self.bucket}/{path}"

    def submit(self, verb: Verb, command: str, *, replace: bool = False, shipped: tuple[Path, ...] = ()) -> JobResult:
        """Run a job from in/ to out/."""
        return self.cluster.submit(verb, self.key("in/"), self.key("out/"), command, replace=replace, shipped=shipped)

    def map(self, command: str, *, replace: bool = False, shipped: tuple[Path, ...] = ()) -> JobResult:
        """Run a map."""
        return self.submit(Verb.MAP, command, replace=replace, shipped=shipped)

    @contextlib.contextmanager
    def beside(self) -> Iterator[Loaded]:
        """The same seen by another client."""
        with Cluster(self.cluster.inventory) as other:
            yield Loaded(other, self.bucket)

    def change(self, path: str, content: bytes) -> None:
        """Delete a key and put it again."""
        self.cluster.rm(self.key(path))
        self.cluster.put(content, self.key(path))

    def outputs(self) -> dict[str, bytes]:
        """Return all keys below out/ by their paths there."""
        prefix = f"{self.bucket}/out/"
        names = [row.path for row in self.cluster.ls(f"sm://{prefix}", recursive=True)]
        return {name.removeprefix(prefix): self.cluster.get(f"sm://{name}") for name in names}


@pytest.fixture
def loaded(shared: Cluster, bucket: str) -> Loaded:
    """Some inputs."""
    for number in range(KEYS):
        shared.put(b"text %d\n" % number, f"sm://{bucket}/in/x/k{number}")
    return Loaded(shared, bucket)


@pytest.fixture
def runs(log: Path) -> Callable[[], int]:
    """Say how many commands have run since the last time."""
    seen = 0

    def count() -> int:
        nonlocal seen
        total = len(log.read_text().splitlines()) if log.exists() else 0
        fresh, seen = total - seen, total
        return fresh

    return count


def counts(result: JobResult) -> tuple[int, int, int]:
    """Return tasks done, failed and kept."""
    return result.done, result.failed, result.kept


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_same_command_twice_keeps_everything(loaded: Loaded, log: Path, runs: Callable[[], int], verb: Verb) -> None:
    """The second time no command runs and nothing changes."""
    command = FIRST[verb].format(log=log)
    assert counts(loaded.submit(verb, command)) == (KEYS, 0, 0)
    made = loaded.outputs()
    assert runs() == KEYS
    assert counts(loaded.submit(verb, command)) == (0, 0, KEYS)
    assert counts(loaded.submit(verb, command, replace=True)) == (0, 0, KEYS)
    assert runs() == 0
    assert loaded.outputs() == made


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_other_command_is_refused_and_replaces_if_told_to(
    loaded: Loaded, log: Path, runs: Callable[[], int], verb: Verb
) -> None:
    """Refused with both commands shown, before anything runs; `--replace` swaps every output."""
    loaded.submit(verb, FIRST[verb].format(log=log))
    before = loaded.outputs()
    runs()
    other = (
        FIRST[verb].format(log=log).replace("echo", "echo  ", 1)
        if verb is Verb.FANOUT
        else f"echo x >> {log}; echo swapped"
    )
    with pytest.raises(OtherReceipt) as caught:
        loaded.submit(verb, other)
    assert caught.value.exit_code == 4
    assert repr(FIRST[verb].format(log=log)) in caught.value.message
    assert repr(other) in caught.value.message
    assert "--replace" in caught.value.hint
    assert runs() == 0
    assert loaded.outputs() == before
    assert counts(loaded.submit(verb, other, replace=True)) == (KEYS, 0, 0)
    assert runs() == KEYS
    after = loaded.outputs()
    assert after.keys() == before.keys()
    assert verb is Verb.FANOUT or set(after.values()) == {b"swapped\n"}
    assert counts(loaded.submit(verb, other)) == (0, 0, KEYS)


def test_shipped_file_that_changed_is_another_work(loaded: Loaded, tmp_path: Path) -> None:
    """Its digest is part of the receipt, and the refusal names it."""
    script = tmp_path / "script.sh"
    script.write_text("cat")
    loaded.map("bash script.sh", shipped=(script,))
    assert loaded.map("bash script.sh", shipped=(script,)).kept == KEYS
    script.write_text("cat; echo more")
    with pytest.raises(OtherReceipt, match=r"script\.sh"):
        loaded.map("bash script.sh", shipped=(script,))
    assert loaded.map("bash script.sh", shipped=(script,), replace=True).done == KEYS


@pytest.mark.parametrize(
    ("verb", "output"),
    [(Verb.MAP, "x/k3"), (Verb.FANOUT, "k3/1_p"), (Verb.MERGE, "k3")],
    ids=["map", "fanout", "merge"],
)
def test_deleting_one_output_runs_one_task(
    loaded: Loaded, log: Path, runs: Callable[[], int], verb: Verb, output: str
) -> None:
    """What is missing is made again, nothing else."""
    command = FIRST[verb].format(log=log)
    loaded.submit(verb, command)
    made = loaded.outputs()
    runs()
    loaded.cluster.rm(loaded.key(f"out/{output}"))
    assert counts(loaded.submit(verb, command)) == (1, 0, KEYS - 1)
    assert runs() == 1
    assert loaded.outputs() == made


def test_new_input_runs_one_task(loaded: Loaded, log: Path, runs: Callable[[], int]) -> None:
    """An input more is a task more."""
    loaded.map(FIRST[Verb.MAP].format(log=log))
    runs()
    loaded.cluster.put(b"late", loaded.key("in/x/late"))
    assert counts(loaded.map(FIRST[Verb.MAP].format(log=log))) == (1, 0, KEYS)
    assert runs() == 1


def test_fanout_that_replaces_removes_stale_outputs(loaded: Loaded) -> None:
    """Files of the former command that the new one does not make are gone, on all hosts; those of other directories stay."""
    loaded.submit(Verb.FANOUT, "for n in 0 1 2 3 4 5; do echo $n > ${n}_p; echo ${n}_p; done")
    loaded.cluster.put(b"mine", loaded.key("out/by-hand/file"))
    loaded.submit(Verb.FANOUT, "for n in 4 5 6; do echo new > ${n}_p; echo ${n}_p; done", replace=True)
    expected = {f"k{number}/{part}_p": b"new\n" for number in range(KEYS) for part in (4, 5, 6)}
    assert loaded.outputs() == {**expected, "by-hand/file": b"mine"}


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_input_that_changed_is_refused_with_the_reason(loaded: Loaded, log: Path, verb: Verb) -> None:
    """Deleted and put again with other content: the output would be stale, so the input is named."""
    command = FIRST[verb].format(log=log)
    loaded.submit(verb, command)
    loaded.change("in/x/k5", b"changed\n")
    with pytest.raises(OtherReceipt, match=loaded.key("in/x/k5")) as caught:
        loaded.submit(verb, command)
    assert "input" in caught.value.message
    result = loaded.submit(verb, command, replace=True)
    assert counts(result) == (1, 0, KEYS - 1)
    assert b"changed\n".upper() in {value.upper() for value in loaded.outputs().values()}


def test_input_put_again_with_equal_content_changes_nothing(loaded: Loaded) -> None:
    """Only content counts."""
    loaded.map("cat")
    loaded.change("in/x/k5", b"text 5\n")
    assert counts(loaded.map("cat")) == (0, 0, KEYS)


def test_key_put_by_hand_is_not_overwritten_by_a_job(loaded: Loaded) -> None:
    """A key without a receipt at an output is refused, and swapped only if told to."""
    loaded.cluster.put(b"by hand", loaded.key("out/x/k1"))
    with pytest.raises(OtherReceipt, match=loaded.key("out/x/k1")):
        loaded.map("cat")
    assert loaded.outputs() == {"x/k1": b"by hand"}
    assert loaded.map("cat", replace=True).done == KEYS
    assert loaded.cluster.get(loaded.key("out/x/k1")) == b"text 1\n"


def test_failed_tasks_alone_run_again(loaded: Loaded, tmp_path: Path, log: Path, runs: Callable[[], int]) -> None:
    """After the reason is gone, the same command does the rest."""
    command = f'echo x >> {log}; case "$SSHMAP_NAME" in k1|k2) test -e {tmp_path}/mended;; esac; cat'
    with pytest.raises(JobFailed) as caught:
        loaded.map(command)
    assert counts(caught.value.result) == (KEYS - 2, 2, 0)
    (tmp_path / "mended").touch()
    runs()
    assert counts(loaded.map(command)) == (2, 0, KEYS - 2)
    assert runs() == 2


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_clients_that_submit_one_job_share_it(loaded: Loaded, log: Path, runs: Callable[[], int], verb: Verb) -> None:
    """Four clients at once: all succeed and see all of it done or kept, and each task runs once."""
    command = FIRST[verb].format(log=log)

    def submit(_: int) -> JobResult:
        with loaded.beside() as other:
            return other.submit(verb, command)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(submit, range(4)))
    assert runs() == KEYS
    assert {result.done + result.kept for result in results} == {KEYS}
    assert len({result.job for result in results}) == 1


@pytest.mark.parametrize("verb", Verb, ids=lambda verb: str(verb.value))
def test_clients_that_open_one_job_on_other_hosts_first_agree_on_one_run(
    loaded: Loaded, log: Path, runs: Callable[[], int], monkeypatch: pytest.MonkeyPatch, verb: Verb
) -> None:
    """Each has made a run on a host when it looks at the others."""
    command = FIRST[verb].format(log=log)
    names = [host.name for host in loaded.cluster.inventory.hosts]
    barrier, ask = threading.Barrier(2), JobRun._open_on

    def crosswise(job: JobRun, hosts: Iterable[str] | None, *, agreed: bool = False) -> object:
        if hosts is not None:
            return ask(job, hosts, agreed=agreed)
        mine = names[:1] if threading.current_thread() is threading.main_thread() else names[1:]
        first = ask(job, mine)
        barrier.wait(20)
        second = ask(job, [name for name in names if name not in mine])
        barrier.wait(20)
        return first[0] | second[0], first[1] | second[1]

    monkeypatch.setattr(JobRun, "_open_on", crosswise)
    with loaded.beside() as other, ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(other.submit, verb, command)
        results = [loaded.submit(verb, command), theirs.result()]
    assert runs() == KEYS
    assert [result.done + result.kept for result in results] == [KEYS] * 2
    (row,) = [row for row in loaded.cluster.jobs() if row.outdir == loaded.key("out/")]
    assert (row.state, set(row.hosts)) == ("done", set(names))


@pytest.mark.parametrize("when", ["before", "after"])
def test_fanout_that_ends_while_it_is_asked_for_again_is_not_run_again(
    loaded: Loaded, tmp_path: Path, log: Path, runs: Callable[[], int], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Another client's run of it, begun before or after this one is asked, ends after this one has looked at what lies on the hosts."""
    gate = tmp_path / "gate"
    command = f"until test -e {gate}; do read -t 0.02 < <(:) || true; done; {FIRST[Verb.FANOUT].format(log=log)}"
    look = JobRun._count_outputs
    looked: list[bool] = []

    def submit() -> JobResult:
        with loaded.beside() as other:
            return other.submit(Verb.FANOUT, command)

    def begin(pool: ThreadPoolExecutor) -> Future[JobResult]:
        running = pool.submit(submit)
        wait_until(lambda: sum(condition.running for condition in loaded.cluster.statuses()[0].values()) == 3)
        return running

    with ThreadPoolExecutor(1) as pool:
        first = [begin(pool)] if when == "before" else []

        def count(job: JobRun, names: Iterable[str]) -> object:
            found = look(job, names)
            if threading.current_thread() is threading.main_thread():
                looked.append(True)
                running = first[0] if first else begin(pool)
                gate.touch()
                assert counts(running.result()) == (KEYS, 0, 0)
            return found

        with monkeypatch.context() as patched:
            patched.setattr(JobRun, "_count_outputs", count)
            try:
                result = loaded.submit(Verb.FANOUT, command)
            finally:
                gate.touch()
    assert (counts(result), runs(), looked) == ((KEYS, 0, 0), KEYS, [True])
    loaded.cluster.rm(loaded.key("out/k3/1_p"))
    assert (counts(loaded.submit(Verb.FANOUT, command)), runs()) == ((1, 0, KEYS - 1), 1)


def test_of_two_jobs_with_one_output_one_wins_each_key(loaded: Loaded) -> None:
    """The other job's tasks fail with exit code 4; every key is whole and of one of the two."""

    def submit(word: str) -> int:
        with loaded.beside() as other:
            try:
                other.map(f"read -t 0.05 < <(:) || true; echo {word}")
            except SshmapError as exc:
                return exc.exit_code
            return 0

    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(submit, ["one", "two"]))
    assert set(codes) <= {0, 4}
    assert 4 in codes
    made = loaded.outputs()
    assert len(made) == KEYS
    assert set(made.values()) <= {b"one\n", b"two\n"}


@pytest.mark.parametrize("size", [10, 400_000])
def test_reader_never_sees_a_swap_as_damage(loaded: Loaded, size: int) -> None:
    """While outputs are swapped, a read gives the old content or the new, or says that the key was replaced; never that it is damaged."""
    rounds = {letter: f"head -c {size} /dev/zero | tr '\\0' {letter}" for letter in "abcdefghijkl"}
    loaded.map(rounds.pop("a"))
    told: list[str] = []
    values: set[bytes] = set()
    stop: list[bool] = []

    def read() -> None:
        while not stop:
            with loaded.beside() as other:
                try:
                    values.update(other.cluster.get(loaded.key(f"out/x/k{number}")) for number in range(KEYS))
                except DigestMismatch as exc:
                    told.append(exc.message)

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for command in rounds.values():
                loaded.map(command, replace=True)
        finally:
            stop.append(True)
        for reader in readers:
            reader.result()
    assert values <= {size * letter.encode() for letter in "abcdefghijkl"}
    assert not [message for message in told if "was replaced" not in message]


@pytest.mark.parametrize("reads", ["cat", 'cat "$SSHMAP_FILE"'])
def test_input_swapped_while_its_task_runs_is_not_mixed_up(loaded: Loaded, tmp_path: Path, reads: str) -> None:
    """A task planned for other content than there is when it ends is refused; no output gets a receipt that lies."""
    command = f"while ! test -e {tmp_path}/go; do read -t 0.02 < <(:) || true; done; {reads}"

    def submit() -> int:
        with loaded.beside() as other:
            try:
                other.map(command)
            except SshmapError as exc:
                return exc.exit_code
            return 0

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(submit)
        wait_until(lambda: sum(condition.running for condition in loaded.cluster.statuses()[0].values()) == 3)
        for number in range(KEYS):
            loaded.change(f"in/x/k{number}", b"changed %d\n" % number)
        (tmp_path / "go").touch()
        assert running.result() == 4
    assert loaded.outputs() == {}
    loaded.map(command)
    assert loaded.outputs() == {f"x/k{number}": b"changed %d\n" % number for number in range(KEYS)}
