"""Where ssh is to go, with all that ssh_config says about it.

Both transports ask `ssh -G`, so that Include, Match, HostKeyAlias and ProxyJump mean what they mean to ssh. Neither
leaves a ProxyJump to ssh, which would start another ssh without our options for a hop: they connect to the `hops`
one after the other.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec

from sshmap.errors import HostLost
from sshmap.model import typed

RESOLVE_SECONDS = 10
#: more hops than this count as a circle in ssh_config
_MOST_HOPS = 8

#: what to do about a host on which the login shell ends before it comes to the command
STARTUP_HINT = (
    "look for an exit in its shell's start-up files (~/.bashrc); this has to print hello: ssh HOST echo hello"
)


def ended_early(code: int) -> HostLost:
    """Return the error for a login shell that ended before it ran the command and printed nothing."""
    return HostLost(f"the host's shell ended with exit {code} before the command began", hint=STARTUP_HINT)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One ssh endpoint as the inventory names it."""

    address: str
    port: int = 0
    user: str = ""
    #: the only key to be offered, if one is named
    identity_file: str = ""
    #: hosts to go through, as for ssh's ProxyJump
    gateway: str = ""
    #: known_hosts file to judge by instead of the user's
    known_hosts: str = ""
    #: ssh_config to read instead of the user's; ``none`` reads nothing
    config: str = ""

    def options(self) -> list[str]:
        """Return the options by which `ssh` connects to this target; without those for its gateway."""
        argv = (
            ["-F", self.config if self.config == "none" else str(Path(self.config).expanduser())] if self.config else []
        )
        if self.known_hosts:
            known = _option_value(self.known_hosts)
            argv += ["-o", f"UserKnownHostsFile={known}", "-o", "GlobalKnownHostsFile=/dev/null"]
        if self.identity_file:
            identity = str(Path(self.identity_file).expanduser())
            argv += ["-o", f"IdentityFile={_option_value(identity)}", "-o", "IdentitiesOnly=yes"]
        if self.port:
            argv += ["-p", str(self.port)]
        if self.user:
            argv += ["-l", self.user]
        return argv


def _option_value(path: str) -> str:
    """Write a path into an option of ssh, which would split it at blanks and expand percent signs."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


class Resolved(msgspec.Struct, frozen=True, kw_only=True):
    """A target after ssh_config."""

    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...]
    identities_only: bool
    #: hops to go through, nearest first
    jumps: tuple[str, ...]
    proxy_command: str
    #: name to look up in known_hosts
    key_name: str
    known_hosts: tuple[str, ...]


def resolve(target: Target) -> Resolved:
    """Ask `ssh -G` what a target means.

    Raises:
        HostLost: ssh_config is wrong, or there is no `ssh` program.
    """
    gateway = ["-J", target.gateway] if target.gateway else []
    argv = ["ssh", "-G", *target.options(), *gateway, "--", target.address]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=RESOLVE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise HostLost(f"cannot ask ssh about {target.address}: {exc}", hint="install the OpenSSH client") from exc
    if done.returncode < 0:
        raise HostLost(f"cannot ask ssh about {target.address}: it was killed by signal {-done.returncode}")
    if done.returncode:
        raise HostLost(f"ssh_config is wrong for {target.address}: {done.stderr.strip()[-300:]}")
    return _read(done.stdout)


def _read(text: str) -> Resolved:
    values: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        values.setdefault(name, []).append(value)

    def one(name: str, fallback: str = "") -> str:
        found = values.get(name, [fallback])[0]
        return fallback if found == "none" else found

    hostname, port = one("hostname"), int(one("port", "22"))
    files = " ".join(one(name) for name in ("userknownhostsfile", "globalknownhostsfile"))
    return Resolved(
        hostname=hostname, port=port, user=one("user"), proxy_command=one("proxycommand"),
        identity_files=tuple(path for name in dict.fromkeys(values.get("identityfile", [])) if (path := str(Path(name).expanduser())) and Path(path).exists()),
        identities_only=one("identitiesonly") == "yes",
        jumps=tuple(hop for hop in one("proxyjump").split(",") if hop),
        key_name=one("hostkeyalias") or _key_name(hostname, port),
        known_hosts=tuple(str(Path(name).expanduser()) for name in files.split()),
    )  # fmt: skip


def entries(resolved: Resolved) -> list[str]:
    """Return the lines of known_hosts for a target, found by `ssh-keygen`, which understands hashes and patterns.

    Raises:
        HostLost: there is no `ssh-keygen`.
    """
    found: list[str] = []
    for file in resolved.known_hosts:
        if Path(file).exists():
            argv = ["ssh-keygen", "-F", resolved.key_name, "-f", file]
            try:
                done = subprocess.run(argv, capture_output=True, text=True, timeout=RESOLVE_SECONDS, check=False)
            except (OSError, subprocess.TimeoutExpired) as exc:
                raise HostLost(f"cannot look into {file}: {exc}", hint="install the OpenSSH client") from exc
            found += [line for line in done.stdout.splitlines() if line and not line.startswith("#")]
    return found


def forget_key(resolved: Resolved) -> str:
    """Write the command that takes the keys of a target out of the first known_hosts file, to which new ones are added."""
    file = resolved.known_hosts[0] if resolved.known_hosts else ""
    usual = file in ("", str(Path("~/.ssh/known_hosts").expanduser()))
    return typed("ssh-keygen", "-R", resolved.key_name, *([] if usual else ["-f", file]))


def known_keys(resolved: Resolved) -> list[str]:
    """Return the known_hosts lines by which another host can check this one under its resolved name."""
    name = _key_name(resolved.hostname, resolved.port)
    lines = []
    for entry in entries(resolved):
        words = entry.split()
        marker = [words.pop(0)] if words[0].startswith("@") else []
        lines.append(" ".join([*marker, name, *words[1:3]]))
    return lines


def _key_name(name: str, port: int) -> str:
    return name if port == 22 else f"[{name}]:{port}"


def hops(target: Target) -> list[Target]:
    """Return the hosts to go through, nearest first, also those that ssh_config asks for on the way to the nearest.

    Raises:
        HostLost: ssh_config is wrong, or leads in a circle.
    """
    found: list[Target] = []
    first = target
    while jumps := _jumps(first):
        found = [*(_hop(jump, target) for jump in jumps), *found]
        if len(found) > _MOST_HOPS:
            raise HostLost(
                f"more than {_MOST_HOPS} hops lead to {target.address}", hint="does ProxyJump lead in a circle?"
            )
        first = found[0]
    return found


def _jumps(target: Target) -> tuple[str, ...]:
    # only these two can name a hop, and asking `ssh -G` takes some milliseconds
    return resolve(target).jumps if target.gateway or target.config != "none" else ()


def _hop(jump: str, base: Target) -> Target:
    """Read one hop of a ProxyJump: ``[user@]host[:port]``; its ssh_config and known_hosts are those of the target behind it."""
    user, _, rest = jump.rpartition("@")
    host, _, port = (
        rest.rpartition(":") if rest.rpartition(":")[2].isdigit() and not rest.endswith("]") else (rest, "", "")
    )
    return Target(
        address=host.strip("[]"), port=int(port or 0), user=user, identity_file=base.identity_file,
        known_hosts=base.known_hosts, config=base.config,
    )  # fmt: skip
