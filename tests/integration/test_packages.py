"""Packages of others that functions import: fetched by the client, shipped to hosts once, gone with the runs that need them."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sshmap import Cluster
from sshmap.client.job_results import JobFailed
from sshmap.client.listing import Placed
from sshmap.errors import OtherReceipt, SshmapError, UsageError
from sshmap.functions import Input, Output
from sshmap.store.layout import Root
from tests import sshd, wheelhouse
from tests.conftest import wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Wheels of two packages, of which the first one needs the other one."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheelhouse.add_wheel(
        folder,
        "aside",
        {"aside/__init__.py": "from inner import WORD", "aside/more.py": "MORE = 'more'"},
        needs="inner>=1",
    )
    wheelhouse.add_wheel(folder, "inner", {"inner-1.0.data/purelib/inner.py": "WORD = 'inner'"})
    wheelhouse.use(folder, monkeypatch)
    return folder


def use_aside(rows: Input, out: Output) -> None:
    aside, more = importlib.import_module("aside"), importlib.import_module("aside.more")
    out.write(f"{rows.text()} {aside.WORD} {more.MORE} {aside.__file__}")


def fill(cluster: Cluster, bucket: str) -> None:
    for number in range(6):
        cluster.put(b"%d" % number, f"sm://{bucket}/in/{number}")


def packages_of(cluster: Cluster) -> list[Path]:
    """Return the directories of packages on the hosts of a local cluster."""
    return [path for host in cluster.inventory.hosts for path in Path(host.root, "shipped").glob("*.packages")]


def contents(cluster: Cluster, prefix: str) -> list[str]:
    rows = [row for row in cluster.ls(prefix, recursive=True) if isinstance(row, Placed)]
    return [cluster.get(row).decode() for row in rows]


def test_packages_are_shipped_once_and_go_with_their_runs(
    cluster: Cluster, bucket: str, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(cluster, bucket)
    cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_aside, packages=["aside"])
    made = contents(cluster, f"sm://{bucket}/out/")
    assert len(made) == 6
    assert all(" inner more " in text and ".packages/aside/__init__.py" in text for text in made)
    assert len(packages_of(cluster)) == 3
    # the modules were compiled when they came: nothing is written there by tasks
    assert all(list(path.rglob("*.pyc")) for path in packages_of(cluster))
    writable = [path for top in packages_of(cluster) for path in (top, *top.rglob("*")) if path.stat().st_mode & 0o222]
    assert writable == []
    # neither the index nor what was fetched is needed again
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(wheels / "nothing"))
    assert cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/again/", use_aside, packages=["aside"]).done == 6
    cluster.forget(0)
    assert packages_of(cluster) == []


def test_packages_stand_behind_modules_of_python_and_before_what_is_installed(
    cluster: Cluster, bucket: str, wheels: Path
) -> None:
    wheelhouse.add_wheel(wheels, "aside_all", {"colorsys.py": "raise ImportError", "xxhash.py": "WORD = 'shipped'"})

    def use_both(rows: Input, out: Output) -> None:
        importlib.import_module("colorsys")
        out.write(importlib.import_module("xxhash").WORD)

    fill(cluster, bucket)
    cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_both, packages=["aside-all"])
    assert contents(cluster, f"sm://{bucket}/out/") == ["shipped"] * 6


def test_requirements_are_part_of_the_receipt(cluster: Cluster, bucket: str, wheels: Path) -> None:
    fill(cluster, bucket)
    to = f"sm://{bucket}/out/"
    cluster.map(f"sm://{bucket}/in/", to, use_aside, packages=["aside"])
    assert cluster.map(f"sm://{bucket}/in/", to, use_aside, packages=["aside "]).kept == 6
    with pytest.raises(OtherReceipt):
        cluster.map(f"sm://{bucket}/in/", to, use_aside, packages=["aside>=1"])


def test_what_the_local_interpreter_has_is_not_fetched(
    cluster: Cluster, bucket: str, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use_msgspec(rows: Input, out: Output) -> None:
        out.write(importlib.import_module("msgspec").json.encode([1]))

    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    fill(cluster, bucket)
    cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_msgspec, packages=["msgspec>=0.1"])
    assert contents(cluster, f"sm://{bucket}/out/") == ["[1]"] * 6
    assert packages_of(cluster) == []


def test_package_that_cannot_be_fetched_ends_the_job_before_anything_runs(
    cluster: Cluster, bucket: str, wheels: Path
) -> None:
    fill(cluster, bucket)
    with pytest.raises(UsageError, match="cannot fetch nothing-such>=2 for Python 3"):
        cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_aside, packages=["nothing-such>=2"])
    assert contents(cluster, f"sm://{bucket}/out/") == []
    # the same call goes on once there is such a package
    wheelhouse.add_wheel(wheels, "nothing_such", {"nothing_such.py": ""}, version="2.1", needs="aside")
    assert cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_aside, packages=["nothing-such>=2"]).done == 6


def import_all(rows: Input, out: Output) -> None:
    out.write(str(sum(importlib.import_module(f"many.m{number}").NUMBER for number in range(300))))


def test_host_that_is_killed_while_it_unpacks_gets_the_packages_again(
    cluster: Cluster, bucket: str, wheels: Path
) -> None:
    lines = "\n".join(f"def f{line}(): return {line}" for line in range(100))
    wheelhouse.add_wheel(wheels, "many", {f"many/m{number}.py": f"NUMBER = {number}\n{lines}" for number in range(300)})
    fill(cluster, bucket)
    tops = [Path(host.root) for host in cluster.inventory.hosts]
    killed: list[int] = []

    def kill() -> None:
        wait_until(
            lambda: any(path.exists() for top in tops for path in top.glob("tmp/**/many/m9.py")), what="a host unpacks"
        )
        for top in tops:
            if list(top.glob("tmp/**/many")):
                pid = fleet.process_of(Root(top), "listener")
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(kill)
        with contextlib.suppress(SshmapError):
            cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", import_all, packages=["many"])
        done.result()
    assert killed
    cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", import_all, packages=["many"])
    assert contents(cluster, f"sm://{bucket}/out/") == [str(sum(range(300)))] * 6


def test_function_says_which_package_it_lacks(cluster: Cluster, bucket: str) -> None:
    fill(cluster, bucket)
    with pytest.raises(JobFailed) as failed:
        cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_aside)
    assert "No module named 'aside'" in failed.value.result.failures[0].message


def test_hosts_reached_by_ssh_get_packages(sshd_hosts: SshdHosts, bucket: str, wheels: Path) -> None:
    """Also those that this machine's interpreter has, as theirs may not."""
    sshd_hosts.add(2)
    with Cluster(sshd_hosts.inventory("openssh", workers=1)) as cluster:
        cluster.up()
        fill(cluster, bucket)
        cluster.map(f"sm://{bucket}/in/", f"sm://{bucket}/out/", use_aside, packages=["aside"])
        made = contents(cluster, f"sm://{bucket}/out/")
        assert len(made) == 6
        assert all(" inner more " in text and ".packages/aside/__init__.py" in text for text in made)
        cluster.down()
