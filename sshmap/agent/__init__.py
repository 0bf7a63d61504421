"""What runs on a host: agents that answer sessions, and the daemon with its workers and courier.

Start with `server` (one session), `submit` and `expand` (a job becomes tasks), then `worker`
(a task becomes a key) and `courier` (a fan-out file reaches its host). `daemon` keeps them
alive. They share the ledger and the files, nothing else. Nothing here imports typer, rich,
paramiko or fabric.
"""
