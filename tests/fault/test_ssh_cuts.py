"""Hundreds of connections to real sshd that are cut at random bytes: one, two, three and thirty in a row."""

from __future__ import annotations

import contextlib
import itertools
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
#: connections that break in a row, RST or FIN, and whether the port refuses afterwards
ROUNDS = list(itertools.product((1, 2, 3, 30), (False, True), (False, True)))
CALLS = ("put_tree", "put file", "get_tree", "get_file", "cat", "ls -r", "map", "fanout", "rm")
#: of all of them together; thirty in a row are more than a call makes
AT_LEAST = 300

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def broken() -> Iterator[list[int]]:
    """How many connections broke in each round; they have to be enough in the end."""
    counts: list[int] = []
    yield counts
    complete = len(counts) == len(ROUNDS) * len(CALLS) * len(TRANSPORTS)
    assert not complete or sum(counts) >= AT_LEAST, sum(counts)


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
@pytest.mark.parametrize("verb", CALLS)
def test_call_cut_at_random_bytes_is_complete_or_an_error_and_complete_when_repeated(
    proxies: Proxies, sources: Path, transport: str, verb: str, broken: list[int], tmp_path: Path
) -> None:
    inventory = proxies.inventory(transport)
    with contextlib.closing(Trial(proxies, inventory, VERBS[verb], sources, tmp_path / "places")) as trial:
        for seed, (times, fin, refuse) in enumerate(ROUNDS):
            broken.append(break_at_random(proxies, trial, seed, times=times, fin=fin, refuse=refuse))
