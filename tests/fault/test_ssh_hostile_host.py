"""Every lie of a host behind a real sshd, on both transports, of which `make test` tells each on one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sshmap import Cluster
from tests.hostile_sshd import LyingSshd
from tests.integration import test_ssh_hostile_host as part
from tests.integration.test_ssh_hostile_host import client, impatient, liar, make_sshd_hosts
from tests.lies import LIES
from tests.sshd import TRANSPORTS

__all__ = ["client", "impatient", "liar", "make_sshd_hosts"]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_host_that_lies_is_named_on_both_transports(
    transport: str, lie: str, liar: LyingSshd, client: Callable[[str], Cluster], tmp_path: Path
) -> None:
    part.test_host_that_lies_is_named_and_nothing_comes_of_it(transport, lie, liar, client, tmp_path)
