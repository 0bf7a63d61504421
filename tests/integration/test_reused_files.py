"""Files and directories that a worker's tasks use one after the other: what one task does to them no other one meets."""

from __future__ import annotations

from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.agent.daemon.task_directory import TaskDirectory
from sshmap.agent.daemon.task_directory import _is_telling as is_telling
from sshmap.client.job_results import JobFailed
from sshmap.model import Verb
from sshmap.store.digest import digest_fd, digest_of
from sshmap.store.layout import Root

KEYS = 24
#: what every third task does to the file it is given the path of
HARM = [
    'rm -f "$f"', 'rm -f "$f"; mkdir "$f"; touch "$f/inner"', 'ln -sf {canary}/file "$f"', 'rm -f "$f"; mkfifo "$f"', 'ln "$f" "$f.link"',
    'chmod 000 "$f"', 'chmod 444 "$f"', 'echo 0_planted >> "$f"', "true",
]  # fmt: skip


def put_all(cluster: Cluster, bucket: str) -> set[str]:
    """Store some keys on one host; return their base names."""
    names = {f"0_{number:02}" for number in range(KEYS)}
    for name in names:
        cluster.put(name.encode(), f"sm://{bucket}/in/{name}")
    return names


def run(cluster: Cluster, bucket: str, verb: Verb, command: str) -> dict[str, bytes]:
    """Run a command; return its outputs by what follows OUTDIR."""
    failed: list[str] = []
    try:
        cluster.submit(verb, f"sm://{bucket}/in/", f"sm://{bucket}/out/", command)
    except JobFailed as exc:
        failed = [failure.key for failure in exc.result.failures]
    assert not [key for key in failed if int(key.rsplit("_", 1)[1]) % 3 != 1], "only tasks that did harm fail"
    outputs = cluster.ls(f"sm://{bucket}/out/", recursive=True)
    names = [row.path for row in outputs]
    return {name.removeprefix(f"{bucket}/out/"): cluster.get(f"sm://{name}") for name in names}


def every_third(harm: str, number: str) -> str:
    return f"case $(( 10#{number} % 3 )) in 1) {harm};; esac"


@pytest.mark.parametrize("harm", HARM)
def test_file_of_printed_names_is_each_tasks_own(shared: Cluster, bucket: str, canary: Path, harm: str) -> None:
    names = put_all(shared, bucket)
    harmful = every_third(harm.format(canary=canary), "${filename#0_}")
    command = f"f=$(readlink /proc/$BASHPID/fd/1); cat > 0_f; echo 0_f; {harmful}"
    outputs = run(shared, bucket, Verb.FANOUT, command)
    harmless = {name for name in names if int(name[2:]) % 3 != 1}
    assert {name: outputs[f"{name}/0_f"] for name in harmless} == {name: name.encode() for name in harmless}
    assert set(outputs) <= {f"{name}/0_f" for name in names}


@pytest.mark.parametrize("harm", HARM)
def test_list_of_a_merges_inputs_is_each_tasks_own(shared: Cluster, bucket: str, canary: Path, harm: str) -> None:
    for number in range(KEYS):
        shared.put(b"%d" % number, f"sm://{bucket}/in/d{number}/x_0_{number:02}")
    harmful = every_third(harm.format(canary=canary), "${SSHMAP_NAME##*_}")
    outputs = run(shared, bucket, Verb.MERGE, f"f=$SSHMAP_FILE; xargs cat; {harmful}")
    for number in range(KEYS):
        if number % 3 != 1:
            assert outputs[f"x_0_{number:02}"] == b"%d" % number


def test_what_quick_tasks_leave_in_their_directory_the_next_ones_do_not_find(shared: Cluster, bucket: str) -> None:
    """Also within one tick of the kernel's clock, in which a directory's time of change stays the same."""
    put_all(shared, bucket)
    outputs = run(shared, bucket, Verb.MAP, "ls -A | wc -l; ls -A .. | wc -l; touch left ../beside")
    assert set(outputs.values()) == {b"0\n1\n"}


@pytest.fixture
def directory(tmp_path: Path) -> TaskDirectory:
    root = Root(tmp_path / "root")
    root.create()
    return TaskDirectory(root)


def test_empty_directory_is_the_same_for_the_next_task(directory: TaskDirectory) -> None:
    assert directory.ready() == directory.ready()


@pytest.mark.parametrize("beside", ["left", "../left"])
def test_directory_in_which_something_lies_is_replaced_or_emptied(directory: TaskDirectory, beside: str) -> None:
    for _ in range(50):
        work = Path(directory.ready())
        (work / beside).touch()
        assert not list(Path(directory.ready()).iterdir())
        assert [entry.name for entry in Path(directory.ready()).parent.iterdir()] == ["work"]


def test_link_in_the_place_of_the_working_directory_is_not_followed(directory: TaskDirectory, canary: Path) -> None:
    """Not even to look what lies there: a worker that tidies up deletes files."""
    work = Path(directory.ready())
    work.rmdir()
    work.symlink_to(canary)
    directory.empty()
    assert Path(directory.ready()) != work
    directory.close()


@pytest.mark.parametrize(
    ("changed", "telling"),
    [((5, 7), True), ((1_000_000_000, 7), False), ((7, 2_000_000_000), False), ((7, 10**30), False)],
)
def test_time_of_change_tells_only_if_a_later_one_would_be_another(changed: tuple[int, int], telling: bool) -> None:
    """Not within a tick of the clock, and not where the file system knows whole seconds only."""
    assert is_telling(changed) is telling


def test_reused_file_holds_what_it_was_filled_with_last(directory: TaskDirectory) -> None:
    directory.ready()
    for content in (b"first, longer", b"second", b""):
        assert Path(directory.reused("members", content)).read_bytes() == content
    assert directory.taken() == [], "it stays"
    directory.close()


def test_working_directory_lies_apart_from_the_workers_files(directory: TaskDirectory) -> None:
    work = Path(directory.ready())
    assert not Path(directory.fresh("out")).is_relative_to(work.parent.parent)


@pytest.mark.parametrize("expected", [-1, 0, 3, 7, 8, 300_000])
@pytest.mark.parametrize("content", [b"", b"content", b"x" * 400_000])
def test_digest_is_that_of_the_content_whatever_size_was_expected(
    tmp_path: Path, content: bytes, expected: int
) -> None:
    (tmp_path / "file").write_bytes(content)
    with open(tmp_path / "file", "rb") as file:
        assert digest_fd(file.fileno(), expected) == (len(content), digest_of(content))
