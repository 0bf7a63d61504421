"""A hundred thousand frames of any kind for an agent, of which `make test` has some hundreds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import canary
from tests.integration.test_fuzz import no_thread_fails, send_anything

__all__ = ["canary", "no_thread_fails"]
#: about ten frames each
SESSIONS = 10_000


@pytest.mark.usefixtures("no_thread_fails", "canary")
def test_agent_takes_a_hundred_thousand_frames_without_a_bug(tmp_path: Path) -> None:
    send_anything(tmp_path, SESSIONS)
