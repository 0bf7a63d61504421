"""Where an agent's process begins: ``python -I …/sshmap/agent/__main__.py serve --root DIR``.

The directory that holds the package is put first on the import path, so that the same
arguments work for an installed package and for the unpacked code on a host.
"""

from __future__ import annotations

import gc
import os
import sys


def main(argv: list[str]) -> int:
    """Run what ``argv[1]`` says: ``serve`` (by the warm agent if it can), ``alone`` (in this process), ``peer=NAME``, ``daemon``."""
    verb, _, peer = argv[1].partition("=") if len(argv) == 4 and argv[2] == "--root" else ("", "", "")
    if verb not in ("serve", "alone", "peer", "daemon") or bool(peer) != (verb == "peer"):
        sys.stderr.write("sshmap's agent; it is started by sshmap\n")
        return 2
    if argv[1] == "serve":
        from sshmap.agent.host.handoff import pass_on  # the path is set by now

        if pass_on(argv[3]):
            return 0
    os.umask(0o022)
    gc.disable()  # importing makes no garbage, and every session waits for it
    if argv[1] == "daemon":
        # cotyledon would show titles of its own if it found this package, which is not on every host
        sys.modules["setproctitle"] = None  # type: ignore[assignment]
        from sshmap.agent.manager import main as run_daemon  # cotyledon is only loaded where it is used

        _collect_again()
        run_daemon(argv[3])
        return 0
    from sshmap.agent.session.server import serve
    from sshmap.store.layout import Root
    from sshmap.transport.channel import FdChannel

    _collect_again()
    serve(Root(argv[3]), FdChannel(0, 1, silence=None), peer=peer)
    return 0


def _collect_again() -> None:
    """Collect garbage from now on, but not among what was imported, which is used until the end."""
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.exit(main(sys.argv))
