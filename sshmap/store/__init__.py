"""The store: all that the processes of one host share.

`layout` names the files below the root, `ledger` opens the database whose tables `schema`
draws, `keys`, `jobs`, `tasks` and `outbox` hold the statements on it, `receipts` says what
its digests are digests of, `files` touches the key files, `seal` tells without reading whether one was
touched, `contents` holds files against their rows, `commit` brings both together in one transaction,
`swaps` notes what it cannot hold, `locks` says who is alive. A key exists if and only if its
row is committed: a file without a row is garbage and invisible, a row without its file
is corruption and reported.
"""
