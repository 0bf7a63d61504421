"""Accounts whose login shell is not bash, on hosts that see a passwd file of their own."""

from __future__ import annotations

import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sshmap import Cluster
from tests.integration import fleet
from tests.sshd import TRANSPORTS, Place, SshdHosts, user_name

#: mounts a file over /etc/passwd where no other process sees it, then starts the rest
_OVER_PASSWD = 'mount --bind "$0" /etc/passwd && exec "$@"'
SHUFFLE = 'read -r line; for n in 0 1; do echo "$line $n" > 00${n}_x; echo 00${n}_x; done'


class ShellHosts(SshdHosts):
    """Hosts that log the user in with a shell.

    Args:
        top: an empty directory for all of it.
        shell: the shell's path.
    """

    def __init__(self, top: Path, shell: str) -> None:
        super().__init__(top)
        me = pwd.getpwnam(user_name())
        self._passwd = top / "passwd"
        others = [row for row in pwd.getpwall() if row.pw_name != me.pw_name]
        rows = [(*me[:6], shell), *others]
        self._passwd.write_text("".join(":".join(map(str, row)) + "\n" for row in rows), encoding="utf-8")

    def place(self, number: int) -> Place:
        """Return where a host listens: in a mount namespace of its own, which only root can make."""
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.fail("no unshare on this machine: the tests of login shells need util-linux", pytrace=False)
        assert number >= 0
        return Place(prefix=(unshare, "--mount", "sh", "-c", _OVER_PASSWD, str(self._passwd)))


@pytest.fixture
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ShellHosts]:
    with ShellHosts(tmp_path / "ssh", request.param) as opened:
        yield opened


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("hosts", ["/bin/dash"], indirect=True)
def test_hosts_with_dash_come_up_and_shuffle(hosts: ShellHosts, transport: str) -> None:
    hosts.add(2)
    with Cluster(hosts.inventory(transport)) as cluster:
        assert cluster.up()[1] == {}
        spoken = cluster.exec('getent passwd "$(id -un)"; echo "$BASH_VERSION"')
        for said in spoken.values():
            shell, version = said.stdout.splitlines()
            assert (shell.endswith(b":/bin/dash"), bool(version)) == (True, True), "commands are bash's all the same"
        for number in range(4):
            cluster.put(b"line %d\n" % number, f"sm://in/k{number}")
        result = cluster.fanout("sm://in/", "sm://out/", SHUFFLE)
        assert (result.done, result.relayed) == (4, False)
        cluster.merge("sm://out/", "sm://merged/", "xargs cat | sort")
        assert cluster.get("sm://merged/001_x") == b"".join(b"line %d 1\n" % number for number in range(4))
        cluster.down(purge=True)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("hosts", ["/usr/sbin/nologin"], indirect=True)
def test_account_without_a_login_is_named_with_what_it_says(hosts: ShellHosts, transport: str) -> None:
    hosts.add()
    code, _, err = fleet.sshmap(hosts.write(hosts.inventory(transport)), "up")
    assert (code, b"h0" in err, b"not available" in err) == (3, True, True), err
