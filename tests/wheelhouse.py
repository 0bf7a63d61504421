"""A directory of small wheels from which pip fetches, as there is no network in the tests."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest


def add_wheel(
    folder: Path, name: str, files: dict[str, str], *, version: str = "1.0", needs: str = "", tag: str = "py3-none-any"
) -> None:
    """Make a wheel.

    Args:
        folder: where to.
        name: of the package.
        files: its files by name.
        version: its version.
        needs: a requirement that it has.
        tag: what it is for.
    """
    there = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", f"Requires-Dist: {needs}\n" * bool(needs)]
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as wheel:
        for file, content in files.items():
            wheel.writestr(file, content)
        wheel.writestr(f"{there}/METADATA", "".join(metadata))
        wheel.writestr(f"{there}/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")


def use(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have pip take wheels from a directory and nowhere else, and what is fetched be kept beside it."""
    patch.setenv("PIP_CONFIG_FILE", "/dev/null")
    patch.setenv("PIP_NO_INDEX", "1")
    patch.setenv("PIP_FIND_LINKS", str(folder))
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
