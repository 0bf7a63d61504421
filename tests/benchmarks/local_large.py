"""Works on large keys: what a byte costs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.arena import CORES, Arena
from tests.benchmarks.inputs import PASSENGERS
from tests.benchmarks.local_small import xargs
from tests.benchmarks.measure import Side, alternate, call
from tests.benchmarks.report import Row

TIMES, ROW = 3, 2
_CUT = "cut -d, -f1-5"
#: splits a CSV file by passenger_count into files of the working directory
PARTITION = """awk -F, 'NR > 1 { print > ($4 "_trips.csv") }'"""


def cp_trips(arena: Arena) -> Iterator[Row]:
    """Copy the CSV files in and out."""
    sshmap, source = arena.cluster(), arena.held("trips")
    into = Side(
        lambda: sshmap("cp", "-r", str(arena.trips), "sm://copied/"), lambda: sshmap("rm", "-r", "sm://copied/")
    )
    out = Side(lambda: sshmap("cp", "-r", source, f"{arena.top}/out/"), lambda: arena.fresh("out"))
    plain = Side(lambda: call(["cp", "-r", str(arena.trips), f"{arena.top}/plain"]), lambda: _gone(arena.top / "plain"))
    took_in, took_out, limit = alternate(TIMES, into, out, plain, row=ROW)
    yield Row(f"cp -r in, {_size(arena)} vs cp -r", took_in, limit, 3)
    yield Row(f"cp -r out, {_size(arena)} vs cp -r", took_out, limit, 3)


def map_trips(arena: Arena) -> Iterator[Row]:
    """Map ``cut`` over the CSV files."""
    sshmap, source = arena.cluster(), arena.held("trips")
    ours = Side(lambda: sshmap("map", source, "sm://cut/", _CUT), lambda: sshmap("rm", "-r", "sm://cut/"))
    plain = Side(lambda: xargs(arena.trips, arena.fresh("cut"), _CUT), lambda: arena.fresh("cut"))
    # the runs are short, and so the ratio would be that of two chances
    took, limit = alternate(2 * TIMES, ours, plain, row=ROW)
    yield Row(f"map cut, {_size(arena)} vs xargs", took, limit, 1.15)


def shuffle(arena: Arena) -> Iterator[Row]:
    """Fan the CSV files out by passenger count and merge them."""
    sshmap, source = arena.cluster(), arena.held("trips")

    def ours() -> None:
        sshmap("fanout", source, "sm://split/", f"{PARTITION}; ls")
        sshmap("merge", "sm://split/", "sm://merged/", "xargs cat")

    def clear() -> None:
        sshmap("rm", "-r", "sm://split/")
        sshmap("rm", "-r", "sm://merged/")

    def plain() -> None:
        _partition(arena.trips, arena.fresh("split"), arena.fresh("merged"))

    took, limit = alternate(
        TIMES, Side(ours, clear), Side(plain, lambda: (arena.fresh("split"), arena.fresh("merged"))), row=ROW
    )
    yield Row(f"fanout and merge, {_size(arena)} vs xargs awk, cat", took, limit, 1.25)


def _partition(source: Path, split: Path, merged: Path) -> None:
    """Do the same as fan-out and merge, without a cluster."""
    names = "\n".join(sorted(path.name for path in source.iterdir()))
    script = f'mkdir "{split}/$1"; cd "{split}/$1"; {PARTITION} < "{source}/$1"'
    call(["xargs", f"-P{CORES}", "-I{}", "bash", "-c", script, "bash", "{}"], feed=names)
    values = "\n".join(str(value) for value in range(PASSENGERS))
    script = f'cat {split}/*/"$1"_trips.csv > "{merged}/$1_trips.csv"'
    call(["xargs", f"-P{CORES}", "-I{}", "bash", "-c", script, "bash", "{}"], feed=values)


def _gone(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _size(arena: Arena) -> str:
    return f"{arena.scaled(1000)} MB"
