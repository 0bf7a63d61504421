"""Which fan-out files a host takes from its peers, and from a client that relays for one."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from sshmap.model import JobSpec, Maker, Receipt, Verb
from sshmap.protocol.messages import Has, Hello, Open, Opened, Ping, Put, PutResult, Served
from sshmap.store.commit import Store
from sshmap.store.layout import Root
from sshmap.store.receipts import digest_maker
from sshmap.transport.session import Session
from tests.contract.conftest import OpenSession
from tests.contract.talk import get, problem_of, put, results, send_content

#: numbered names lie on the host of their number
RING = (("h0", 1.0), ("h1", 1.0), ("h2", 1.0))
CLIENT, PEER = Hello(host="h0", ring=RING), Hello(host="h0", ring=RING, caller="h1")
MAKER = Maker(verb=Verb.FANOUT, command="split")
OURS = Receipt(digest_maker(MAKER), b"inputs")
#: the input lies on h1, the output on h0
OUTPUT = "out/001_input/000_file"


def tell(session: Session, maker: Maker = MAKER, outdir: str = "sm://out/", *, replace: bool = False) -> None:
    """Open a job on the host, as a client does on all hosts."""
    job = JobSpec(indir="sm://in/", outdir=outdir, maker=maker, replace=replace)
    session.ask(Open(job=job, run=digest_maker(maker).hex() + outdir + str(replace)), Opened)


def bring(session: Session, name: str, content: bytes = b"content", **fields: Any) -> PutResult:  # noqa: ANN401
    """Bring a file and return what has become of it."""
    session.writer.message(Put(**{"name": name, "receipt": OURS, **fields}), flush=False)
    send_content(session, content)
    (result,) = results(session)
    return result


@pytest.fixture
def client(open_session: OpenSession) -> Session:
    """A client of host h0."""
    return open_session(CLIENT)


@pytest.fixture
def peer(client: Session, open_session: OpenSession) -> Session:
    """The courier of host h1 at host h0, which a client has told of a fan-out."""
    tell(client)
    return open_session(PEER)


def test_peer_brings_the_outputs_of_its_inputs(peer: Session, client: Session) -> None:
    assert bring(peer, OUTPUT, members=("in/001_input",)).fresh
    assert get(client, OUTPUT) == b"content"
    assert peer.ask(Has(name=OUTPUT), Served) == Served(count=1)


def test_file_that_is_brought_twice_is_there_once(peer: Session) -> None:
    assert [bring(peer, OUTPUT).fresh, bring(peer, OUTPUT).fresh] == [True, False]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("other/001_input/000_file", {}),
        ("out/000_file", {}),
        ("out/001_input/deep/000_file", {}),
        ("out/001_input/002_file", {}),
        ("out/002_input/000_file", {}),
        ("out/000_input/000_file", {}),
        (OUTPUT, {"receipt": None}),
        (OUTPUT, {"receipt": Receipt(digest_maker(Maker(verb=Verb.MAP, command="split")), b"inputs")}),
        (OUTPUT, {"replace": True}),
        ("out/001_input/000_../../x", {}),
    ],
)
def test_peer_brings_nothing_else(
    peer: Session, client: Session, root: Root, name: str, fields: dict[str, Any]
) -> None:
    result = bring(peer, name, **fields)
    assert problem_of(result) in ("Refused", "HostNotReady", "InvalidKey")
    assert client.ask(Has(name=name), Served) == Served(count=0)
    assert not list(root.data.iterdir())
    assert peer.ask(Ping(), Served) == Served()


def test_file_of_a_fanout_that_the_host_was_not_told_of_may_come_later(
    client: Session, open_session: OpenSession
) -> None:
    peer = open_session(PEER)
    assert problem_of(bring(peer, OUTPUT)) == "HostNotReady"
    tell(client)
    assert bring(peer, OUTPUT).fresh


@pytest.mark.parametrize("replace", [False, True])
def test_peer_never_swaps_a_key_that_was_copied_in(peer: Session, client: Session, *, replace: bool) -> None:
    tell(client, replace=True)
    put(client, OUTPUT, b"mine")
    assert problem_of(bring(peer, OUTPUT, replace=replace)) == "OtherReceipt"
    assert get(client, OUTPUT) == b"mine"


def test_peer_swaps_what_other_work_made_where_the_job_may(peer: Session, client: Session) -> None:
    former = Maker(verb=Verb.FANOUT, command="former")
    tell(client, former)
    assert bring(peer, OUTPUT, b"old", receipt=Receipt(digest_maker(former), b"inputs")).fresh
    assert problem_of(bring(peer, OUTPUT, b"new")) == "OtherReceipt"
    tell(client, replace=True)
    assert bring(peer, OUTPUT, b"new", replace=True).fresh
    assert get(client, OUTPUT) == b"new"


def test_client_brings_for_the_host_that_holds_the_input(client: Session) -> None:
    tell(client)
    assert problem_of(bring(client, OUTPUT)) == "Refused"
    assert problem_of(bring(client, OUTPUT, source="h2")) == "Refused"
    assert bring(client, OUTPUT, source="h1").fresh


def test_peer_leaves_no_word_of_what_it_was_refused(peer: Session, root: Root) -> None:
    receipt = Receipt(b"poison" + bytes(10), b"inputs")
    bring(peer, OUTPUT, receipt=receipt)
    with contextlib.closing(Store(root)) as store:
        assert store.keys.maker(receipt.maker) is None
