"""Ad hoc commands: `eval` on a key, `exec` on the host. They are run within the session, and end with it."""

from __future__ import annotations

import contextlib
import os
import selectors
from pathlib import Path

from sshmap.agent.execution.once import Once
from sshmap.agent.execution.shell import task_environment
from sshmap.errors import HostLost, UsageError
from sshmap.model import base_name, show
from sshmap.protocol.framing import CHUNK, FrameWriter
from sshmap.protocol.messages import Exited, Said
from sshmap.store import locks
from sshmap.store.commit import Store
from sshmap.store.layout import remove_tree
from sshmap.transport.channel import Channel


def serve_command(store: Store, command: str, name: str, channel: Channel, writer: FrameWriter) -> None:
    """Run a command, on a key's content if a name is given, and stream stdout, stderr and the exit code.

    Raises:
        NothingMatched: there is no such key.
        DigestMismatch: its content is damaged.
    """
    if "\0" in command:
        raise UsageError("the command holds a NUL byte")
    cluster = store.root.read_cluster()
    environment = task_environment(cluster.host, str(store.root.path))
    stdin = open_input(store, name) if name else os.open(os.devnull, os.O_RDONLY)
    if name:
        environment |= {
            "SSHMAP_KEY": show(name), "SSHMAP_NAME": base_name(name), "SSHMAP_FILE": store.files.path(name),
            "SSHMAP_JOB": "eval", "SSHMAP_ATTEMPT": "1", "filename": base_name(name),
        }  # fmt: skip
    scratch = locks.scratch_dir(store.root)
    try:
        folder = scratch if name else Path.home()
        process = Once(command, stdin, folder, environment)
        with contextlib.closing(process):
            stream(process, channel, writer)
            code = process.wait()
        writer.message(Exited(code=code))
    finally:
        os.close(stdin)
        remove_tree(scratch)


def open_input(store: Store, name: str) -> int:
    """Open a key's content, checked, and return the descriptor.

    Raises:
        NothingMatched: there is no such key.
        DigestMismatch: its content is damaged.
    """
    fd, _ = store.contents.open_whole(name)
    os.set_blocking(fd, True)
    return fd


def stream(process: Once, channel: Channel, writer: FrameWriter) -> None:
    """Pass on the command's stdout and stderr until both have ended.

    Raises:
        HostLost: the client left.
    """
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        selector.register(channel.fileno(), selectors.EVENT_READ)
        while len(selector.get_map()) > 1:
            for key, _ in selector.select():
                if key.fd == channel.fileno():
                    raise HostLost("the client left")
                piece = os.read(key.fd, CHUNK)
                if not piece:
                    selector.unregister(key.fd)
                elif key.fd == process.stdout:
                    writer.data(piece)
                    writer.flush()
                else:
                    writer.message(Said(text=piece))
