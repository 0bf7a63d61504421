"""What `ssh` says on stderr becomes the error that decides whether a request is made again."""

from __future__ import annotations

import pytest

from sshmap.client.retrying import breaks
from sshmap.errors import HostLost
from sshmap.transport.openssh import explain

#: stderr, exit code, whether the connection broke so that trying again may help
SAID = [
    ("client_loop: send disconnect: Broken pipe", 255, True),
    ("client_loop: send disconnect: Connection reset", 255, True),
    ("Connection to 10.0.0.1 closed by remote host.", 255, True),
    ("packet_write_poll: Connection to 10.0.0.1 port 22: Broken pipe", 255, True),
    ("ssh_dispatch_run_fatal: Connection to 10.0.0.1 port 22: message authentication code incorrect", 255, True),
    ("Timeout, server 10.0.0.1 not responding.", 255, True),
    ("", 255, True),
    ("", None, True),
    ("kex_exchange_identification: Connection closed by remote host", 255, True),
    ("Connection reset by 10.0.0.1 port 22", 255, True),
    ("", 1, False),
    ("ssh: connect to host h port 22: Connection refused", 255, False),
    ("ssh: Could not resolve hostname h: Name or service not known", 255, False),
    ("h: Permission denied (publickey).", 255, False),
    ("Host key verification failed.", 255, False),
    ("sh: 1: /root/.sshmap/agent: not found", 127, False),
]


@pytest.mark.parametrize(("said", "code", "broken"), SAID)
def test_break_is_told_from_what_trying_again_does_not_mend(said: str, code: int | None, *, broken: bool) -> None:
    error = explain(said.encode(), code)
    assert isinstance(error, HostLost)
    assert breaks(error) == broken
    assert str(error)
