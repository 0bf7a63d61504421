"""A host that never comes back: what `doctor` says of it, and every step that it names, typed as it stands."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec

from tests import sshd
from tests.conftest import processes_below, wait_until
from tests.integration import fleet
from tests.sshd import SshdHosts

sshd_hosts = sshd.sshd_hosts
FANOUT = ("fanout", "sm://b/in/", "sm://b/parts/", "for n in 0 1 2; do cat $SSHMAP_FILE > 00${n}_$filename; done; ls")
MERGE = ("merge", "sm://b/parts/", "sm://b/out/", "tr '\\n' '\\0' | xargs -0 cat | sort")


def typed(inventory: Path, *arguments: str, code: int = 0) -> tuple[bytes, str]:
    """Type a command, look how it ends, and return what it said."""
    ended, out, err = fleet.sshmap(inventory, *arguments)
    assert ended == code, err.decode()
    return out, err.decode()


def end_for_good(hosts: SshdHosts, number: int) -> None:
    host = hosts.hosts[number]
    host.stop()
    fleet.end_all_at(host.root)
    wait_until(lambda: not processes_below(host.home), what="processes of the host are left")
    shutil.rmtree(host.home)


def test_another_machine_takes_the_name_of_a_host_that_is_gone(sshd_hosts: SshdHosts, tmp_path: Path) -> None:
    sshd_hosts.add(3)
    files = tmp_path / "files"
    files.mkdir()
    for number in range(12):
        (files / f"{number:03}_k").write_text(f"{number}\n" * (number + 1))
    before = sshd_hosts.write(sshd_hosts.inventory())
    typed(before, "up")
    typed(before, "cp", "-r", str(files), "sm://b/in")
    typed(before, *FANOUT)
    typed(before, *MERGE)
    whole, _ = typed(before, "cat", "sm://b/out/")
    end_for_good(sshd_hosts, 2)

    out, _ = typed(before, "doctor", "--json", code=3)
    gone, lost = (finding for finding in json.loads(out) if finding["host"] == "h2")
    assert gone["blocks"]
    # its inputs, of which the other hosts hold parts
    assert "has held at least 4, from which keys on other hosts were made" in lost["problem"], out
    steps = lost["mend"]
    assert all(word in steps for word in ("address", f"sshmap -i {before} trust", f"sshmap -i {before} up", "sync"))

    # what it says: another machine, its key, up, the inputs, the jobs
    (other,) = sshd_hosts.add(known=False)
    taken = msgspec.structs.replace(sshd_hosts.host(other), name="h2")
    rest = sshd_hosts.inventory(hosts=sshd_hosts.hosts[:2])
    after = sshd_hosts.write(msgspec.structs.replace(rest, hosts=(*rest.hosts, taken)))
    typed(after, "trust", "-y")
    typed(after, "up")
    _, said = typed(after, "sync", str(files), "sm://b/in")
    assert said.splitlines()[-1].startswith("done: 4 ok, 0 failed, 8 kept")
    _, said = typed(after, *FANOUT)
    assert said.splitlines()[-1].startswith("done: 12 ok, 0 failed, 0 kept")
    _, said = typed(after, *MERGE)
    again, _ = typed(after, "cat", "sm://b/out/")
    assert again == whole
    assert json.loads(typed(after, "doctor", "--json")[0]) == []
