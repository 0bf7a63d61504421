"""The wheel that `make dist` builds: all of the package is in it, and it works without a checkout."""

from __future__ import annotations

import sys
import sysconfig
import zipfile
from pathlib import Path

import sshmap
from tests.acceptance.conftest import PACKAGE, CommandLine, package_files


def test_wheel_has_a_name_of_its_own_and_all_of_the_package(wheel: Path) -> None:
    assert wheel.name == f"sshmap_cluster-{sshmap.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if name.startswith("sshmap/")}
        (entry,) = [name for name in opened.namelist() if name.endswith("entry_points.txt")]
        assert "sshmap = sshmap.cli.start:main" in opened.read(entry).decode()
    assert held == {str(path.relative_to(PACKAGE.parent)) for path in package_files()}


def test_unpacked_wheel_works_by_itself(wheel: Path, typed: CommandLine) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(typed.folder / "site")
    # the packages it needs, without the checkout, which is on no path here
    needs = sysconfig.get_path("purelib")
    script = typed.folder / "programs" / "sshmap"
    start = f"import sys; sys.path[:0] = ['{typed.folder}/site', '{needs}']; from sshmap.cli.start import main; main()"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S -c "{start}" "$@"\n')
    done = typed.shell(
        "printf 'b\\na\\n' | sshmap --local 1 cp - sm://in/x && sshmap --local 1 -q map sm://in/ sm://out/ sort"
    )
    assert done.code == 0, done.err
    assert typed.shell("sshmap --local 1 cat sm://out/x").out == b"a\nb\n"
