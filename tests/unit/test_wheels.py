"""Code for hosts of another platform: only wheels that this package knows by their digests are ever unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from sshmap.client import runtime
from sshmap.client.wheels import Platform
from sshmap.errors import HostNotReady

OTHER = Platform(version=(3, 12), machine="aarch64", libc="glibc")
PINNED = runtime._WHEELS.read_text(encoding="ascii")


@pytest.mark.parametrize("package", runtime.PACKAGES)
def test_every_package_for_hosts_has_a_version_and_digests(package: str) -> None:
    (line,) = [part for part in PINNED.replace(" \\\n", "").splitlines() if part.startswith(f"{package}==")]
    # compiled ones have a wheel for three versions of Python on two machines
    assert line.count("--hash=sha256:") == (6 if package in ("msgspec", "xxhash") else 1)


def test_wheel_that_somebody_altered_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in PINNED.splitlines():
        if "==" in line:
            name, version = line.split()[0].split("==")
            with zipfile.ZipFile(tmp_path / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{name}/__init__.py", "raise SystemExit('pwned')")
                wheel.writestr(
                    f"{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                )
                wheel.writestr(f"{name}-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HostNotReady, match="DO NOT MATCH THE HASHES"):
        runtime._fetched(OTHER)


def test_platform_without_a_known_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(HostNotReady, match=r"no wheels that sshmap trusts for Python 3\.12 on manylinux2014_aarch64"):
        runtime._fetched(OTHER)
