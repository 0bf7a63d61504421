"""Stores a ledger of today's tables, with something in each of them, beside those of earlier versions."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sshmap.model import JobSpec, Maker, Receipt, RunId, Verb
from sshmap.store.damages import Round, Rounds
from sshmap.store.jobs import Jobs
from sshmap.store.keys import Keys, Row
from sshmap.store.layout import Root
from sshmap.store.ledger import Ledger
from sshmap.store.outbox import Outbox
from sshmap.store.receipts import digest_maker
from sshmap.store.schema import VERSION
from sshmap.store.tasks import NewTask, Tasks

SPECS = [
    JobSpec(indir="sm://in/", outdir="sm://out/", maker=Maker(verb=Verb.MAP, command="cat")),
    JobSpec(indir="sm://in/", outdir="sm://days/", maker=Maker(verb=Verb.FANOUT, command="ls")),
]


def fill(ledger: Ledger) -> None:
    """Put some keys and two runs into a ledger, one over and one with a file on its way."""
    tasks = Tasks(ledger)
    receipt = Receipt(digest_maker(SPECS[0].maker), b"i" * 16)
    with ledger.change():
        keys = Keys(ledger)
        keys.insert(Row("in/a", 3, b"d" * 16, 1_700_000_000, None))
        keys.insert(Row("out/a", 3, b"e" * 16, 1_700_000_001, receipt), ("in/a",))
        keys.insert(
            Row("out/m", 3, b"e" * 16, 1_700_000_001, receipt), tuple(f"in/{number}/m" for number in range(100))
        )
        ledger.bump()
    for number, spec in enumerate(SPECS, start=1):
        run = Jobs(ledger).open(spec, RunId(f"{number:012}"))
        outdir = spec.outdir.removeprefix("sm://")
        with ledger.change():
            tasks.enqueue(
                run, [NewTask(output=f"{outdir}{name}", members=("in/a",), inputs=b"i" * 16) for name in ("a/", "b/")]
            )
            Jobs(ledger).end_queueing(run, 0)
        one, other = tasks.claim(0, 2, fanouts=True)
        with ledger.change():
            tasks.fail(other.id, "CommandsFailed", "exit 1", 1)
            if spec.maker.verb is Verb.FANOUT:
                Outbox(ledger).post(one.id, "h1", f"{one.output}0_x", 7, b"f" * 16, one.receipt, replaces=False)
                Outbox(ledger).record_fanout(one.output, one.members[0], one.receipt, 1, b"n" * 16)
                tasks.send({one.id: 7})
            else:
                tasks.finish({one.id: 7})
    Outbox(ledger).note_stuck("h1", "HostLost", "h1: Connection refused")
    with ledger.change() as db:
        db.execute("INSERT INTO damages VALUES ('in/a', 0, 0)")
    Rounds(ledger).save(Round(began=1_700_000_000.0, after="in/a", done=3, total=9))


def main() -> None:
    """Write the file of today's version."""
    with tempfile.TemporaryDirectory() as folder:
        root = Root(folder)
        root.create()
        ledger = Ledger(root)
        fill(ledger)
        lines = [*ledger.db.iterdump(), f"PRAGMA user_version={VERSION};", ""]
        ledger.close()
    (Path(__file__).parent / f"{VERSION}.sql").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
