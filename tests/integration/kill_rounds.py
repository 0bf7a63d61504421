"""Many rounds of kills, for an evening: ``python -m tests.integration.kill_rounds 200``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


def main() -> int:
    """Run as many rounds as the first argument says, 200 by itself."""
    os.environ["SSHMAP_KILL_ROUNDS"] = sys.argv[1] if len(sys.argv) > 1 else "200"
    return pytest.main(["-q", "-k", "killed_run", str(Path(__file__).with_name("test_kills.py"))])


if __name__ == "__main__":
    sys.exit(main())
