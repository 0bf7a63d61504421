"""Packages of others that functions import: fetched once for each platform, and sent to the hosts that lack them."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from sshmap.client.conversations import Conversations
from sshmap.client.wheels import Platform, fetch, told
from sshmap.errors import HostNotReady, SshmapError, UsageError
from sshmap.model import Shipped
from sshmap.protocol import messages as m
from sshmap.protocol.framing import CHUNK
from sshmap.store.digest import Hasher
from sshmap.store.packages import digest_packages
from sshmap.transport.session import Session

_FETCH_SECONDS = 900


def checked(requirements: Iterable[str]) -> tuple[str, ...]:
    """Read requirements, and return them as they stand in a receipt: in order, each written in one way.

    Raises:
        UsageError: one is none, or names a file or address.
    """
    if isinstance(requirements, str):
        raise UsageError(f"packages={requirements!r} is no list", hint=f"write packages=[{requirements!r}]")
    found = set()
    for text in requirements:
        try:
            requirement = Requirement(text)
        except (InvalidRequirement, TypeError) as exc:
            raise UsageError(f"{text!r} is no requirement", hint="write it as for pip: polars>=1.20,<2") from exc
        if requirement.url:
            raise UsageError(f"{text!r} names an address", hint="ship a wheel's content as files, or name a version")
        found.add(str(requirement))
    return tuple(sorted(found))


def equip(conversations: Conversations, names: Iterable[str], requirements: tuple[str, ...]) -> dict[str, SshmapError]:
    """Have hosts have packages, for as long as a run needs them; return what failed, by host.

    A host on this machine runs our own interpreter, and imports what that has.

    Raises:
        UsageError: they cannot be fetched for a host's platform.
    """
    local = () if _lacks(requirements) else [host.name for host in conversations.hosts if host.is_local]
    digest = digest_packages(requirements)
    needed, failures = conversations.gather(
        lambda name: conversations.ask(name, lambda session: _needed(session, digest)), set(names).difference(local)
    )
    platforms = {name: platform for name, platform in needed.items() if platform}
    archives = {platform: _wheels(requirements, platform) for platform in set(platforms.values())}
    _, more = conversations.gather(
        lambda name: conversations.ask(name, lambda session: _send(session, digest, archives[platforms[name]])),
        platforms,
    )
    return failures | more


def _needed(session: Session, requirements: bytes) -> Platform | None:
    """Return the platform of a host that lacks packages; None if it has them."""
    if session.ask(m.NeedPackages(requirements=requirements), m.Wanted).wanted:
        return told(session.ask(m.GetStatus(), m.Status).platform)
    return None


def _send(session: Session, requirements: bytes, wheels: Path) -> None:
    hasher, size = Hasher(), wheels.stat().st_size
    with wheels.open("rb") as file:
        while piece := file.read(CHUNK):
            hasher.update(piece)
        digest = hasher.digest
        request = m.Ship(file=Shipped(name=wheels.name, digest=digest), packages=requirements)
        if session.ask(request, m.Wanted).wanted:
            file.seek(0)
            while piece := file.read(CHUNK):
                session.writer.data(piece)
            session.ask(m.End(size=size, digest=digest), m.Synced)


def _wheels(requirements: tuple[str, ...], platform: Platform) -> Path:
    """Return an archive of the wheels for requirements and all that these need, which is fetched once.

    Raises:
        UsageError: they cannot be fetched.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sshmap" / "packages"
    archive = folder / f"{digest_packages(requirements).hex()}-{platform}.tar"
    if archive.exists():
        return archive
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        wheels = Path(scratch, "wheels")
        try:
            fetch(platform, str(wheels), *requirements, seconds=_FETCH_SECONDS)
        except HostNotReady as exc:
            raise UsageError(
                f"cannot fetch {', '.join(requirements)} for Python {platform.python} on {platform.machine}: {exc.message}",
                hint="see what python -m pip download says to it",
            ) from exc
        fresh = Path(scratch, "tar")
        with tarfile.open(fresh, "w") as tar:
            for wheel in sorted(wheels.glob("*.whl")):
                tar.add(wheel, wheel.name)
        fresh.replace(archive)
    return archive


def _lacks(requirements: Iterable[str]) -> bool:
    """Say whether this interpreter lacks some of what is required, or of what that needs."""
    left, seen = [(Requirement(text), "") for text in requirements], set[tuple[str, str]]()
    while left:
        requirement, extra = left.pop()
        if (str(requirement), extra) in seen or not _counts(requirement, extra):
            continue
        seen.add((str(requirement), extra))
        try:
            there = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            return True
        if not requirement.specifier.contains(there.version, prereleases=True):
            return True
        left += [(Requirement(text), extra) for text in there.requires or () for extra in ("", *requirement.extras)]
    return False


def _counts(requirement: Requirement, extra: str) -> bool:
    """Say whether a requirement holds here, as one of an extra if that is named."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
