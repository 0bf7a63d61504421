"""The store: all that the processes of one host share.

`layout` names the files below the root, `ledger` opens the database, `keys` and
`queue` hold the statements on it, `files` touches the key files, `commit` brings both
together in one transaction, `locks` says who is alive. A key exists if and only if its
row is committed: a file without a row is garbage and invisible, a row without its file
is corruption and reported.
"""
