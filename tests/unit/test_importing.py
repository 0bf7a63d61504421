"""Inventories made of an s4.conf or an ssh_config, which have to be right as they are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sshmap.errors import NothingMatched, UsageError
from sshmap.inventory.importing import from_s4, from_ssh
from sshmap.inventory.loading import load


def hosts_of(text: str, folder: Path) -> list[tuple[str, str, str]]:
    path = folder / "inventory.toml"
    path.write_text(text, encoding="utf-8")
    return [(host.name, host.address, host.root) for host in load(path).hosts]


def test_servers_of_s4_keep_their_order_and_may_share_a_machine(tmp_path: Path) -> None:
    config = tmp_path / "s4.conf"
    config.write_text("# servers\n10.0.0.2:8080\n\n10.0.0.1:8080 # old\nbig.example.org\n10.0.0.2:8081\n")
    assert hosts_of(from_s4(config), tmp_path) == [
        ("10.0.0.2", "10.0.0.2", "~/.sshmap"), ("10.0.0.1", "10.0.0.1", "~/.sshmap"),
        ("big.example.org", "big.example.org", "~/.sshmap"), ("10.0.0.2-8081", "10.0.0.2", "~/.sshmap-8081"),
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["$(touch pwned):80", "a b:80", "h:port", "-oProxyCommand=x:1", 'x"\nroot="/:1'])
def test_line_that_is_no_address_is_refused(tmp_path: Path, line: str) -> None:
    config = tmp_path / "s4.conf"
    config.write_text(f"10.0.0.1:80\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        from_s4(config)


def test_hosts_of_an_ssh_config_are_found_by_name_also_in_what_it_includes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    (home / ".ssh" / "more").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    config = home / ".ssh" / "config"
    config.write_text(
        "Include more/*\nHost web1 db1\n  User x\nhost=web2 'web3'\nHost web* !webx web?\nHost *\nInclude missing\n"
        "Host web1\nMatch host web9\n"
    )
    (home / ".ssh" / "more" / "a").write_text("Host web0\nInclude ~/.ssh/config\n")
    names = [name for name, _, _ in hosts_of(from_ssh("web*", config), tmp_path)]
    assert names == ["web0", "web1", "web2", "web3"]


def test_nothing_to_start_from_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(NothingMatched):
        from_s4(tmp_path / "empty")
    with pytest.raises(NothingMatched, match="'web"):
        from_ssh("web*", tmp_path / "empty")
    for call in (from_s4, lambda path: from_ssh("*", path)):
        with pytest.raises(UsageError, match="No such file"):
            call(tmp_path / "missing")


def test_files_that_include_each_other_are_read_once(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"part{number}").write_text(f"Include {tmp_path}/part*\nHost web{number}\n")
    names = [name for name, _, _ in hosts_of(from_ssh("web*", tmp_path / "part0"), tmp_path)]
    assert sorted(names) == sorted(f"web{number}" for number in range(20))
