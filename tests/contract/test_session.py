"""What an agent promises, over every transport."""

from __future__ import annotations

import pytest

from sshmap.errors import NothingMatched, RingChanged, SshmapError
from sshmap.model import Bucket, JobSpec, Maker, Shipped, Verb
from sshmap.protocol.messages import (
    VERSION,
    Buckets,
    Counted,
    End,
    Get,
    GetStatus,
    Has,
    Hello,
    Item,
    ListBuckets,
    Ls,
    Message,
    Ping,
    Put,
    Remove,
    Removed,
    Served,
    Ship,
    Start,
    Synced,
    Tick,
    Unsent,
    Wanted,
    Welcome,
)
from sshmap.store.commit import Store
from sshmap.store.digest import digest_of
from sshmap.store.layout import Root
from sshmap.transport.session import Session
from tests.conftest import files_below, wait_until
from tests.contract.conftest import OpenSession
from tests.contract.talk import HELLO, announce, get, get_all, ls, problem_of, put, refusal, results, send_content

KIB = 1024
SIZES = [0, 1, 64 * KIB - 1, 64 * KIB + 1, 2048 * KIB - 1, 2048 * KIB + 1]
JOB = JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat"))
PEER = Hello(host="h0", ring=HELLO.ring, caller="h1")


def content_of(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


def half_received(root: Root) -> list[str]:
    """Return the files below tmp/, some of which may be going away just now."""
    return [str(path) for path in files_below(root.tmp)]


def test_agent_welcomes_by_the_name_it_is_called(session: Session) -> None:
    assert session.welcome == Welcome(version=VERSION, host="h0")


@pytest.mark.parametrize("size", SIZES)
def test_get_gives_what_was_put(session: Session, size: int) -> None:
    content = content_of(size)
    assert put(session, "b/k", content).fresh
    assert get(session, "b/k") == content


def test_key_is_there_in_the_next_session(open_session: OpenSession) -> None:
    put(open_session(), "b/k", b"content")
    assert get(open_session(), "b/k") == b"content"


@pytest.mark.parametrize(
    "name",
    ["b/with space", "b/it's", "b/$HOME", "b/-rf", "b/*", "b/日本/ü", "b/d/.hidden", "b/" + "x" * 255],
    ids=ascii,
)
def test_name_of_any_kind_is_kept(session: Session, name: str) -> None:
    assert problem_of(put(session, name, b"content")) == ""
    assert get_all(session, "b/") == {name: b"content"}


def test_put_again_of_the_same_content_is_harmless(session: Session) -> None:
    assert put(session, "b/k", b"content").fresh
    again = put(session, "b/k", b"content")
    assert (again.fresh, again.problem) == (False, None)
    assert get(session, "b/k") == b"content"


def test_put_refuses_other_content_and_keeps_the_key(session: Session) -> None:
    put(session, "b/k", b"content")
    result = put(session, "b/k", b"other")
    assert (result.fresh, problem_of(result)) == (False, "KeyExists")
    assert get(session, "b/k") == b"content"


def test_of_two_puts_of_one_name_the_first_counts(session: Session) -> None:
    announce(session, "b/k", b"first")
    announce(session, "b/k", b"second")
    assert [problem_of(result) for result in results(session)] == ["", "KeyExists"]
    assert get(session, "b/k") == b"first"


def test_key_and_directory_of_one_name_collide(session: Session) -> None:
    assert [problem_of(put(session, name, b"")) for name in ("b/d", "b/d/k")] == ["", "KeyExists"]
    assert list(get_all(session, "b/")) == ["b/d"]


def test_thousands_of_small_puts_need_no_waiting(session: Session) -> None:
    keys = {f"b/{number:04}": str(number).encode() for number in range(3000)}
    for name, content in keys.items():
        announce(session, name, content)
    assert [(result.name, result.fresh) for result in results(session)] == [(name, True) for name in keys]
    assert get_all(session, "b/") == keys


def test_get_goes_on_after_a_key(session: Session) -> None:
    for name in ("b/1", "b/2", "b/3"):
        announce(session, name, b"")
    results(session)
    items = [
        message for message in session.stream(Get(prefix="b/", after="b/2"), Served) if not isinstance(message, End)
    ]
    assert [getattr(item, "name", "") for item in items] == ["b/3", ""]


def test_get_of_a_missing_key_is_refused(session: Session) -> None:
    with pytest.raises(NothingMatched, match="sm://b/k"):
        get(session, "b/k")
    assert session.ask(Ping(), Served) == Served()


def test_get_of_a_prefix_without_keys_gives_nothing(session: Session) -> None:
    assert get_all(session, "b/") == {}


def test_damaged_file_is_never_called_complete(session: Session, root: Root) -> None:
    put(session, "b/k", b"content")
    path = root.data / "b" / "k"
    path.chmod(0o644)
    path.write_bytes(b"contemt")
    session.writer.message(Get(prefix="b/k", exact=True))
    frames = [session.frame() for _ in range(4)]
    assert [type(frame).__name__ for frame in frames] == ["Item", "memoryview", "Unsent", "Served"]
    assert isinstance(frames[2], Unsent)
    assert frames[2].problem.kind == "DigestMismatch"


def test_listing_is_sorted_and_whole(session: Session) -> None:
    keys = sorted(f"b/{number}" for number in range(2500))
    for name in reversed(keys):
        announce(session, name, b"")
    results(session)
    assert ls(session)[0] == keys


def test_listing_answers_unchanged_until_a_key_comes_or_goes(session: Session) -> None:
    put(session, "b/k", b"content")
    _, listed = ls(session)
    assert ls(session, known=listed.generation) == ([], type(listed)(generation=listed.generation, unchanged=True))
    put(session, "b/k2", b"")
    names, after = ls(session, known=listed.generation)
    assert (names, after.unchanged) == (["b/k", "b/k2"], False)
    session.ask(Remove(prefix="b/k2", exact=True), Removed)
    assert ls(session, known=after.generation)[0] == ["b/k"]


def test_refused_put_does_not_change_the_generation(session: Session) -> None:
    put(session, "b/k", b"content")
    _, listed = ls(session)
    put(session, "b/k", b"other")
    put(session, "b/k", b"content")
    assert ls(session, known=listed.generation)[1].unchanged


def test_remove_takes_all_keys_with_the_prefix_and_their_files(session: Session, root: Root) -> None:
    for name in ("step1/a", "step2/d/b", "other/c"):
        put(session, name, b"12345")
    assert session.ask(Remove(prefix="step"), Removed) == Removed(count=2, size=10, copied=2, copied_size=10)
    assert ls(session)[0] == ["other/c"]
    assert [path.name for path in root.data.iterdir()] == ["other"]


def test_remove_of_one_key_spares_those_that_begin_with_it(session: Session) -> None:
    for name in ("b/k", "b/k2"):
        put(session, name, b"")
    assert session.ask(Remove(prefix="b/k", exact=True), Removed).count == 1
    assert ls(session)[0] == ["b/k2"]


def test_counting_removes_nothing(session: Session) -> None:
    put(session, "b/k", b"12345")
    assert session.ask(Remove(prefix="", counting=True), Removed) == Removed(count=1, size=5, copied=1, copied_size=5)
    assert ls(session)[0] == ["b/k"]


def test_removed_key_can_be_put_with_other_content(session: Session) -> None:
    put(session, "b/k", b"content")
    session.ask(Remove(prefix="b/k", exact=True), Removed)
    assert put(session, "b/k", b"other").fresh
    assert get(session, "b/k") == b"other"


@pytest.mark.parametrize(
    "end",
    [End(size=7, digest=bytes(16)), End(size=8, digest=digest_of(b"content")), End(size=0, digest=b"")],
    ids=["digest", "size", "given up"],
)
def test_damaged_stream_commits_nothing_and_spares_its_neighbours(session: Session, root: Root, end: End) -> None:
    announce(session, "b/before", b"1")
    session.writer.message(Put(name="b/k"), flush=False)
    send_content(session, b"content", end)
    announce(session, "b/after", b"2")
    assert [problem_of(result) for result in results(session)] == ["", "DigestMismatch", ""]
    assert ls(session)[0] == ["b/after", "b/before"]
    assert half_received(root) == []


@pytest.mark.parametrize(
    "name", ["b", "../b/k", "b/../../k", "/etc/passwd", "b//k", "b/a\nb", "b/" + "x" * 256], ids=ascii
)
def test_bad_name_is_refused_while_others_are_kept(session: Session, name: str) -> None:
    announce(session, "b/before", b"1")
    announce(session, name, content_of(300_000))
    announce(session, "b/after", b"2")
    assert [problem_of(result) for result in results(session)] == ["", "InvalidKey", ""]
    assert ls(session)[0] == ["b/after", "b/before"]


def test_shipped_file_is_wanted_once(session: Session) -> None:
    file = Shipped(name="script.py", digest=digest_of(b"print()"))
    assert session.ask(Ship(file=file), Wanted).wanted
    send_content(session, b"print()")
    session.writer.flush()
    assert session.next() == Synced()
    assert not session.ask(Ship(file=file), Wanted).wanted


def test_damaged_shipped_file_is_refused_and_still_wanted(session: Session) -> None:
    file = Shipped(name="script.py", digest=digest_of(b"print()"))
    session.ask(Ship(file=file), Wanted)
    send_content(session, b"damaged")
    session.writer.flush()
    with pytest.raises(SshmapError, match="damaged"):
        session.next()
    assert session.ask(Ship(file=file), Wanted).wanted


@pytest.mark.parametrize(
    ("ring", "words"),
    [
        ((("h0", 1.0), ("h1", 1.0)), "h1 is new"),
        ((("h0", 2.0),), "weight of h0 was 1, is 2"),
    ],
)
def test_another_ring_is_refused_where_data_lies_and_the_difference_is_said(
    open_session: OpenSession, ring: tuple[tuple[str, float], ...], words: str
) -> None:
    put(open_session(), "b/k", b"content")
    with pytest.raises(RingChanged, match=words) as caught:
        open_session(Hello(host="h0", ring=ring))
    assert (caught.value.host, bool(caught.value.hint)) == ("h0", True)
    assert get(open_session(), "b/k") == b"content"


def test_another_ring_is_taken_where_no_data_lies(open_session: OpenSession) -> None:
    open_session()
    ring = (("h0", 1.0), ("h1", 1.0))
    put(open_session(Hello(host="h0", ring=ring)), "b/k", b"")
    with pytest.raises(RingChanged, match="h1 is gone"):
        open_session()


def test_root_with_data_keeps_its_name(open_session: OpenSession) -> None:
    put(open_session(), "b/k", b"")
    with pytest.raises(RingChanged, match=r"'h0'.*'h1'"):
        open_session(Hello(host="h1", ring=(("h1", 1.0),)))


@pytest.mark.parametrize(
    "request_", [Served(), Counted(), Start(job=JOB, run="1", epoch=1)], ids=lambda message: type(message).__name__
)
def test_request_out_of_place_is_refused_with_the_reason(session: Session, request_: Message) -> None:
    session.writer.message(request_, flush=False)
    problem = refusal(session, Served())
    assert (problem.kind, type(request_).__name__ in problem.message) == ("ProtocolError", True)


def test_sign_of_life_of_a_client_is_not_answered(session: Session) -> None:
    session.writer.message(Tick())
    assert session.ask(Has(name="b/k"), Served) == Served(count=0)


@pytest.mark.parametrize(
    "request_",
    [Ls(prefix=""), Get(prefix="b/"), Remove(prefix="b/"), GetStatus()],
    ids=lambda message: type(message).__name__,
)
def test_peer_may_do_nothing_else(open_session: OpenSession, request_: Message) -> None:
    put(open_session(), "b/k", b"content")
    peer = open_session(PEER)
    problem = refusal(peer, request_)
    assert (problem.kind, type(request_).__name__ in problem.message) == ("Refused", True)
    assert peer.ask(Has(name="b/k"), Served) == Served(count=1)


def test_peer_cannot_make_a_root(open_session: OpenSession, root: Root) -> None:
    with pytest.raises(SshmapError):
        open_session(PEER)
    assert not root.ledger.exists()


def test_closing_in_the_middle_of_a_put_leaves_nothing(open_session: OpenSession, root: Root) -> None:
    session = open_session()
    session.writer.message(Put(name="b/k"), flush=False)
    session.writer.data(content_of(200_000))
    session.writer.flush()
    wait_until(lambda: half_received(root), what="the agent takes the content")
    session.close()
    wait_until(lambda: not half_received(root), what="the agent drops the content")
    assert not (root.data / "b").exists()
    assert ls(open_session())[0] == []


def test_closing_before_a_sync_leaves_whole_keys_or_none(open_session: OpenSession, root: Root) -> None:
    session = open_session()
    for number in range(250):
        announce(session, f"b/{number:03}", str(number).encode())
    session.writer.flush()
    session.close()
    wait_until(lambda: not half_received(root))
    kept = get_all(open_session(), "b/")
    assert kept == {f"b/{number:03}": str(number).encode() for number in range(len(kept))}


def test_stream_that_another_request_breaks_into_is_refused_and_commits_nothing(
    open_session: OpenSession, root: Root
) -> None:
    session = open_session()
    session.writer.message(Put(name="b/k"), flush=False)
    session.writer.data(b"cont")
    assert refusal(session, Ping()).kind == "ProtocolError"
    assert ls(open_session())[0] == []
    assert half_received(root) == []


def test_ledger_and_files_agree_after_a_session(session: Session, root: Root) -> None:
    put(session, "b/k", b"content")
    session.close()
    store = Store(root)
    row, path = store.keys.get("b/k"), root.data / "b" / "k"
    store.close()
    assert row is not None
    assert (row.size, row.digest, path.read_bytes()) == (7, digest_of(b"content"), b"content")
    assert path.stat().st_mode & 0o777 == 0o444


def test_buckets_have_the_sums_of_their_keys(session: Session) -> None:
    for name in ("b/d/x", "b/y", "c/z", "b2/w"):
        put(session, name, name.encode())
    pages = list(session.stream(ListBuckets(), Served))
    rows = [row for page in pages if isinstance(page, Buckets) for row in page.rows]
    assert [Bucket(row.name, row.keys, row.size, 0) for row in rows] == [
        Bucket("b", 2, 8, 0), Bucket("b2", 1, 4, 0), Bucket("c", 1, 3, 0),
    ]  # fmt: skip
    assert all(row.mtime > 1_700_000_000 for row in rows)
    assert pages[-1] == Served(count=3)


def test_empty_host_has_no_buckets(session: Session) -> None:
    assert list(session.stream(ListBuckets(), Served)) == [Served()]


def test_get_of_some_names_sends_those_that_are_there_in_their_order(session: Session) -> None:
    for name in ("b/a", "b/c", "b/e"):
        put(session, name, name.encode())
    wanted = ("b/a", "b/b", "b/e")
    assert names_sent(session, Get(prefix="b/", names=wanted)) == ["b/a", "b/e"]
    assert names_sent(session, Get(prefix="b/", names=wanted, after="b/a")) == ["b/e"]
    assert names_sent(session, Get(prefix="b/", names=("b/x",))) == []


def names_sent(session: Session, request: Get) -> list[str]:
    """Return the names of the keys that are sent at a request, whose content has to be their names."""
    session.begin(request, Served)
    names: list[str] = []
    while not isinstance(item := session.next(), Served):
        assert isinstance(item, Item)
        content = b""
        while isinstance(frame := session.frame(), memoryview):
            content += frame
        assert (content.decode(), isinstance(frame, End)) == (item.name, True)
        names.append(item.name)
    return names


def test_replacing_put_swaps_a_key_that_was_copied_in(session: Session) -> None:
    put(session, "b/k", b"former")
    assert problem_of(put(session, "b/k", b"other")) == "KeyExists"
    session.writer.message(Put(name="b/k", replace=True), flush=False)
    send_content(session, b"other")
    (result,) = results(session)
    assert (result.fresh, get(session, "b/k")) == (True, b"other")
    session.writer.message(Put(name="b/k", replace=True), flush=False)
    send_content(session, b"other")
    assert [(result.fresh, result.problem) for result in results(session)] == [(False, None)]
