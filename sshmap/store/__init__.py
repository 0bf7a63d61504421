"""The store: all that the processes of one host share.

`layout` names the files below the root, `ownership` judges whether others could alter it. `ledger` opens
the database whose tables `schema` draws; `keys`, `jobs`, `tasks` (with `task_ends`), `outbox`, `endings` (of runs that are
cancelled or halted), `notices` (of runs that are over), `forgetting` (old runs), `paces` (how long tasks take) and
`history` (what is kept of attempts) hold the statements on it.
`digest` digests content, `receipts` says what is digested for receipts, job ids and inputs. `files` opens
and moves the key files, `writing` writes and copies content, `seal` tells without reading whether a file was
changed, `contents` compares files with their rows, `integrity` reads all of
them, `damages` holds what was found by that. `commit` changes files and rows together in one
transaction, `swaps` notes which file is to replace which, as a move is no part of a transaction. `locks`
says which processes are alive, `memory` and `space` how much is available, `kept_failures` holds the directories of failed
tasks, `packages` those of others that functions import, `wholeness` what fan-outs have not brought below a directory.

A key exists if and only if its row is committed: a file without a row is garbage and invisible, a row
without its file is corruption and reported.
"""
