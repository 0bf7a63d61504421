"""What runs on a host, by who works there.

- `session`: what an agent does for one client: admit it, list, send and receive keys, plan a job and follow it.
- `daemon`: what works without a client: workers run tasks, the courier brings fan-out files to their hosts.
- `shuffle`: the bookkeeping of a fan-out, which sessions and daemon share.
- `host`: what concerns the machine itself: setting it up, its peers, its status, starting and stopping the daemon.
- `execution`: running commands, and ending whatever they leave.

`__main__` is where every process begins, `manager` keeps the daemon's processes alive. Sessions and
daemon never import each other: they share the ledger and the files below the root. Nothing here imports
typer, rich, paramiko or fabric.
"""
