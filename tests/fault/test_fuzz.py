"""A hundred thousand frames of any kind in either direction, of which `make test` has some hundreds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap.protocol import messages as m
from tests.integration.conftest import canary
from tests.integration.test_fuzz import CALLS, answer_anything, impatient, no_thread_fails, send_anything

__all__ = ["canary", "impatient", "no_thread_fails"]
#: about ten frames each for an agent, about four each for a client
SESSIONS, ANSWERED = 10_000, 25_000
#: sessions of one run of hypothesis, which remembers all of its examples, and bytes by which memory may grow
PART, GROWTH = 500, 100 << 20

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def memory_is_bounded() -> Iterator[None]:
    """What was sent is not kept."""
    before = resident()
    yield
    assert resident() - before < GROWTH


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(fields["VmRSS"].split()[0]) << 10


@pytest.mark.usefixtures("no_thread_fails", "canary", "memory_is_bounded")
def test_agent_takes_a_hundred_thousand_frames_without_a_bug(tmp_path: Path) -> None:
    for _ in range(SESSIONS // PART):
        send_anything(tmp_path, PART)


@pytest.mark.usefixtures("no_thread_fails", "impatient", "memory_is_bounded")
@pytest.mark.parametrize("request_kind", CALLS, ids=lambda kind: kind.__name__)
def test_client_takes_a_hundred_thousand_frames_without_a_bug(
    tmp_path: Path, canary: Path, monkeypatch: pytest.MonkeyPatch, request_kind: type[m.Message]
) -> None:
    for _ in range(ANSWERED // len(CALLS) // PART + 1):
        answer_anything(tmp_path, canary, monkeypatch, request_kind, PART)
