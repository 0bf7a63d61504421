"""A few random kills on real hosts, of those that local hosts do not have; the many are in tests/fault."""

from __future__ import annotations

import random
from pathlib import Path

from tests import sshd
from tests.kills import kill_at_random
from tests.pipeline import STEPS, Pipeline
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts

SEED = 1


def test_command_whose_ssh_or_session_is_killed_makes_what_it_makes_in_peace(
    sshd_hosts: SshdHosts, tmp_path: Path
) -> None:
    dice = random.Random(SEED)
    sshd_hosts.add(2)
    pipeline = Pipeline(sshd_hosts, sshd_hosts.write(sshd_hosts.inventory("openssh", workers=2)), tmp_path)
    victims = ["ssh", "sshd session"] * (len(STEPS) // 2)
    dice.shuffle(victims)
    for step, victim in zip(STEPS, victims, strict=True):
        pipeline.suffer(step, "killed", kill_at_random(pipeline, victim, dice), {0, 1, 3})
