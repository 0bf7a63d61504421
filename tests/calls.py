"""The client's calls as tests break their connections: how each is made, and what has to be there afterwards."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol
from unittest import mock

import xxhash

from sshmap import Cluster
from sshmap.client import packages
from sshmap.client.listing import Folder, Placed
from sshmap.errors import NothingMatched, SshmapError
from sshmap.functions import Input, MapFunction, Output
from sshmap.inventory import Inventory
from sshmap.model import Verb as Shape
from tests import wheelhouse
from tests.conftest import files_below
from tests.cutting import in_time

#: a third of them on each host
SMALL = {f"d{n % 4}/00{n % 3}_f{n}": b"content %d" % n * (n * 9) for n in range(12)}
BIG = bytes(range(256)) * (12 << 10)
SHUFFLE = 'read -r line || true; for n in 0 1 2; do printf "$line$n" > 00${n}_o$filename; echo 00${n}_o$filename; done'
INPUTS = {f"00{n}_k": b"%d" % n for n in range(3)}


class Place(NamedTuple):
    """What one cut has for itself."""

    #: the name its keys begin with
    prefix: str
    #: a directory for what comes out, or is shipped
    folder: Path
    #: files to be copied in
    sources: Path


class Verb(NamedTuple):
    """A call that is cut."""

    #: makes the call and returns what it gives, the same for every place
    call: Callable[[Cluster, Place], object]
    #: makes what it needs
    prepare: Callable[[Cluster, Place], object] = lambda cluster, place: None
    #: looks, over whole connections, at what the call has done; what it returns is the same after each complete call
    look: Callable[[Cluster, Place], object] = lambda cluster, place: None
    #: checks what a failed call has left
    left: Callable[[Cluster, Place], None] = lambda cluster, place: None
    #: whether the same call gives the same result again; what it leaves is the same anyway
    again: bool = True


def keys_below(cluster: Cluster, place: Place, folder: str = "") -> dict[str, bytes]:
    """Return all keys of a place, by the rest of their names."""
    start = f"{place.prefix}/{folder}"
    rows = [row for row in cluster.ls(f"sm://{start}", recursive=True) if isinstance(row, Placed)]
    return {row.path.removeprefix(start): cluster.get(row) for row in rows}


def files_of(place: Place) -> dict[str, bytes]:
    """Return all files below a place's directory; half ones too."""
    return {str(file.relative_to(place.folder)): file.read_bytes() for file in files_below(place.folder)}


def put_all(content: dict[str, bytes]) -> Callable[[Cluster, Place], None]:
    """Return what stores some keys."""

    def put(cluster: Cluster, place: Place) -> None:
        for name, value in content.items():
            cluster.put(value, f"sm://{place.prefix}/{name}")

    return put


def listed(rows: Iterator[Placed | Folder], place: Place) -> list[tuple[str, int, str]]:
    """Return a listing as names, sizes and hosts."""
    return [(row.path, row.size, row.host) if isinstance(row, Placed) else (row.path, 0, "") for row in rows]


def spoken(code: int, out: io.BytesIO, err: io.BytesIO) -> tuple[int, bytes, bytes]:
    return code, out.getvalue(), err.getvalue()


def put_one(source: Callable[[Place], bytes | Path | BinaryIO]) -> Callable[[Cluster, Place], object]:
    """Return a call that stores one key."""

    def call(cluster: Cluster, place: Place) -> object:
        result = cluster.put(source(place), f"sm://{place.prefix}/000_k")
        return result.fresh + result.kept, result.failures

    return call


def put_tree(cluster: Cluster, place: Place) -> object:
    result = cluster.put_tree(place.sources / "tree", f"sm://{place.prefix}/")
    return result.fresh + result.kept, result.size, result.failures


def get_tree(cluster: Cluster, place: Place) -> object:
    result = cluster.get_tree("sm://given/", place.folder)
    return result.fresh, result.size, result.failures, files_of(place) == GIVEN


def sync_in(cluster: Cluster, place: Place) -> object:
    result = cluster.sync(place.sources / "tree", f"sm://{place.prefix}/", delete=True)
    return result.fresh + result.kept, result.failures, result.lost


def sync_out(cluster: Cluster, place: Place) -> object:
    result = cluster.sync("sm://given/", place.folder, delete=True)
    return result.fresh + result.kept, result.failures, files_of(place) == GIVEN


def get_file(cluster: Cluster, place: Place) -> object:
    return cluster.get_file("sm://given/000_big", place.folder / "big"), files_of(place) == {"big": BIG}


def cat(cluster: Cluster, place: Place) -> object:
    out = io.BytesIO()
    try:
        size = cluster.cat("sm://given/000_big", out)
    finally:
        assert BIG.startswith(out.getvalue())
    return size, out.getvalue() == BIG


def evaluate(cluster: Cluster, place: Place) -> object:
    out, err = io.BytesIO(), io.BytesIO()
    return spoken(cluster.eval("sm://given/000_big", "wc -c; echo said >&2; exit 7", out, err), out, err)


def execute(cluster: Cluster, place: Place) -> object:
    results = cluster.exec("echo said; exit 7")
    return [(name, spoken.exit_code, spoken.stdout) for name, spoken in results.items()]


def raised(failures: dict[str, SshmapError], results: object) -> object:
    """Return the results unless a host failed."""
    for error in failures.values():
        raise error
    return results


def statuses(cluster: Cluster, place: Place) -> object:
    results, failures = cluster.statuses()
    return raised(failures, [(name, status.keys, status.runtime) for name, status in results.items()])


def jobs(cluster: Cluster, place: Place) -> object:
    # the newest: of more than two hundred runs, the daemon forgets the oldest now and then
    return [(run.run, run.states) for run in cluster.jobs()[:100]]


def remove(cluster: Cluster, place: Place) -> object:
    return cluster.rm(f"sm://{place.prefix}/", recursive=True)


def without_files(cluster: Cluster, place: Place) -> None:
    """Store keys and delete the files of some, one on each host."""
    put_all(SMALL)(cluster, place)
    for number, host in enumerate(cluster.inventory.hosts):
        Path(host.root, "data", place.prefix, f"d{number}", f"00{number}_f{number}").unlink()


def verify(cluster: Cluster, place: Place, *, quarantine: bool = False) -> object:
    found = cluster.verify(f"sm://{place.prefix}/", quarantine=quarantine)
    named = [one.key.removeprefix(f"sm://{place.prefix}/") for host in found.values() for one in host.damages]
    return [(host.keys, host.size, host.damaged, host.missing) for host in found.values()], named


def letters(rows: Input, out: Output) -> None:
    out.write(rows.text().translate(str.maketrans("0123456789", "abcdefghij")))


def job(verb: str, command: str | MapFunction, **options: object) -> Callable[[Cluster, Place], object]:
    """Return a call that runs a job over the place's keys."""

    def call(cluster: Cluster, place: Place) -> object:
        shipped = [place.folder / "shipped"] if "shipped" in options else []
        result = getattr(cluster, verb)(
            f"sm://{place.prefix}/in/",
            f"sm://{place.prefix}/out/",
            command,
            shipped=shipped,
            **{name: True for name in ("replace", "keep_done", "prune") if name in options},
        )
        return result.inputs, result.done + result.kept, result.failures, result.lost

    return call


def capitals(rows: Input, out: Output) -> None:
    shift = importlib.import_module("shift")
    out.write(shift.up(rows.text()))


def map_with_packages(cluster: Cluster, place: Place) -> object:
    """Map a function that imports a package; only pip, which fetches it, is not asked."""
    # no host has what another place has asked for
    needs = [f"shift!=0.{xxhash.xxh32_intdigest(place.prefix.encode())}"]
    with mock.patch.object(packages, "_wheels", return_value=place.sources / "wheels.tar"):
        result = cluster.map(f"sm://{place.prefix}/in/", f"sm://{place.prefix}/out/", capitals, packages=needs)
    return result.inputs, result.done + result.kept, result.failures, result.lost


def with_a_file(cluster: Cluster, place: Place) -> None:
    """Make a file to be shipped that no host has yet, and the keys of a job."""
    put_all(JOB)(cluster, place)
    place.folder.mkdir(parents=True)
    (place.folder / "shipped").write_bytes(place.prefix.encode().ljust(99) * 6000)


def outputs(cluster: Cluster, place: Place) -> dict[str, bytes]:
    return keys_below(cluster, place, "out/")


def only(content: dict[str, bytes]) -> Callable[[Cluster, Place], None]:
    """Return a check that whatever lies below the place is as it should be."""

    def check(cluster: Cluster, place: Place) -> None:
        assert keys_below(cluster, place).items() <= content.items()

    return check


def whole_files(cluster: Cluster, place: Place) -> None:
    assert files_of(place).items() <= {**GIVEN, "big": BIG}.items()


def other_outputs(cluster: Cluster, place: Place) -> None:
    put_all(JOB)(cluster, place)
    cluster.merge(f"sm://{place.prefix}/in/", f"sm://{place.prefix}/out/", "xargs cat | tr 0-9 x")


def some_done(cluster: Cluster, place: Place) -> None:
    """Have another command of the same verb make two of the outputs."""
    names = sorted(JOB)
    for name in names[:2]:
        cluster.put(JOB[name], f"sm://{place.prefix}/{name}")
    cluster.map(f"sm://{place.prefix}/in/", f"sm://{place.prefix}/out/", "tr 0-9 x")
    cluster.put(JOB[names[2]], f"sm://{place.prefix}/{names[2]}")


def one_input_gone(verb: str, command: str) -> Callable[[Cluster, Place], None]:
    """Return what runs a job over the place's keys and one more, and then deletes that."""

    def prepare(cluster: Cluster, place: Place) -> None:
        put_all({**JOB, "in/001_gone": b"gone"})(cluster, place)
        job(verb, command)(cluster, place)
        cluster.rm(f"sm://{place.prefix}/in/001_gone")

    return prepare


def run_of(cluster: Cluster, place: Place) -> str:
    """Return the run over the place's keys."""
    return next(run.run for run in cluster.jobs() if run.indir == f"sm://{place.prefix}/in/")


def submitted(command: str) -> Callable[[Cluster, Place], None]:
    """Return what leaves a job over the place's keys to the hosts."""

    def prepare(cluster: Cluster, place: Place) -> None:
        put_all(JOB)(cluster, place)
        detached(command)(cluster, place)

    return prepare


def detached(command: str) -> Callable[[Cluster, Place], object]:
    """Return a call that leaves a job to the hosts; what it says differs from run to run."""

    def call(cluster: Cluster, place: Place) -> None:
        cluster.map(f"sm://{place.prefix}/in/", f"sm://{place.prefix}/out/", command, detach=True)

    return call


def attach(cluster: Cluster, place: Place) -> object:
    result = cluster.attach(run_of(cluster, place))
    return result.done, result.failed, result.cancelled, result.lost


def outputs_in_the_end(cluster: Cluster, place: Place) -> dict[str, bytes]:
    """Return the outputs of a job when the hosts are done with it."""
    cluster.attach(run_of(cluster, place))
    return outputs(cluster, place)


def attempts(cluster: Cluster, place: Place) -> object:
    rows = list(cluster.attempts(run_of(cluster, place), stderr=True))
    return sorted((host, row.key.rpartition("/")[2], row.attempt, str(row.outcome), row.stderr) for host, row in rows)


def explain(cluster: Cluster, place: Place) -> object:
    plans = cluster.explain(Shape.MAP, f"sm://{place.prefix}/in/", f"sm://{place.prefix}/out/", "echo said >&2; cat")
    return [(host, plan.run, plan.keep, plan.refuse, plan.size) for host, plan in sorted(plans.items())]


def ended(cluster: Cluster, place: Place) -> None:
    """Have a job over the place's keys run to its end."""
    submitted("echo said >&2; cat")(cluster, place)
    cluster.attach(run_of(cluster, place))


def one_output_gone(cluster: Cluster, place: Place) -> None:
    ended(cluster, place)
    cluster.rm(f"sm://{place.prefix}/out/001_k")


def retry(cluster: Cluster, place: Place) -> object:
    result = cluster.retry(run_of(cluster, place))
    return result.inputs, result.done + result.kept, result.failures, result.lost


def cancel(cluster: Cluster, place: Place) -> None:
    cluster.cancel(run_of(cluster, place))


def ending(cluster: Cluster, place: Place) -> object:
    run = cluster.job(run_of(cluster, place))
    return run.state, run.left, outputs(cluster, place)


def shell(cluster: Cluster, place: Place) -> object:
    out, err = io.BytesIO(), io.BytesIO()
    return spoken(cluster.shell("sm://given/000_big", "wc -c; echo said >&2; exit 7", out=out, err=err), out, err)


GIVEN = {**SMALL, "000_big": BIG}
JOB = {f"in/{name}": content for name, content in INPUTS.items()}
VERBS = {
    "put bytes": Verb(put_one(lambda place: b"content"), look=keys_below, left=only({"000_k": b"content"})),
    "put file": Verb(put_one(lambda place: place.sources / "big"), look=keys_below, left=only({"000_k": BIG})),
    "put stream": Verb(put_one(lambda place: io.BytesIO(BIG)), look=keys_below, left=only({"000_k": BIG})),
    "put_tree": Verb(put_tree, look=keys_below, left=only(GIVEN)),
    "get": Verb(lambda cluster, place: cluster.get("sm://given/000_big") == BIG),
    "get_file": Verb(get_file, left=whole_files),
    "get_tree": Verb(get_tree, left=whole_files),
    "sync in": Verb(sync_in, put_all({"surplus": b"x", "000_big": b"former"}), keys_below),
    "sync out": Verb(sync_out, left=whole_files),
    "cat": Verb(cat),
    "ls": Verb(lambda cluster, place: listed(cluster.ls("sm://given/"), place)),
    "ls of buckets": Verb(lambda cluster, place: [row for row in cluster.buckets() if row.name in ("given", "many")]),
    "ls -r": Verb(lambda cluster, place: listed(cluster.ls("sm://given/", recursive=True), place)),
    "ls of many pages": Verb(lambda cluster, place: listed(cluster.ls("sm://many/", recursive=True), place)),
    "where": Verb(lambda cluster, place: listed(cluster.where("sm://given/"), place)),
    "rm": Verb(remove, prepare=put_all(INPUTS), look=keys_below, left=only(INPUTS), again=False),
    "verify": Verb(verify, without_files),
    "verify --quarantine": Verb(
        lambda cluster, place: verify(cluster, place, quarantine=True), without_files, keys_below, again=False
    ),
    "eval": Verb(evaluate),
    "exec": Verb(execute),
    "map": Verb(job("map", "tr 0-9 a-j"), put_all(JOB), outputs),
    "map of a function": Verb(job("map", letters), put_all(JOB), outputs),
    "map with packages": Verb(map_with_packages, put_all(JOB), outputs),
    "map --keep-done": Verb(job("map", "tr 0-9 a-j", keep_done=True), some_done, outputs),
    "map --prune": Verb(job("map", "cat", prune=True), one_input_gone("map", "cat"), outputs),
    "fanout": Verb(job("fanout", SHUFFLE), put_all(JOB), outputs),
    "fanout --prune": Verb(job("fanout", SHUFFLE, prune=True), one_input_gone("fanout", SHUFFLE), outputs),
    "merge --with": Verb(job("merge", "xargs cat; wc -c < shipped", shipped=True), with_a_file, outputs),
    "merge --replace": Verb(job("merge", "xargs cat", replace=True), other_outputs, outputs),
    "map --detach": Verb(detached("tr 0-9 a-j"), put_all(JOB), outputs_in_the_end),
    "attach": Verb(attach, submitted("cat")),
    "cancel": Verb(cancel, submitted("sleep 300"), ending),
    "retry": Verb(retry, one_output_gone, outputs),
    "map --explain": Verb(explain, ended),
    "logs": Verb(attempts, ended),
    "shell -c": Verb(shell),
    "jobs": Verb(jobs),
    "statuses": Verb(statuses),
    "up": Verb(lambda cluster, place: raised(cluster.up()[1], None)),
}


def make_sources(top: Path) -> Path:
    """Make the files that calls send, and return where."""
    for name, content in GIVEN.items():
        path = top / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (top / "big").write_bytes(BIG)
    wheelhouse.add_wheel(top, "shift", {"shift.py": "def up(text): return text + '!'", "more.py": "#" * 300_000})
    with tarfile.open(top / "wheels.tar", "w") as tar:
        tar.add(top / "shift-1.0-py3-none-any.whl", "shift-1.0-py3-none-any.whl")
    return top


class Ways(Protocol):
    """What breaks the client's connections."""

    def calm(self) -> None:
        """Leave all further connections whole."""

    def close(self) -> None:
        """Let go of connections that somebody still holds."""


class Trial:
    """Makes one call again and again over connections that break.

    Args:
        ways: the ways to the hosts.
        inventory: the hosts, reached by these ways.
        verb: the call.
        sources: files to be sent.
        folder: where destinations may lie.
    """

    def __init__(self, ways: Ways, inventory: Inventory, verb: Verb, sources: Path, folder: Path) -> None:
        self._ways, self._inventory, self._verb = ways, inventory, verb
        self._places = (Place(f"{folder.parent.name}/{n}", folder / str(n), sources) for n in itertools.count())
        self._checker = Cluster(inventory)
        place = self._prepared()
        self._expected = in_time(lambda: verb.call(self._checker, place))
        assert not isinstance(self._expected, SshmapError), self._expected
        self._seen = verb.look(self._checker, place)
        self._cleared(place)

    def _prepared(self) -> Place:
        place = next(self._places)
        self._ways.calm()
        self._verb.prepare(self._checker, place)
        return place

    def _cleared(self, place: Place) -> None:
        with contextlib.suppress(NothingMatched):
            self._checker.rm(f"sm://{place.prefix}/", recursive=True)
        shutil.rmtree(place.folder, ignore_errors=True)

    def attempt(self, plan: Callable[[], object], what: object = "") -> None:
        """Plan what breaks, make the call, judge it, and make it again over whole connections.

        Args:
            plan: sets the breaks.
            what: describes them, for a failure.
        """
        place = self._prepared()
        with Cluster(self._inventory) as cluster:
            plan()
            outcome = in_time(lambda: self._verb.call(cluster, place))
            self._ways.calm()
            self._judge(outcome, place, what)
            if isinstance(outcome, SshmapError) or self._verb.again:
                self._repeat(cluster, place, what)
        assert self._verb.look(self._checker, place) == self._seen, what
        self._cleared(place)

    def _judge(self, outcome: object, place: Place, what: object) -> None:
        if not isinstance(outcome, SshmapError):
            assert outcome == self._expected, what
            assert self._verb.look(self._checker, place) == self._seen, what
            return
        assert outcome.exit_code == 3, f"{what}: exit {outcome.exit_code}: {outcome}"
        assert {outcome.host, *str(outcome).split()} & {host.name for host in self._inventory.hosts}, (
            f"{what}: no host is named: {outcome}"
        )
        self._verb.left(self._checker, place)

    def _repeat(self, cluster: Cluster, place: Place, what: object) -> None:
        outcome = in_time(lambda: self._verb.call(cluster, place))
        if self._verb.again:
            assert outcome == self._expected, f"{what}, again: {outcome!r}"
        else:
            assert not isinstance(outcome, SshmapError) or isinstance(outcome, NothingMatched), (
                f"{what}, again: {outcome!r}"
            )

    def close(self) -> None:
        """End all sessions."""
        self._checker.close()
        self._ways.close()
