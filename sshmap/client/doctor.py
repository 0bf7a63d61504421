"""`doctor`: what may be wrong with the hosts, the way to them and this machine, each with what mends it.

Installs nothing and starts nothing; that a host was never set up is a finding like others. The functions named
``judge_…`` judge what the others have collected, and do no I/O.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable

import msgspec

from sshmap.client import bootstrap
from sshmap.client.bootstrap import Facts
from sshmap.client.conversations import Conversations
from sshmap.client.results import Finding
from sshmap.client.runtime import wanted
from sshmap.errors import HostNotReady, SshmapError, is_silent
from sshmap.inventory import Host
from sshmap.model import typed
from sshmap.protocol import messages as m
from sshmap.protocol.handshake import quote

#: seconds
SLOW_LOGIN, SKEW, ASK_AGENT = 3.0, 60.0, 5.0
#: keys that an ssh agent may hold: sshd refuses a login after six that it did not accept (MaxAuthTries)
MOST_KEYS = 5


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at an ssh host brought."""

    facts: Facts
    #: what the host's shell prints at a login, apart from the answers
    noise: bytes
    #: seconds that connecting and finding Python took
    took: float
    #: how much its clock is ahead, in seconds
    skew: float


def examine(conversations: Conversations, hosts: Iterable[Host]) -> list[Finding]:
    """Examine this machine and some hosts, all at once."""
    chosen = {host.name: host for host in hosts}
    found, failures = conversations.gather(lambda name: _examine_host(conversations, chosen[name]), chosen)
    findings = judge_laptop(chosen.values(), agent_keys(), ssh=shutil.which("ssh") is not None)
    for name, error in failures.items():
        findings.append(Finding(host=name, problem=error.message, mend=_mend(error, chosen[name]), blocks=True))
    statuses = {name: status for name, (_, status) in found.items() if status}
    if any(status.keys for status in statuses.values()):
        lost = [name for name, error in failures.items() if is_silent(error)]
        findings += judge_lost(lost, _lineage(conversations, lost, statuses))
    for some, _ in found.values():
        findings += some
    order = {"": -1, **{name: number for number, name in enumerate(chosen)}}
    return sorted([*findings, *judge_twins(statuses)], key=lambda finding: order[finding.host])


def _examine_host(conversations: Conversations, host: Host) -> tuple[list[Finding], m.Status | None]:
    with conversations.gate(host):
        findings = [] if host.is_local else judge_visit(host, visit(host))
    if any(finding.blocks for finding in findings):
        return findings, None
    try:
        status, diagnosis = conversations.ask(
            host.name, lambda session: (session.ask(m.GetStatus(), m.Status), session.ask(m.Diagnose(), m.Diagnosis))
        )
    except SshmapError as exc:
        # what was found so far is reported as well
        findings.append(Finding(host=host.name, problem=exc.message, mend=exc.hint or "sshmap up", blocks=True))
        return findings, None
    return [*findings, *judge_status(host, status), *judge_diagnosis(host.name, diagnosis)], status


def _lineage(conversations: Conversations, lost: Iterable[str], others: Iterable[str]) -> list[m.LineageCounts]:
    """Ask hosts what they know of the keys of hosts that were not reached."""
    request = m.CountLineage(hosts=tuple(lost))
    if not request.hosts:
        return []
    answers, _ = conversations.gather(
        lambda name: conversations.ask(name, lambda session: session.ask(request, m.LineageCounts)), others
    )
    return [*answers.values()]


def visit(host: Host) -> Visit:
    """Look at an ssh host as `up` would, changing nothing.

    Raises:
        HostLost: it cannot be reached or logged in to.
        HostNotReady: it has no Python that agents run on.
    """
    began, noise = time.monotonic(), bytearray()
    python = bootstrap.find_python(host, noise)
    took = time.monotonic() - began
    before = time.time()
    facts = bootstrap.look(host, python.path)
    return Visit(facts=facts, noise=bytes(noise), took=took, skew=skew_of(facts.clock, before, time.time()))


def skew_of(clock: float, before: float, after: float) -> float:
    """Return by how many seconds a clock is certainly ahead, or behind (negative), if it was read between two times of ours."""
    return max(clock - after, 0.0) or min(clock - before, 0.0)


def agent_keys() -> int:
    """Count the keys that the ssh agent holds."""
    try:
        done = subprocess.run(["ssh-add", "-l"], capture_output=True, timeout=ASK_AGENT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return 0 if done.returncode else len(done.stdout.splitlines())


def judge_laptop(hosts: Iterable[Host], keys: int, *, ssh: bool) -> list[Finding]:
    """Judge what hosts have in common: the programs and keys of this machine."""
    remote = [host for host in hosts if not host.is_local]
    if not remote:
        return []
    if not ssh:
        return [Finding(problem="there is no ssh program here", mend="install the OpenSSH client", blocks=True)]
    if keys > MOST_KEYS and any(not host.identity_file for host in remote):
        return [
            Finding(
                problem=f"the ssh agent offers {keys} keys, and servers refuse after 6 (MaxAuthTries)",
                mend='name the right one in the inventory: identity_file = "~/.ssh/KEY"',
            )
        ]
    return []


def judge_visit(host: Host, seen: Visit) -> list[Finding]:
    """Judge what a look at an ssh host brought."""
    facts, findings = seen.facts, []

    def find(problem: str, mend: str, *, blocks: bool = False) -> None:
        findings.append(Finding(host=host.name, problem=problem, mend=mend, blocks=blocks))

    for problem, mend in bootstrap.hindrances(facts):
        find(problem, mend, blocks=True)
    if not facts.have:
        find("it is not set up", "sshmap up", blocks=True)
    if not facts.ssh:
        find("it has no ssh program, so its fan-out files go through this machine", "install the OpenSSH client on it")
    if seen.noise.strip():
        find(
            f"its start-up files print{quote(seen.noise)}",
            "print only where somebody looks: put [ -t 1 ] && before it, in its ~/.bashrc",
        )
    if seen.took > SLOW_LOGIN:
        find(
            f"logging in takes {seen.took:.1f} s",
            f"look which step is slow (name service, PAM, start-up files): {_try(host).replace('ssh ', 'ssh -v ', 1)}",
        )
    return findings + judge_clock(host.name, seen.skew)


def judge_clock(name: str, skew: float) -> list[Finding]:
    """Judge how far a clock is off: sshmap does not depend on it, but commands that it runs may."""
    if abs(skew) <= SKEW:
        return []
    problem = f"its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    return [Finding(host=name, problem=problem, mend="timedatectl set-ntp true, as root on it")]


def judge_status(host: Host, status: m.Status) -> list[Finding]:
    """Judge what the agent of a host says of it."""
    name = host.name
    findings = [Finding(host=name, problem=problem, mend=_mend_found(problem)) for problem in status.findings]
    if not host.is_local and status.runtime != wanted(status.platform):
        findings.append(Finding(host=name, problem="it runs other code than this machine", mend="sshmap up"))
    if not status.daemon:
        findings.append(Finding(host=name, problem="its daemon is not running", mend="sshmap up", blocks=True))
    return findings


def _mend_found(problem: str) -> str:
    """Say what mends what a host has found out about itself."""
    if "damaged" in problem:
        return "sshmap verify --quarantine, then make or copy these keys again"
    return "free some space"


def judge_diagnosis(name: str, diagnosis: m.Diagnosis) -> list[Finding]:
    """Judge what a host found out about its peers and its login service."""
    findings = [
        Finding(
            host=name,
            problem=f"it does not reach {peer}: {why}",
            mend='sshmap up; if they are not meant to reach each other: shuffle = "relay" in the inventory',
        )
        for peer, why in diagnosis.unreached.items()
    ]
    return findings + [Finding(host=name, problem=problem, mend=mend) for problem, mend in diagnosis.findings]


def judge_lost(lost: Iterable[str], counts: Iterable[m.LineageCounts]) -> list[Finding]:
    """Say what is lost with a host that never comes back, as far as others know it, and how to go on without it."""
    findings = []
    for name in lost:
        # several hosts may know the same keys
        known = max((answer.keys.get(name, 0) for answer in counts), default=0)
        what = (
            f"it has held at least {known}, from which keys on other hosts were made" if known else "others know none"
        )
        findings.append(
            Finding(
                host=name,
                problem=f"if it never comes back, its keys are lost: {what}",
                mend="give its name to another machine, or to another root on one of the others: change its address or root"
                " in the inventory; sshmap trust; sshmap up; copy its keys in again (sshmap sync); run the same jobs again",
            )
        )
    return findings


def judge_twins(statuses: dict[str, m.Status]) -> list[Finding]:
    """Find roots that the inventory has under two names: it would place keys on two hosts that are one."""
    first: dict[str, str] = {}
    findings = []
    for name, status in statuses.items():
        other = first.setdefault(status.root_id, name)
        if other != name:
            findings.append(
                Finding(
                    host=name,
                    problem=f"it is the same root as {other}",
                    mend="take one of the two out of the inventory, or give it another root",
                    blocks=True,
                )
            )
    return findings


def _mend(error: SshmapError, host: Host) -> str:
    # what points here says no more
    return (
        error.hint if error.hint and not error.hint.endswith("sshmap doctor") else f"look what ssh says: {_try(host)}"
    )


def _try(host: Host) -> str:
    if host.is_local:
        return "sshmap up"
    port = ["-p", str(host.port)] if host.port else []
    return typed("ssh", *port, f"{host.user}@{host.address}" if host.user else host.address, "true")


def blocked(findings: list[Finding]) -> SshmapError | None:
    """Return the error that names the hosts which cannot be used; None if all can."""
    names = {finding.host for finding in findings if finding.blocks}
    return HostNotReady(f"of no use as they are: {', '.join(sorted(names)) or 'all'}") if names else None
