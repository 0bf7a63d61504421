"""Trees copied and synchronised through the API, and keys as objects: what travels, what stays, what is counted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client import removal
from sshmap.client.listing import Folder, Placed
from sshmap.client.results import Removal, RemovalFailed, TransferFailed
from sshmap.errors import DigestMismatch, HostsFailed, KeyExists, NothingMatched, UsageError
from sshmap.inventory import Host, Inventory
from tests.conftest import files_below
from tests.integration import fleet


@pytest.fixture
def lame(tmp_path: Path) -> Iterator[Inventory]:
    """Two hosts of which one cannot be reached."""
    top = tmp_path / "roots"
    near = Host(name="h0", connect="local", root=str(top / "h0"), workers=1)
    far = Host(name="h1", address="127.0.0.1", port=1)
    yield Inventory(hosts=(near, far), origin="test")
    fleet.end_all_at(top)


def write(top: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return top


def content_below(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in files_below(top)}


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all keys whose content is sent or fetched."""
    from sshmap.client import download, upload

    names: list[str] = []
    put, take = upload._Sender._put, download._Part._take

    def noted(real: Callable[..., None], name: Callable[..., str]) -> Callable[..., None]:
        def call(self: object, session: object, what: object) -> None:
            names.append(name(what))
            real(self, session, what)

        return call

    monkeypatch.setattr(upload._Sender, "_put", noted(put, lambda sent: sent.source.name))
    monkeypatch.setattr(download._Part, "_take", noted(take, lambda item: item.name))
    return names


FILES = {"a": b"1", "d/b": b"22", "d/e/c": b"333", "empty": b""}


def test_sync_in_sends_what_differs_by_digest(shared: Cluster, bucket: str, tmp_path: Path, passed: list[str]) -> None:
    top = write(tmp_path / "in", FILES)
    first = shared.sync(top, f"sm://{bucket}/at")
    assert (first.fresh, first.kept, first.deleted) == (4, 0, 0)
    passed.clear()
    (top / "a").touch()
    assert shared.sync(top, f"sm://{bucket}/at/").kept == 4
    assert passed == []
    write(top, {"a": b"2", "d/b": b"22", "new": b"n"})
    (top / "empty").unlink()
    second = shared.sync(top, f"sm://{bucket}/at")
    assert (second.fresh, second.kept, second.deleted, sorted(passed)) == (
        2,
        2,
        0,
        [f"{bucket}/at/a", f"{bucket}/at/new"],
    )
    third = shared.sync(top, f"sm://{bucket}/at", delete=True)
    assert (third.fresh, third.kept, third.deleted) == (0, 4, 1)
    shared.get_tree(f"sm://{bucket}/at", tmp_path / "out")
    assert content_below(tmp_path / "out") == content_below(top)


def test_sync_out_fetches_what_differs_by_digest(
    shared: Cluster, bucket: str, tmp_path: Path, passed: list[str]
) -> None:
    shared.put_tree(write(tmp_path / "in", FILES), f"sm://{bucket}/at")
    out = tmp_path / "out"
    passed.clear()
    first = shared.sync(f"sm://{bucket}/at", out)
    assert (first.fresh, first.kept, len(passed)) == (4, 0, 4)
    write(out, {"a": b"9", "mine": b"m"})
    (out / "d" / "b").unlink()
    passed.clear()
    second = shared.sync(f"sm://{bucket}/at/", out)
    assert (second.fresh, second.kept, sorted(passed)) == (2, 2, [f"{bucket}/at/a", f"{bucket}/at/d/b"])
    assert content_below(out) == {**FILES, "mine": b"m"}
    assert shared.sync(f"sm://{bucket}/at", out, delete=True).deleted == 1
    assert content_below(out) == FILES


def test_sync_deletes_nothing_where_a_source_cannot_be_read(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    top = write(tmp_path / "in", FILES)
    shared.sync(top, f"sm://{bucket}/")
    (top / "a").unlink()
    (top / "a").symlink_to("nowhere")
    with pytest.raises(TransferFailed) as caught:
        shared.sync(top, f"sm://{bucket}/", delete=True)
    assert (caught.value.result.failed, caught.value.result.deleted) == (1, 0)
    assert shared.get(f"sm://{bucket}/a") == b"1"


def test_sync_stops_where_its_question_is_answered_by_an_error(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    shared.put(b"x", f"sm://{bucket}/gone")
    top = write(tmp_path / "in", FILES)

    def refuse(surplus: object) -> None:
        raise UsageError(f"asked about {surplus}")

    with pytest.raises(UsageError, match="keys=1, size=1, copied=1"):
        shared.sync(top, f"sm://{bucket}/", delete=True, confirm=refuse)
    assert shared.get(f"sm://{bucket}/gone") == b"x"


def test_sync_refuses_two_of_a_kind_and_a_directory_that_is_none(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    for source, target in ((tmp_path, tmp_path), ("sm://a/", "sm://b/")):
        with pytest.raises(UsageError, match="one of them is a directory of keys"):
            shared.sync(source, target)
    with pytest.raises(UsageError, match="no such directory"):
        shared.sync(tmp_path / "none", f"sm://{bucket}/")
    with pytest.raises(NothingMatched):
        shared.sync(f"sm://{bucket}/none", tmp_path / "out")


def test_numbered_keys_are_dealt_out_and_come_back_without_numbers(
    shared: Cluster, bucket: str, tmp_path: Path, passed: list[str]
) -> None:
    top = write(tmp_path / "in", {f"d/part{size}": bytes(size) for size in range(1, 10)})
    shared.put_tree(top, f"sm://{bucket}/", number=True)
    rows = list(shared.where(f"sm://{bucket}/"))
    hosts = [host.name for host in shared.inventory.hosts]
    assert [row.path for row in rows] == [f"{bucket}/d/{place:04}_part{9 - place}" for place in range(9)]
    assert [row.host for row in rows] == [hosts[place % len(hosts)] for place in range(9)]
    passed.clear()
    write(top, {"d/part50": bytes(50)})
    assert shared.put_tree(top, f"sm://{bucket}/", number=True).kept == 9
    assert f"{bucket}/d/0009_part50" in passed
    assert shared.sync(top, f"sm://{bucket}/", number=True, delete=True).kept == 10
    shared.get_tree(f"sm://{bucket}/", tmp_path / "out", number=True)
    assert content_below(tmp_path / "out") == content_below(top)
    assert shared.sync(f"sm://{bucket}/", tmp_path / "out", number=True, delete=True).kept == 10


def test_replace_swaps_what_holds_other_content(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    top = write(tmp_path / "in", FILES)
    shared.put_tree(top, f"sm://{bucket}/")
    write(top, {"a": b"other"})
    with pytest.raises(TransferFailed) as caught:
        shared.put_tree(top, f"sm://{bucket}/")
    assert [type(error) for error in caught.value.result.failures.values()] == [KeyExists]
    result = shared.put_tree(top, f"sm://{bucket}/", replace=True)
    assert (result.fresh, result.kept, shared.get(f"sm://{bucket}/a")) == (1, 3, b"other")
    shared.put(b"third", f"sm://{bucket}/a", replace=True)
    assert shared.get(f"sm://{bucket}/a") == b"third"


def test_keys_of_a_listing_can_be_given_to_every_call(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    shared.put_tree(write(tmp_path / "in", FILES), f"sm://{bucket}/")
    rows = list(shared.ls(f"sm://{bucket}/"))
    assert [type(row) for row in rows] == [Placed, Folder, Placed]
    assert [str(row) for row in rows] == [f"sm://{bucket}/{name}" for name in ("a", "d/", "empty")]
    key, folder, _ = rows
    out = io.BytesIO()
    assert (shared.get(key.name), shared.get(str(key)), shared.exists(key.name)) == (b"1", b"1", True)
    assert shared.get_file(key.name, tmp_path / "file") == 1
    assert shared.cat(folder.name, out) == 5
    assert out.getvalue() == b"22333"
    assert shared.rm(key.name).keys == 1
    assert not shared.exists(key.name)


def test_contents_of_a_directory_come_in_the_order_of_names(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    files = {f"{number:03}": b"%03d\n" % number * (1 if number % 50 else 400_000) for number in range(120)}
    shared.put_tree(write(tmp_path / "in", files), f"sm://{bucket}/")
    out = io.BytesIO()
    assert shared.cat(f"sm://{bucket}/", out) == len(out.getvalue())
    assert out.getvalue() == b"".join(files[name] for name in sorted(files))


def test_an_opened_key_is_read_as_a_file(shared: Cluster, bucket: str) -> None:
    for content in (b"small\nlines\n", bytes(range(256)) * 10_000):
        shared.put(content, f"sm://{bucket}/{len(content)}")
        with shared.open(f"sm://{bucket}/{len(content)}") as file:
            assert file.read(3) == content[:3]
            file.seek(0)
            assert file.read() == content
    with pytest.raises(NothingMatched):
        shared.open(f"sm://{bucket}/none")


def test_put_says_what_it_takes(shared: Cluster, bucket: str) -> None:
    with pytest.raises(UsageError, match="bytes, a Path or a stream to read from, not str"):
        shared.put("text", f"sm://{bucket}/k")  # type: ignore[arg-type]


def test_cluster_says_which_it_is(shared: Cluster) -> None:
    assert repr(shared).startswith("Cluster(h[0-2], ")
    assert repr(Cluster(local=3)).startswith("Cluster(the built-in local cluster of 3, ")


def test_counts_are_true_where_a_host_is_down(lame: Inventory, tmp_path: Path) -> None:
    top = write(tmp_path / "in", {f"{number:03}_k": b"x" for number in range(20)})
    with Cluster(lame) as cluster:
        with pytest.raises(TransferFailed) as copied:
            cluster.put_tree(top, "sm://b/")
        sent = copied.value.result
        assert (sent.fresh, sent.failed, sent.missed, [*sent.lost]) == (10, 0, 10, ["h1"])
        assert "h1: down: 10 files did not arrive" in str(sent.lost["h1"])
        with pytest.raises(TransferFailed) as fetched:
            cluster.get_tree("sm://b/", tmp_path / "out")
        got = fetched.value.result
        assert (got.fresh, got.failed, got.missed, [*got.lost]) == (10, 0, None, ["h1"])
        with pytest.raises(RemovalFailed) as removed:
            cluster.rm("sm://b/", recursive=True)
        assert (removed.value.result.keys, [*removed.value.failures]) == (10, ["h1"])
        with pytest.raises(HostsFailed) as told:
            cluster.exec("echo said")
        assert [*told.value.results] == ["h0"]
        health = cluster.health()
        assert [state.healthy for state in health.values()] == [True, False]
        with pytest.raises(HostsFailed) as asked:
            cluster.jobs()
        assert ([*asked.value.results], [*asked.value.failures]) == (["runs"], ["h1"])


def test_directory_is_read_to_the_damaged_key_and_no_further(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    files = {f"{number:03}": b"%d\n" % number for number in range(30)}
    shared.put_tree(write(tmp_path / "in", files), f"sm://{bucket}/")
    (row,) = shared.where(f"sm://{bucket}/017")
    stored = fleet.root_of(shared.inventory, row.host).path / "data" / row.path
    stored.chmod(0o644)
    stored.write_bytes(b"99\n")
    out = io.BytesIO()
    with pytest.raises(DigestMismatch, match="017"):
        shared.cat(f"sm://{bucket}", out)
    assert out.getvalue() == b"".join(files[f"{number:03}"] for number in range(17))


def test_key_of_the_name_of_a_glob_is_meant_before_what_it_matches(shared: Cluster, bucket: str) -> None:
    for name in ("d/*", "d/a", "d/b", "e/a"):
        shared.put(name.encode(), f"sm://{bucket}/{name}")
    for text, content in (("d/*", b"d/*"), ("*/a", b"d/ae/a"), ("*/*", b"d/*d/ad/be/a"), ("d", b"d/*d/ad/b")):
        out = io.BytesIO()
        shared.cat(f"sm://{bucket}/{text}", out)
        assert out.getvalue() == content, text


def test_count_tells_copied_keys_from_those_that_jobs_made(shared: Cluster, bucket: str) -> None:
    for name in ("in/a", "in/b"):
        shared.put(b"123", f"sm://{bucket}/{name}")
    shared.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", "cat; echo")
    both, made = shared.count(f"sm://{bucket}"), shared.count(f"sm://{bucket}/out")
    assert (both.keys, both.size, both.copied, both.copied_size) == (4, 14, 2, 6)
    assert (made.keys, made.copied, made.failures) == (2, 0, {})
    (row,) = [row for row in shared.buckets() if row.name == bucket]
    assert (row.keys, row.size) == (4, 14)


def test_sync_out_of_nothing_deletes_nothing(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    out = write(tmp_path / "out", FILES)
    with pytest.raises(NothingMatched):
        shared.sync(f"sm://{bucket}/mistyped", out, delete=True)
    assert content_below(out) == FILES


def test_sync_out_deletes_nothing_where_a_key_is_damaged(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    shared.put_tree(write(tmp_path / "in", FILES), f"sm://{bucket}/")
    (row,) = shared.where(f"sm://{bucket}/d/b")
    stored = fleet.root_of(shared.inventory, row.host).path / "data" / row.path
    stored.chmod(0o644)
    stored.write_bytes(b"99")
    out = write(tmp_path / "out", {"mine": b"m"})
    with pytest.raises(TransferFailed) as caught:
        shared.sync(f"sm://{bucket}/", out, delete=True)
    assert (caught.value.result.failed, caught.value.result.deleted) == (1, 0)
    assert (out / "mine").exists()


def test_sync_out_into_a_linked_directory_deletes_there(shared: Cluster, bucket: str, tmp_path: Path) -> None:
    shared.put_tree(write(tmp_path / "in", FILES), f"sm://{bucket}/")
    real = write(tmp_path / "real", {"mine": b"m"})
    (tmp_path / "link").symlink_to(real)
    assert shared.sync(f"sm://{bucket}/", tmp_path / "link", delete=True).deleted == 1
    assert content_below(real) == FILES


@pytest.mark.parametrize("sides", [("", "sm://b/"), ("sm://b/", ""), ("", "")])
def test_empty_side_of_sync_is_refused(shared: Cluster, sides: tuple[str, str]) -> None:
    with pytest.raises(UsageError, match="is empty"):
        shared.sync(*sides, delete=True)


def test_many_surplus_keys_go_in_few_requests(
    shared: Cluster, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_NAMES", 7)
    shared.put_tree(write(tmp_path / "in", {f"{number:03}": b"x" for number in range(60)}), f"sm://{bucket}/")
    (tmp_path / "none").mkdir()
    asked: list[Removal] = []
    result = shared.sync(tmp_path / "none", f"sm://{bucket}/", delete=True, confirm=asked.append)
    assert (result.deleted, [(one.keys, one.copied) for one in asked]) == (60, [(60, 60)])
    assert not list(shared.ls(f"sm://{bucket}/"))
