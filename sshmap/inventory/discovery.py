"""Finding the inventory, or making the built-in local cluster where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sshmap.errors import UsageError
from sshmap.inventory.hosts import Host, Inventory
from sshmap.inventory.loading import LOCAL_IDLE_STOP, load

MAX_LOCAL = 64


def discover(path: Path | None = None) -> Inventory:
    """Return the inventory to use.

    The order is: the argument, ``./inventory.toml``,
    ``$XDG_CONFIG_HOME/sshmap/inventory.toml``, the built-in local cluster. If there is no file of the argument's name,
    it may be the name of one in ``$XDG_CONFIG_HOME/sshmap``, without its ``.toml``.

    Raises:
        InvalidInventory: the file found is wrong.
    """
    configured = _home("XDG_CONFIG_HOME", ".config") / "sshmap"
    if path is not None:
        named = configured / f"{path}.toml"
        return load(named if len(path.parts) == 1 and not path.exists() and named.exists() else path)
    for candidate in (Path("inventory.toml"), configured / "inventory.toml"):
        if candidate.exists():
            return load(candidate)
    return msgspec.structs.replace(builtin(), reason="no inventory was found")


def builtin(count: int | None = None) -> Inventory:
    """Return the built-in local cluster: as many hosts as cores, at least 2, at most 8.

    Args:
        count: another number of hosts; each number is a cluster of its own.

    Raises:
        UsageError: the number is out of range.
    """
    cores = os.cpu_count() or 2
    size = min(max(cores, 2), 8) if count is None else count
    if not 1 <= size <= MAX_LOCAL:
        raise UsageError(f"--local {size} is out of range 1 to {MAX_LOCAL}")
    base = _home("XDG_STATE_HOME", ".local/state") / "sshmap" / "local" / str(size)
    hosts = tuple(
        Host(
            name=f"local{number}",
            connect="local",
            root=str(base / f"local{number}"),
            workers=max(1, -(-2 * cores // size)),
            idle_stop=LOCAL_IDLE_STOP,
        )
        for number in range(size)
    )
    return Inventory(hosts=hosts, origin=f"built-in local cluster of {size} hosts", is_builtin=True)


def _home(variable: str, fallback: str) -> Path:
    """A base directory of the XDG specification; relative values are ignored, as it says."""
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / fallback
