"""Ledgers of every released version are brought up to date and keep what they hold; others are refused with what to do."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from sshmap.agent.host import lifecycle
from sshmap.agent.session.server import serve
from sshmap.errors import Refused
from sshmap.model import RunId, Verb
from sshmap.protocol.messages import GetStatus, Hello, Status
from sshmap.store import ledger as ledger_module
from sshmap.store.jobs import Jobs, Run
from sshmap.store.keys import Keys
from sshmap.store.layout import LAYOUT, ClusterFile, Root
from sshmap.store.ledger import Ledger
from sshmap.store.outbox import Outbox
from sshmap.store.schema import VERSION
from sshmap.store.tasks import Tasks
from sshmap.transport import memory
from sshmap.transport.session import Session

STORED = sorted(Path(__file__).parent.glob("ledgers/*.sql"))
HELLO = Hello(host="h0", ring=(("h0", 1.0),))


@pytest.fixture
def root(tmp_path: Path) -> Root:
    made = Root(tmp_path / "root")
    made.create()
    return made


def stored(root: Root, path: Path) -> None:
    """Give a root a stored ledger."""
    with contextlib.closing(sqlite3.connect(root.ledger)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(path.read_text(encoding="utf-8"))


def drawn(ledger: Ledger) -> set[tuple[str, str, str]]:
    """Return all that a ledger's tables consist of, however its lines are broken."""
    rows = ledger.db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {(kind, name, " ".join(sql.replace(",", " , ").split()).replace(" )", ")")) for kind, name, sql in rows}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> int:
    """Code of a version that has two steps more."""
    steps = {
        VERSION + 1: "CREATE TABLE colors (name TEXT);\nINSERT INTO colors VALUES ('red');\n",
        VERSION + 2: "ALTER TABLE colors ADD COLUMN hue INTEGER NOT NULL DEFAULT 7;\n",
    }
    monkeypatch.setattr(ledger_module, "STEPS", steps)
    monkeypatch.setattr(ledger_module, "VERSION", VERSION + 2)
    return VERSION + 2


def test_ledger_of_today_is_stored() -> None:
    assert STORED[-1].stem == str(VERSION)


@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.stem))
def test_stored_ledger_becomes_one_of_today(root: Root, tmp_path: Path, path: Path) -> None:
    stored(root, path)
    fresh = Root(tmp_path / "fresh")
    fresh.create()
    with contextlib.closing(Ledger(root)) as ledger, contextlib.closing(Ledger(fresh)) as other:
        assert drawn(ledger) == drawn(other)


@pytest.mark.parametrize("path", STORED, ids=lambda path: str(path.stem))
def test_stored_ledger_keeps_what_it_holds(root: Root, path: Path) -> None:
    stored(root, path)
    with contextlib.closing(Ledger(root)) as ledger:
        keys, jobs, outbox = Keys(ledger), Jobs(ledger), Outbox(ledger)
        assert [entry.name for entry in keys.scan("")] == ["in/a", "out/a", "out/m"]
        assert keys.members_of("out/m") == tuple(f"in/{number}/m" for number in range(100))
        runs = [Run(seq=row.seq, id=RunId(row.id), epoch=0) for row in jobs.runs()]
        assert [jobs.states(run)[0] for run in runs] == [{"failed": 1, "sending": 1}, {"done": 1, "failed": 1}]
        (failed,) = Tasks(ledger).failed(runs[1], 10)
        assert (failed.message, failed.exit_code) == ("exit 1", 1)
        (parcel,) = outbox.parcels("h1", 10)
        assert (parcel.name, parcel.members, outbox.size()) == ("days/a/0_x", ("in/a",), 7)
        maker = keys.maker(parcel.receipt.maker)
        assert maker is not None
        assert (maker.verb, outbox.stuck(runs[0].seq)) == (Verb.FANOUT, {"h1": 1})


def test_steps_are_made_one_after_the_other_and_once(root: Root, later: int) -> None:
    stored(root, STORED[-1])
    for _ in range(2):
        with contextlib.closing(Ledger(root)) as ledger:
            assert ledger.db.execute("SELECT * FROM colors").fetchall() == [("red", 7)]
            assert ledger.db.execute("PRAGMA user_version").fetchone() == (later,)


def test_step_that_breaks_changes_nothing(root: Root, later: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(root, STORED[-1])
    with monkeypatch.context() as patch:
        patch.setattr(
            ledger_module,
            "STEPS",
            {VERSION + 1: "CREATE TABLE colors (name TEXT);\n", later: "CREATE TABLE colors (again);\n"},
        )
        with pytest.raises(Exception, match="already exists"):
            Ledger(root)
    with contextlib.closing(sqlite3.connect(root.ledger)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert not db.execute("SELECT * FROM sqlite_master WHERE name = 'colors'").fetchall()


@pytest.mark.parametrize("version", [1, 2, 9])
def test_ledger_of_before_the_first_release_is_refused_with_what_to_do(root: Root, version: int) -> None:
    with contextlib.closing(sqlite3.connect(root.ledger)) as db:
        db.execute(f"PRAGMA user_version={version}")
    with pytest.raises(Refused, match="written by an earlier sshmap") as caught:
        Ledger(root)
    assert "down --purge" in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "words"), [(LAYOUT - 1, "made by an earlier sshmap"), (LAYOUT + 1, "this sshmap knows")]
)
def test_root_of_another_layout_is_refused_and_left_as_it_is(root: Root, layout: int, words: str) -> None:
    root.write_cluster(ClusterFile(layout=layout, root_id="1", host="h0", ring=HELLO.ring, fingerprint=""))
    before = root.cluster_file.read_bytes()
    with pytest.raises(Refused, match=words):
        Session(memory.connect(lambda channel: serve(root, channel)), HELLO)
    assert root.cluster_file.read_bytes() == before


def test_daemon_of_older_code_is_stopped_before_its_ledger_changes(
    root: Root, later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(root, STORED[-1])
    seen: list[int] = []

    def stop(place: Root) -> bool:
        with contextlib.closing(sqlite3.connect(place.ledger)) as db:
            seen.extend(db.execute("PRAGMA user_version").fetchone())
        return True

    monkeypatch.setattr(lifecycle, "stop", stop)
    for _ in range(2):
        with contextlib.closing(Session(memory.connect(lambda channel: serve(root, channel)), HELLO)) as session:
            assert session.ask(GetStatus(), Status).keys == 3
    assert seen == [VERSION]
