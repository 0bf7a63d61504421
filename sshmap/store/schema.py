"""The tables of a ledger, and the steps that migrate an older ledger to them.

A change of the tables raises `VERSION`, adds the step from the version before to `STEPS`, and stores
a ledger of the version before with the tests. A released version's step never changes.
"""

from __future__ import annotations

VERSION = 14
#: the oldest version that can be brought up to date
OLDEST = 10
#: by version: the statements that migrate a ledger to it from the version before; each statement ends at a line end
STEPS: dict[int, str] = {
    11: """
DROP INDEX tasks_active;
CREATE INDEX tasks_active ON tasks (state, id) WHERE epoch = 0;
""",
    12: """
CREATE TABLE removals (prefix TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
""",
    13: """
ALTER TABLE fanouts ADD COLUMN member TEXT NOT NULL DEFAULT '';
""",
    14: """
ALTER TABLE runs ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN ending TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN force INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN followed REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN partial INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN keep_done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN notify TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN hosts TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN wanted TEXT NOT NULL DEFAULT '';
CREATE INDEX runs_notify ON runs (seq) WHERE notify > '' AND told = 0;
CREATE TABLE overs (
    run TEXT NOT NULL, host TEXT NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL,
    PRIMARY KEY (run, host)
) WITHOUT ROWID;
UPDATE runs SET number = seq;
CREATE INDEX runs_open ON runs (seq) WHERE ended IS NULL;
ALTER TABLE tasks ADD COLUMN queued REAL;
ALTER TABLE tasks ADD COLUMN due REAL NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN usage BLOB;
DROP INDEX tasks_active;
CREATE INDEX tasks_active ON tasks (state, run, id) WHERE epoch = 0;
CREATE INDEX tasks_making ON tasks (output) WHERE epoch = 0;
CREATE INDEX tasks_due ON tasks (due) WHERE epoch = 0 AND state = 'queued' AND due > 0;
CREATE INDEX tasks_cancelled ON tasks (run, id) WHERE state = 'cancelled';
ALTER TABLE attempts ADD COLUMN queued REAL;
ALTER TABLE attempts ADD COLUMN ran REAL;
ALTER TABLE attempts ADD COLUMN user REAL;
ALTER TABLE attempts ADD COLUMN system REAL;
ALTER TABLE attempts ADD COLUMN peak INTEGER;
ALTER TABLE attempts ADD COLUMN received INTEGER;
ALTER TABLE attempts ADD COLUMN made INTEGER;
ALTER TABLE attempts ADD COLUMN stderr BLOB;
CREATE TABLE paces (run INTEGER NOT NULL, step INTEGER NOT NULL, tasks INTEGER NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
INSERT INTO meta SELECT 'attempts', count(*) FROM attempts;
INSERT INTO meta SELECT 'said', ifnull(sum(length(message)), 0) FROM attempts;
CREATE TRIGGER attempt_comes AFTER INSERT ON attempts BEGIN
    UPDATE meta SET value = value + iif(name = 'said', ifnull(length(new.message), 0) + ifnull(length(new.stderr), 0), 1)
        WHERE name IN ('attempts', 'said');
END;
CREATE TRIGGER attempt_goes AFTER DELETE ON attempts BEGIN
    UPDATE meta SET value = value - iif(name = 'said', ifnull(length(old.message), 0) + ifnull(length(old.stderr), 0), 1)
        WHERE name IN ('attempts', 'said');
END;
CREATE TABLE cancels (run TEXT PRIMARY KEY, force INTEGER NOT NULL, at REAL NOT NULL, hosts TEXT NOT NULL) WITHOUT ROWID;
DROP TRIGGER task_moves;
CREATE TRIGGER task_moves AFTER UPDATE OF state, epoch, size ON tasks BEGIN
    UPDATE tallies SET tasks = tasks - 1, size = size - old.size
        WHERE run = old.run AND state = old.state AND epoch = old.epoch;
    INSERT INTO tallies VALUES (new.run, new.state, new.epoch, 1, new.size)
        ON CONFLICT DO UPDATE SET tasks = tasks + 1, size = size + excluded.size;
    UPDATE runs SET ended = (julianday('now') - 2440587.5) * 86400.0
        WHERE new.epoch > 0 AND seq = new.run AND queued IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM tallies WHERE run = new.run AND epoch = 0 AND tasks > 0);
END;
CREATE TABLE damages (name TEXT PRIMARY KEY, inode INTEGER NOT NULL, ctime INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rounds (began REAL NOT NULL, after TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL, ended INTEGER NOT NULL);
""",
}

SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
INSERT INTO meta VALUES ('id', lower(hex(randomblob(8)))), ('generation', 0), ('outbox', 0), ('attempts', 0), ('said', 0);
-- a key exists if and only if it has a row here; members are the names of the inputs of what a job made, one a line,
-- as text or, where that is smaller, compressed by zlib as a blob
CREATE TABLE keys (
    name TEXT PRIMARY KEY, size INTEGER NOT NULL, digest BLOB NOT NULL, mtime INTEGER NOT NULL,
    maker BLOB, inputs BLOB, inode INTEGER NOT NULL, ctime INTEGER NOT NULL, members
) WITHOUT ROWID;
-- what receipts refer to: verb, command and shipped files, as JSON
CREATE TABLE makers (id BLOB PRIMARY KEY, spec BLOB NOT NULL) WITHOUT ROWID;
-- files to unlink unless a new row has come for them
CREATE TABLE garbage (name TEXT PRIMARY KEY) WITHOUT ROWID;
-- keys about to be swapped: by whom, which file will be moved to the name, and what its row will be
CREATE TABLE swaps (
    name TEXT NOT NULL, owner TEXT NOT NULL, size INTEGER NOT NULL, digest BLOB NOT NULL, mtime INTEGER NOT NULL,
    maker BLOB, inputs BLOB, inode INTEGER NOT NULL, members, PRIMARY KEY (name, owner)
) WITHOUT ROWID;
-- keys that were found damaged, each with inode and ctime of its row: a row that was written since has others
CREATE TABLE damages (name TEXT PRIMARY KEY, inode INTEGER NOT NULL, ctime INTEGER NOT NULL) WITHOUT ROWID;
-- the slow round in which the daemon reads every key, at most one row: when it began, the last key that was read, how
-- much was read and how much there was to read when it began
CREATE TABLE rounds (began REAL NOT NULL, after TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL, ended INTEGER NOT NULL);

-- what is to be done; the same command is the same job
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, verb TEXT NOT NULL, indir TEXT NOT NULL, outdir TEXT NOT NULL, maker BLOB NOT NULL
) WITHOUT ROWID;
-- a job as it is worked on, from when a client opens it until nothing of it is left to do. `epoch` grows each time
-- a client opens the run; `queued` is when all its tasks were queued, `ended` when the last of them ended; `limits` is
-- what the run is allowed, as JSON; no part of what the job is. `number` is what people call the run, 0 until its tasks
-- are queued; `origin` says from where it was submitted; `ending` why no task of it begins any more, and `force` what
-- becomes of those that run; `turn` grows with each claim, so that runs take turns; `followed` is when a client last
-- followed the run; `notify` is a command that the first of `hosts` runs once when the run is over on all of them, `told`
-- whether this host has done its part in that; `wanted` are the hosts that the job was submitted to, one a line,
-- those included that did not answer then
CREATE TABLE runs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, epoch INTEGER NOT NULL DEFAULT 1,
    replaces INTEGER NOT NULL, limits TEXT NOT NULL DEFAULT '{}', kept INTEGER NOT NULL DEFAULT 0,
    submitted REAL NOT NULL, queued REAL, ended REAL, number INTEGER NOT NULL DEFAULT 0, origin TEXT NOT NULL DEFAULT '',
    ending TEXT NOT NULL DEFAULT '', force INTEGER NOT NULL DEFAULT 0, turn INTEGER NOT NULL DEFAULT 0,
    followed REAL NOT NULL DEFAULT 0, partial INTEGER NOT NULL DEFAULT 0, keep_done INTEGER NOT NULL DEFAULT 0, notify TEXT NOT NULL DEFAULT '',
    hosts TEXT NOT NULL DEFAULT '', told INTEGER NOT NULL DEFAULT 0, wanted TEXT NOT NULL DEFAULT ''
);
CREATE INDEX runs_job ON runs (job, seq);
CREATE INDEX runs_open ON runs (seq) WHERE ended IS NULL;
CREATE INDEX runs_notify ON runs (seq) WHERE notify > '' AND told = 0;
-- what the other hosts of a run have told its first host about its end there
CREATE TABLE overs (
    run TEXT NOT NULL, host TEXT NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, cancelled INTEGER NOT NULL,
    PRIMARY KEY (run, host)
) WITHOUT ROWID;
-- runs that were cancelled, and the hosts that have not been told yet, one a line
CREATE TABLE cancels (run TEXT PRIMARY KEY, force INTEGER NOT NULL, at REAL NOT NULL, hosts TEXT NOT NULL) WITHOUT ROWID;
-- how many tasks of a run took how long: `step` is a logarithm of the time (see `sshmap.store.paces`)
CREATE TABLE paces (run INTEGER NOT NULL, step INTEGER NOT NULL, tasks INTEGER NOT NULL, PRIMARY KEY (run, step)) WITHOUT ROWID;
-- prefixes all of whose keys were deleted, and the newest run at that time
CREATE TABLE removals (prefix TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
-- one command to be run; `attempt` is the number of the newest attempt, `epoch` that of the run when the task ended,
-- 0 until then; a failed task that is to be tried again is not begun before `due`; `failures` counts its
-- failed attempts; `usage` is what the attempt took of a task whose files are on their way
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, output TEXT NOT NULL, members TEXT NOT NULL, inputs BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'queued', slot INTEGER, attempt INTEGER NOT NULL DEFAULT 0, began REAL,
    epoch INTEGER NOT NULL DEFAULT 0, size INTEGER NOT NULL DEFAULT 0, stale INTEGER NOT NULL DEFAULT 0, queued REAL,
    due REAL NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0, usage BLOB, UNIQUE (run, output)
);
CREATE INDEX tasks_active ON tasks (state, run, id) WHERE epoch = 0;
CREATE INDEX tasks_making ON tasks (output) WHERE epoch = 0;
CREATE INDEX tasks_due ON tasks (due) WHERE epoch = 0 AND state = 'queued' AND due > 0;
CREATE INDEX tasks_failed ON tasks (run, id) WHERE state = 'failed';
CREATE INDEX tasks_cancelled ON tasks (run, id) WHERE state = 'cancelled';
CREATE INDEX tasks_stale ON tasks (run, id) WHERE stale = 1;
-- what became of each execution of a task; rows are only ever added. `ran` is how long its command took, `user` and
-- `system` are CPU time, all in seconds; `peak` is the memory of its largest process, `received` and `made` are what it
-- read and made, all in bytes; `stderr` is the beginning and the end of what it said
CREATE TABLE attempts (
    task INTEGER NOT NULL, number INTEGER NOT NULL, slot INTEGER, began REAL, ended REAL NOT NULL, outcome TEXT NOT NULL,
    kind TEXT, message TEXT, exit_code INTEGER, queued REAL, ran REAL, user REAL, system REAL, peak INTEGER,
    received INTEGER, made INTEGER, stderr BLOB, PRIMARY KEY (task, number)
) WITHOUT ROWID;
CREATE TRIGGER attempt_comes AFTER INSERT ON attempts BEGIN
    UPDATE meta SET value = value + iif(name = 'said', ifnull(length(new.message), 0) + ifnull(length(new.stderr), 0), 1)
        WHERE name IN ('attempts', 'said');
END;
CREATE TRIGGER attempt_goes AFTER DELETE ON attempts BEGIN
    UPDATE meta SET value = value - iif(name = 'said', ifnull(length(old.message), 0) + ifnull(length(old.stderr), 0), 1)
        WHERE name IN ('attempts', 'said');
END;
-- how many tasks of a run are in which state, so that nobody has to count them
CREATE TABLE tallies (
    run INTEGER NOT NULL, state TEXT NOT NULL, epoch INTEGER NOT NULL, tasks INTEGER NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (run, state, epoch)
) WITHOUT ROWID;
CREATE TRIGGER task_comes AFTER INSERT ON tasks BEGIN
    INSERT INTO tallies VALUES (new.run, new.state, new.epoch, 1, new.size)
        ON CONFLICT DO UPDATE SET tasks = tasks + 1, size = size + excluded.size;
END;
CREATE TRIGGER task_moves AFTER UPDATE OF state, epoch, size ON tasks BEGIN
    UPDATE tallies SET tasks = tasks - 1, size = size - old.size
        WHERE run = old.run AND state = old.state AND epoch = old.epoch;
    INSERT INTO tallies VALUES (new.run, new.state, new.epoch, 1, new.size)
        ON CONFLICT DO UPDATE SET tasks = tasks + 1, size = size + excluded.size;
    UPDATE runs SET ended = (julianday('now') - 2440587.5) * 86400.0
        WHERE new.epoch > 0 AND seq = new.run AND queued IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM tallies WHERE run = new.run AND epoch = 0 AND tasks > 0);
END;
-- only a task that is sending has files on their way
CREATE TRIGGER task_sends_no_more AFTER UPDATE OF state ON tasks WHEN old.state = 'sending' AND new.state <> 'sending' BEGIN
    DELETE FROM outbox WHERE task = old.id;
END;

-- fan-out files on their way; the file is tmp/outbox/<id>, so an id must never come back
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, task INTEGER NOT NULL, peer TEXT NOT NULL, name TEXT NOT NULL,
    size INTEGER NOT NULL, digest BLOB NOT NULL, maker BLOB NOT NULL, inputs BLOB NOT NULL, replaces INTEGER NOT NULL
);
CREATE INDEX outbox_peer ON outbox (peer, id);
CREATE INDEX outbox_task ON outbox (task);
CREATE TRIGGER outbox_grows AFTER INSERT ON outbox BEGIN
    UPDATE meta SET value = value + new.size WHERE name = 'outbox';
END;
CREATE TRIGGER outbox_shrinks AFTER DELETE ON outbox BEGIN
    UPDATE meta SET value = value - old.size WHERE name = 'outbox';
END;
-- what each finished fan-out task has put around the cluster; member is the name of its input, empty in older records
CREATE TABLE fanouts (
    output TEXT PRIMARY KEY, maker BLOB NOT NULL, inputs BLOB NOT NULL, count INTEGER NOT NULL, names BLOB NOT NULL,
    member TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
-- peers the courier cannot reach: the class of the error, and its words
CREATE TABLE stuck (peer TEXT PRIMARY KEY, kind TEXT NOT NULL, why TEXT NOT NULL) WITHOUT ROWID;
"""
