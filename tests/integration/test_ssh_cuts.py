"""Calls whose ssh connections are cut by the network at random bytes; a few, the many are in tests/fault."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from tests import calls, cutting, proxy, sshd
from tests.calls import VERBS, Trial
from tests.proxy import Proxies, break_at_random
from tests.sshd import TRANSPORTS, SshdHosts

make_sshd_hosts = sshd.make_sshd_hosts
impatient = cutting.impatient


@pytest.fixture(scope="module")
def proxies(make_sshd_hosts: Callable[[], SshdHosts]) -> Iterator[Proxies]:
    """Two hosts that are up, each behind a proxy."""
    hosts = make_sshd_hosts()
    hosts.add(2)
    with proxy.standing(hosts) as opened:
        yield opened


@pytest.fixture(scope="module")
def sources(proxies: Proxies, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are only sent, and keys on the hosts that are only read."""
    top = calls.make_sources(tmp_path_factory.mktemp("sources"))
    with Cluster(proxies.inventory("openssh")) as cluster:
        cluster.put_tree(top / "tree", "sm://given/")
    return top


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("verb", "times", "fin", "refuse"),
    [
        ("put_tree", 2, False, False),
        ("get_tree", 1, True, False),
        ("get_file", 3, False, True),
        ("map", 1, True, True),
        ("fanout", 3, True, True),
    ],
)
def test_call_cut_at_random_bytes_is_complete_or_an_error_and_complete_when_repeated(
    proxies: Proxies, sources: Path, transport: str, verb: str, *, times: int, fin: bool, refuse: bool, tmp_path: Path
) -> None:
    inventory = proxies.inventory(transport)
    with contextlib.closing(Trial(proxies, inventory, VERBS[verb], sources, tmp_path / "places")) as trial:
        assert break_at_random(proxies, trial, seed=1, times=times, fin=fin, refuse=refuse) > 0
