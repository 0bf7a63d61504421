"""What the doctor makes of what was collected."""

from __future__ import annotations

import msgspec
import pytest

from sshmap.client import doctor
from sshmap.client.bootstrap import LEAST_FREE, Facts
from sshmap.client.doctor import Visit
from sshmap.client.results import Finding
from sshmap.inventory import Host
from sshmap.protocol.messages import Diagnosis, Status

HOST = Host(name="h1", address="example.org")
FACTS = Facts(
    root="/home/u/.sshmap", python="/usr/bin/python3", version=(3, 11), machine="x86_64", libc="glibc", bash="/bin/bash", bash_version=(4, 4),
    keygen="/usr/bin/ssh-keygen", ssh="/usr/bin/ssh", writable=True, executable=True, free=LEAST_FREE, cores=4, clock=0.0, home="/home/u", have=True,
)  # fmt: skip
WELL = Visit(facts=FACTS, noise=b"\n", took=0.5, skew=1.0)


def status(name: str, root_id: str = "", **fields: object) -> Status:
    known = {
        "host": name,
        "keys": 0,
        "size": 0,
        "free": 1,
        "cores": 1,
        "workers": 1,
        "daemon": True,
        "root_id": root_id or name,
    }
    return msgspec.convert({**known, **fields}, Status)


def test_well_host_has_no_findings() -> None:
    assert doctor.judge_visit(HOST, WELL) == []
    assert doctor.judge_diagnosis("h1", Diagnosis()) == []


@pytest.mark.parametrize(
    ("field", "value", "said", "blocks"),
    [
        ("bash", "", "no bash", True),
        ("bash_version", (4, 3), "bash on the host is version 4.3", True),
        ("keygen", "", "no ssh-keygen", True),
        ("ssh", "", "no ssh program", False),
        ("have", False, "not set up", True),
        ("writable", False, "cannot be written to", True),
        ("executable", False, "noexec", True),
        ("free", LEAST_FREE - 1, "MiB free", True),
    ],
)
def test_lack_of_a_host_is_found(field: str, value: object, said: str, blocks: bool) -> None:
    seen = msgspec.structs.replace(WELL, facts=msgspec.structs.replace(FACTS, **{field: value}))
    (finding,) = doctor.judge_visit(HOST, seen)
    assert (finding.host, said in finding.problem, finding.blocks, bool(finding.mend)) == ("h1", True, blocks, True)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("noise", b"Welcome!\n", "'Welcome!'"),
        ("took", 7.24, "takes 7.2 s"),
        ("skew", 3600.0, "3600 s ahead"),
        ("skew", -61.0, "61 s behind"),
    ],
)
def test_what_is_odd_on_the_way_is_found_and_does_not_block(field: str, value: object, said: str) -> None:
    (finding,) = doctor.judge_visit(HOST, msgspec.structs.replace(WELL, **{field: value}))
    assert (said in finding.problem, finding.blocks) == (True, False)


@pytest.mark.parametrize(("clock", "skew"), [(99.0, -1.0), (100.0, 0.0), (103.0, 0.0), (105.0, 0.0), (106.5, 1.5)])
def test_clock_within_the_time_of_the_question_is_right(clock: float, skew: float) -> None:
    assert doctor.skew_of(clock, 100.0, 105.0) == skew


def test_more_keys_than_a_server_lets_one_offer_are_found_unless_one_is_named() -> None:
    named = msgspec.structs.replace(HOST, identity_file="~/.ssh/id")
    assert doctor.judge_laptop([named], 9, ssh=True) == []
    assert doctor.judge_laptop([HOST], 5, ssh=True) == []
    (finding,) = doctor.judge_laptop([HOST, named], 6, ssh=True)
    assert ("6 keys" in finding.problem, "identity_file" in finding.mend, finding.host) == (True, True, "")


def test_missing_ssh_program_matters_to_ssh_hosts_alone() -> None:
    local = Host(name="h0", connect="local", root="/r")
    assert doctor.judge_laptop([local], 0, ssh=False) == []
    assert [finding.blocks for finding in doctor.judge_laptop([local, HOST], 0, ssh=False)] == [True]


def test_one_root_under_two_names_is_found() -> None:
    statuses = {"h1": status("h1", "one"), "h2": status("h2", "two"), "h3": status("h3", "one")}
    (finding,) = doctor.judge_twins(statuses)
    assert (finding.host, finding.problem, finding.blocks) == ("h3", "it is the same root as h1", True)


def test_peer_that_is_not_reached_is_found_with_the_reason() -> None:
    diagnosis = Diagnosis(unreached={"h2": "connection refused"}, findings=(("odd", "mend it"),))
    reached, odd = doctor.judge_diagnosis("h1", diagnosis)
    assert reached.problem == "it does not reach h2: connection refused"
    assert odd == Finding(host="h1", problem="odd", mend="mend it")


def test_stopped_daemon_blocks_and_names_up() -> None:
    local = Host(name="h1", connect="local", root="/r")
    (finding,) = doctor.judge_status(local, status("h1", daemon=False))
    assert (finding.mend, finding.blocks) == ("sshmap up", True)


@pytest.mark.parametrize(
    ("problem", "mend"),
    [("only 3 MiB free below /r", "free some space"), ("2 damaged keys, first sm://b/k", "sshmap verify")],
)
def test_what_a_host_has_found_about_itself_comes_with_what_mends_it(problem: str, mend: str) -> None:
    local = Host(name="h1", connect="local", root="/r")
    found = doctor.judge_status(local, status("h1", findings=(problem,)))
    assert [finding.mend.startswith(mend) for finding in found if finding.problem == problem] == [True]


def test_error_names_the_hosts_that_are_of_no_use() -> None:
    findings = [Finding(host=name, problem="p", mend="m", blocks=name != "h2") for name in ("h3", "h2", "h1")]
    error = doctor.blocked(findings)
    assert error is not None
    assert (error.exit_code, error.message.endswith(": h1, h3")) == (3, True)
    assert doctor.blocked(findings[1:2]) is None
