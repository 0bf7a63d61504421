"""Every verb with its connection to one host cut at every frame, in both directions.

Either the result is that of an undisturbed call, or an error names the host; what is there then is right, and
the same call again gives the undisturbed result. Each cut has a prefix of its own, and a client that connects anew.

Each frame is cut once, before it and in the middle of it in turns, and half of the series of cuts are made: tests/fault makes all.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.errors import SshmapError
from sshmap.inventory import Inventory
from sshmap.store.layout import Root
from tests import calls, cutting
from tests.calls import VERBS, Trial
from tests.conftest import files_below, processes_below, wait_until
from tests.cutting import Cut, Kind, Network, Way, in_time
from tests.integration import fleet

impatient, network = cutting.impatient, cutting.network

#: cuts in a row, and whether the host refuses connections afterwards
SERIES = list(itertools.product((1, 2, 3, 30), (False, True)))
#: rows of a listing that comes in several pages
ROWS = 2100


@pytest.fixture(scope="module")
def sources(shop: Inventory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files that are only sent, and keys on the shared hosts that are only read."""
    top = calls.make_sources(tmp_path_factory.mktemp("sources"))
    with Cluster(shop) as cluster:
        cluster.put_tree(top / "tree", "sm://given/")
        (top / "many").mkdir()
        for number in range(ROWS):
            (top / "many" / f"000_{number}").touch()
        cluster.put_tree(top / "many", "sm://many/")
    return top


def halves_in(root: Root) -> list[Path]:
    """Return what sessions have left in tmp/: all but the worker's own."""
    worker = f"{fleet.process_of(root, 'worker')}."
    return [path for path in files_below(Path(root.tmp)) if not path.relative_to(root.tmp).parts[0].startswith(worker)]


@pytest.fixture(params=VERBS)
def trial(
    request: pytest.FixtureRequest, network: Network, shop: Inventory, sources: Path, tmp_path: Path
) -> Iterator[Trial]:
    """A verb about to be cut; no half of a file is left on a host when all agents have noticed."""
    with contextlib.closing(Trial(network, shop, VERBS[request.param], sources, tmp_path / "places")) as opened:
        yield opened
    roots = [fleet.root_of(shop, host.name) for host in shop.hosts]
    wait_until(lambda: not any(map(halves_in, roots)), what="half-received files are left")


def cut(trial: Trial, network: Network, *cuts: Cut, refuse: bool = False) -> int:
    """Have the first host's connections cut so during a call; return how many were."""
    trial.attempt(lambda: network.plan("h0", *cuts, refuse=refuse), (cuts, refuse))
    return network.cuts


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_call_cut_at_any_frame_is_complete_or_an_error_and_complete_when_repeated(
    trial: Trial, network: Network, way: Way
) -> None:
    cut_at_frames(trial, network, way, lambda frame: (frame % 2 == 1,))


def cut_at_frames(trial: Trial, network: Network, way: Way, insides: Callable[[int], tuple[bool, ...]]) -> None:
    """Cut a call at one frame after the other, until it has no more.

    Args:
        trial: the call.
        network: the connections.
        way: the direction.
        insides: says for the number of a frame whether it is cut before it, in the middle of it, or both.
    """
    kinds = itertools.cycle(Kind)
    for frame in itertools.count():
        cuts = [cut(trial, network, Cut(way, frame, inside=inside, kind=next(kinds))) for inside in insides(frame)]
        # behind the last frame there may be nothing to be cut in the middle
        if not sum(cuts) and not cut(trial, network, Cut(way, frame, kind=next(kinds))):
            break
    assert frame > 2


@pytest.mark.parametrize(
    ("times", "refuse"), [(times, refuse) for number, (times, refuse) in enumerate(SERIES) if number in {1, 2, 5, 6}]
)
def test_call_cut_again_and_again_is_complete_or_an_error_and_complete_when_repeated(
    trial: Trial, network: Network, times: int, *, refuse: bool
) -> None:
    assert cut(trial, network) == 0
    frames = next(channel.frames for host, channel in network.dialled if host == "h0")
    for seed in range(3):
        some = random.Random(seed)
        cuts = [
            Cut(way, some.randint(0, frames[way]), inside=some.random() < 0.5, kind=some.choice(list(Kind)))
            for way in some.choices(list(Way), k=times)
        ]
        cut(trial, network, *cuts, refuse=refuse)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_down_cut_at_any_frame_leaves_nothing_running_when_repeated(
    network: Network, tmp_path: Path, roots: Path, way: Way
) -> None:
    inventory = fleet.local_inventory(roots, hosts=1)
    for frame in itertools.count():
        with Cluster(inventory) as cluster:
            network.calm()
            cluster.up()
            network.plan("h0", Cut(way, frame, kind=Kind.RESET))
            outcome = in_time(cluster.down)
            happened = network.cuts
            assert not isinstance(outcome, SshmapError) or (outcome.exit_code, outcome.host) == (3, "h0")
            network.calm()
            cluster.down()
        wait_until(lambda: not processes_below(roots), what="processes are left after down")
        if not happened:
            break
    assert frame > 2
