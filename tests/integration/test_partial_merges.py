"""A merge of what a fan-out has not made whole is refused, and says what is missing; what nobody misses any more is not counted."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.errors import Refused
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.wholeness import Wholeness
from tests.unit.test_migration import STORED, stored

#: fails for inputs that a file beside the hosts names
PICKY = 'grep -qx "$filename" {bad} && exit 9; for n in 0 1 2; do cat > 00${{n}}_x; echo 00${{n}}_x; done'
MERGE = "xargs cat | wc -l"


class Shuffle:
    """A fan-out that fails for some inputs, and a merge of what it makes.

    Args:
        cluster: where.
        bucket: its own.
        folder: where the names of bad inputs stand.
    """

    def __init__(self, cluster: Cluster, bucket: str, folder: Path) -> None:
        self._cluster, self._bucket, self._bad = cluster, bucket, folder / "bad"
        self.command = PICKY.format(bad=self._bad)
        for number in range(6):
            cluster.put(b"line\n", f"sm://{bucket}/in/{number:03}_k")

    def fan(self, *bad: str, indir: str = "in/", command: str = "", replace: bool = False) -> None:
        """Fan out; inputs of these names fail."""
        self._bad.write_text("".join(f"{name}\n" for name in bad))
        try:
            self._cluster.fanout(
                f"sm://{self._bucket}/{indir}", f"sm://{self._bucket}/out/", command or self.command, replace=replace
            )
        except JobFailed:
            assert bad
        else:
            assert not bad

    def merge(self, indir: str = "out/", *, partial: bool = False) -> int:
        """Merge what the fan-out made; return how many groups there were."""
        result = self._cluster.merge(
            f"sm://{self._bucket}/{indir}", f"sm://{self._bucket}/merged/", MERGE, partial=partial, replace=True
        )
        return result.done + result.kept

    def rm(self, prefix: str, *, recursive: bool = True) -> None:
        """Delete keys."""
        self._cluster.rm(f"sm://{self._bucket}/{prefix}", recursive=recursive)


@pytest.fixture
def shuffle(shared: Cluster, bucket: str, tmp_path: Path) -> Shuffle:
    return Shuffle(shared, bucket, tmp_path)


def test_failed_tasks_are_counted_and_partial_goes_on(shuffle: Shuffle) -> None:
    shuffle.fan("001_k", "004_k")
    with pytest.raises(Refused, match=r"out/ is not whole: of fan-out [0-9a-f]{12} 2 tasks have failed$") as caught:
        shuffle.merge()
    assert (caught.value.exit_code, "--partial" in caught.value.hint) == (4, True)
    assert shuffle.merge(partial=True) == 3
    shuffle.fan()
    assert shuffle.merge() == 3


def test_a_glob_and_a_part_of_the_directory_are_looked_at_as_well(shuffle: Shuffle) -> None:
    shuffle.fan("001_k")
    for indir in ("out/*/*", "out/001_k/", "out/*/00*"):
        with pytest.raises(Refused, match="not whole"):
            shuffle.merge(indir)
    assert shuffle.merge("out/002_k/") == 3


def test_another_command_that_made_the_outputs_counts(shuffle: Shuffle) -> None:
    shuffle.fan("001_k")
    shuffle.fan(command="for n in 0 1 2; do cat > 00${n}_x; echo 00${n}_x; done", replace=True)
    assert shuffle.merge() == 3


def test_outputs_that_a_former_command_made_and_a_later_run_kept_count(shuffle: Shuffle) -> None:
    shuffle.fan()
    shuffle.fan("001_k", command=f"{shuffle.command}; : another", replace=True)
    with pytest.raises(Refused, match="1 tasks have failed"):
        shuffle.merge()
    shuffle.fan(replace=True)
    assert shuffle.merge() == 3


def test_input_that_is_gone_is_not_missed(shuffle: Shuffle) -> None:
    shuffle.fan("001_k")
    shuffle.rm("in/001_k", recursive=False)
    assert shuffle.merge() == 3


def test_directory_that_was_deleted_is_not_missed(shuffle: Shuffle) -> None:
    shuffle.fan("001_k")
    shuffle.rm("out/")
    shuffle.fan(indir="in/002*")
    assert shuffle.merge() == 3
    shuffle.fan("003_k", indir="in/003*")
    with pytest.raises(Refused, match="1 tasks have failed"):
        shuffle.merge()
    shuffle.rm("out/003")
    assert shuffle.merge() == 3


def test_other_directories_and_other_verbs_do_not_count(shuffle: Shuffle, shared: Cluster, bucket: str) -> None:
    shuffle.fan("001_k")
    with pytest.raises(JobFailed):
        shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/mapped/", "exit 3")
    shared.put(b"x\n", f"sm://{bucket}/mapped/000_k")
    assert shuffle.merge("mapped/") == 1
    assert shuffle.merge("in/") == 6


@pytest.mark.parametrize("path", STORED[-1:], ids=lambda path: path.stem)
def test_files_that_wait_in_the_outbox_are_counted(tmp_path: Path, path: Path) -> None:
    root = Root(tmp_path / "root")
    root.create()
    stored(root, path)
    with contextlib.closing(Ledger(root)) as ledger:
        (gap,) = Wholeness(ledger, "days/").gaps()
        assert (gap.failed, gap.unfinished, gap.files) == (1, 0, 1)
        assert [one.files for one in Wholeness(ledger, "days/a/").gaps()] == [1]
        assert Wholeness(ledger, "day/").gaps() == []
        with ledger.change() as db:
            db.execute("UPDATE tasks SET state = 'running' WHERE state = 'sending'")
        (gap,) = Wholeness(ledger, "days/").gaps()
        assert (gap.failed, gap.unfinished, gap.files) == (1, 1, 0)
