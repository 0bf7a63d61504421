"""Every verb cut before each frame and in the middle of it, and in all series of cuts, of which `make test` makes half; promise 12."""

from __future__ import annotations

import pytest

from tests.calls import Trial
from tests.cutting import Network, Way
from tests.fault.nights import NIGHT
from tests.integration import conftest
from tests.integration import test_cuts as part
from tests.integration.test_cuts import impatient, network, sources, trial

shop = conftest.shop

__all__ = ["impatient", "network", "sources", "trial"]

pytestmark = pytest.mark.timeout(NIGHT)


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_call_cut_before_and_in_any_frame_is_complete_or_an_error_and_complete_when_repeated(
    trial: Trial, network: Network, way: Way
) -> None:
    part.cut_at_frames(trial, network, way, lambda _: (False, True))


@pytest.mark.parametrize(("times", "refuse"), part.SERIES)
def test_call_cut_in_any_series_is_complete_or_an_error_and_complete_when_repeated(
    trial: Trial, network: Network, times: int, refuse: bool
) -> None:
    part.test_call_cut_again_and_again_is_complete_or_an_error_and_complete_when_repeated(
        trial, network, times, refuse=refuse
    )
