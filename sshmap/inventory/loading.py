"""Reading an inventory file, strictly: every mistake is one line with file, table and field."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from sshmap.errors import InvalidInventory, UsageError
from sshmap.inventory.hosts import Host, Inventory
from sshmap.inventory.ranges import expand
from sshmap.limits import parse_size

DEFAULT_ROOT = "~/.sshmap"
LOCAL_IDLE_STOP = 900.0
#: seconds
_LONGEST_SCRUB = 10 * 366 * 86400.0
#: What may stand in names, users and addresses: nothing a shell or ssh would read as more.
_SAFE = re.compile(r"[A-Za-z0-9_.:@%+][A-Za-z0-9_.:@%+\-]*")
#: What may stand in the path of a root or a Python, which come into shell lines, forced commands and options of ssh.
_PATH_CHARACTERS = re.compile(r"[A-Za-z0-9_./+@~\-]")
#: One host to go through, as ``user@host:port``; a literal address of IPv6 stands in brackets.
_HOP = re.compile(
    r"([A-Za-z0-9_.%+][A-Za-z0-9_.%+\-]*@)?(\[[0-9A-Za-z:.%]+\]|[A-Za-z0-9_.][A-Za-z0-9_.\-]*)(:(?P<port>[0-9]{1,5}))?"
)
_CLUSTER_FIELDS = {"shuffle", "transport"}
_RANGED = ("name", "address")


def load(path: Path) -> Inventory:
    """Read and check an inventory.

    Raises:
        InvalidInventory: with the file, the table and the field that is wrong.
    """
    document = _parse(path)
    _known(path, "top level", document, {"cluster", "defaults", "hosts"})
    cluster = _table(path, document, "cluster")
    defaults = _table(path, document, "defaults")
    _known(path, "[cluster]", cluster, _CLUSTER_FIELDS)
    _known(path, "[defaults]", defaults, set(Host.__struct_fields__) - {"name"})
    if "transport" in cluster:
        defaults = {"transport": cluster["transport"], **defaults}
    tables = document.get("hosts")
    if not isinstance(tables, list) or not tables:
        raise InvalidInventory(f"{path}: no hosts", hint='add a table [[hosts]] with name = "h1"')
    hosts: list[Host] = []
    sources: dict[str, dict[str, str]] = {}
    for number, table in enumerate(tables, start=1):
        for host in _hosts(path, number, table, defaults):
            hosts.append(host)
            sources[host.name] = {
                field: f"[[hosts]] {number}" if field in table else "[defaults]" if field in defaults else "built in"
                for field in Host.__struct_fields__
            }
    _distinct(path, hosts)
    shuffle = cluster.get("shuffle", "auto")
    if shuffle not in ("auto", "direct", "relay"):
        raise InvalidInventory(f"{path}: [cluster]: shuffle: {shuffle!r} is not one of 'auto', 'direct', 'relay'")
    return Inventory(hosts=tuple(hosts), origin=str(path), shuffle=shuffle, sources=sources)


def _parse(path: Path) -> dict[str, Any]:
    import tomllib  # the built-in cluster needs no inventory

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as exc:
        raise InvalidInventory(
            f"{path}: no such inventory", hint="name one with -i, or leave -i away for the built-in local cluster"
        ) from exc
    except OSError as exc:
        raise InvalidInventory(f"{path}: cannot read the inventory: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidInventory(f"{path}: not TOML: {exc}") from exc


def _table(path: Path, document: dict[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise InvalidInventory(f"{path}: {name} must be a table: [{name}]")
    return table


def _known(path: Path, place: str, table: dict[str, Any], fields: set[str]) -> None:
    for field in table:
        if field not in fields:
            import difflib  # only a mistake needs it

            near = difflib.get_close_matches(field, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(fields))}"
            raise InvalidInventory(f"{path}: {place}: unknown field {field!r}", hint=hint)


def _hosts(path: Path, number: int, table: object, defaults: dict[str, Any]) -> list[Host]:
    place = f"[[hosts]] {number}"
    if not isinstance(table, dict):
        raise InvalidInventory(f"{path}: {place}: must be a table")
    if isinstance(table.get("name"), str):
        place += f" ({table['name']})" if table["name"].isprintable() else f" ({table['name']!r})"
    _known(path, place, table, set(Host.__struct_fields__))
    if "name" not in table:
        raise InvalidInventory(f"{path}: {place}: field 'name' is missing")
    rows = _unrolled(path, place, {**defaults, **table})
    return [_host(path, place, row, table) for row in rows]


def _unrolled(path: Path, place: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Write out a range of names as one row each; the n-th name gets the n-th address of an address range."""
    try:
        columns = {field: expand(row[field]) for field in _RANGED if isinstance(row.get(field), str)}
    except UsageError as exc:
        raise InvalidInventory(f"{path}: {place}: {exc.message}", hint=exc.hint) from exc
    names = columns.get("name", [row["name"]])
    addresses = columns.get("address", [row.get("address", "")])
    if len(addresses) == 1:
        addresses = addresses * len(names)
    if len(addresses) != len(names):
        raise InvalidInventory(f"{path}: {place}: name gives {len(names)} hosts, address {len(addresses)}")
    extra = {"address"} if "address" in row else set()
    return [
        {**row, "name": name, **dict.fromkeys(extra, address)} for name, address in zip(names, addresses, strict=True)
    ]


def _host(path: Path, place: str, row: dict[str, Any], table: dict[str, Any]) -> Host:
    try:
        host = msgspec.convert(row, Host)
    except msgspec.ValidationError as exc:
        text, _, where = str(exc).partition(" - at `$.")
        place = place if re.split(r"[.\[`]", where)[0] in table else "[defaults]"
        raise InvalidInventory(f"{path}: {place}: {where.rstrip('`') or 'table'}: {text[0].lower()}{text[1:]}") from exc
    problem = _problem(host)
    if problem:
        raise InvalidInventory(f"{path}: {place}: {problem}")
    return _completed(path, place, host)


def _problem(host: Host) -> str:
    for field in ("name", "address", "user"):
        value = getattr(host, field)
        if value and not _SAFE.fullmatch(value):
            return f"{field}: {value!r} begins with '-' or holds a character that is not a letter, digit or one of _ . : @ % + -"
    if not host.name:
        return "name: is empty"
    return (
        _number_problem(host) or _size_problem("reserve", host.reserve) or _scrub_problem(host) or _path_problem(host)
    )


def _number_problem(host: Host) -> str:
    if not 0 <= host.port <= 65535:
        return f"port: {host.port} is out of range 1 to 65535"
    if not 0 < host.weight <= 1000:
        return f"weight: {host.weight:g} is not above 0 and at most 1000"
    if not 0 <= host.workers <= 1024:
        return f"workers: {host.workers} is out of range 0 to 1024"
    if not 0 <= host.idle_stop < float("inf"):
        return f"idle_stop: {host.idle_stop:g} is not a number of seconds"
    return ""


def _size_problem(field: str, text: str) -> str:
    try:
        parse_size(text or "1", field)
    except UsageError as exc:
        return f"{field}: {text!r} is not a number of bytes; {exc.hint}"
    return ""


def _scrub_problem(host: Host) -> str:
    try:
        seconds = host.scrub_seconds
    except UsageError:
        return f"scrub: {host.scrub!r} is not a time like 30d or 12h"
    return "" if seconds < _LONGEST_SCRUB else f"scrub: {host.scrub!r} is longer than ten years"


def _gateway_problem(gateway: str) -> str:
    for hop in gateway.split(",") if gateway else ():
        matched = _HOP.fullmatch(hop)
        if not matched:
            return f"gateway: {hop!r} is not user@host:port, where user@ and :port may be left away and IPv6 stands in brackets"
        if matched["port"] and not 0 < int(matched["port"]) <= 65535:
            return f"gateway: {hop!r}: port {matched['port']} is out of range 1 to 65535"
    return ""


def _root_problem(root: str) -> str:
    if not root:
        return ""
    if not root.startswith(("/", "~/")):
        return f"root: {root!r} is not an absolute path"
    if os.path.normpath(root).strip("/") in ("", "~"):
        return (
            f"root: {root!r} is not a directory for sshmap alone, whose files `down --purge` deletes; name one below it"
        )
    return ""


def _path_problem(host: Host) -> str:
    for field in ("root", "python", "identity_file", "ssh_config", "gateway"):
        value = getattr(host, field)
        if value.startswith("-") or any(ord(char) < 32 for char in value):
            return f"{field}: {value!r} begins with '-' or holds a control character"
    for field in ("root", "python"):
        value = getattr(host, field)
        if strange := _PATH_CHARACTERS.sub("", value):
            return f"{field}: {value!r} holds {strange[0]!r}; letters, digits and _ . / + @ ~ - may stand in it"
    return _root_problem(host.root) or _gateway_problem(host.gateway)


def _completed(path: Path, place: str, host: Host) -> Host:
    if not host.is_local:
        return msgspec.structs.replace(host, address=host.address or host.name, root=host.root or DEFAULT_ROOT)
    if not host.root:
        raise InvalidInventory(f'{path}: {place}: root: a host with connect = "local" needs a root of its own')
    root = os.path.normpath(Path(host.root).expanduser())
    return msgspec.structs.replace(host, root=root, idle_stop=host.idle_stop or LOCAL_IDLE_STOP)


def _distinct(path: Path, hosts: list[Host]) -> None:
    names: set[str] = set()
    places: dict[tuple[object, ...], str] = {}
    for host in hosts:
        if host.name in names:
            raise InvalidInventory(f"{path}: two hosts are named {host.name!r}")
        names.add(host.name)
        place = (host.root,) if host.is_local else (host.address, host.port, host.user, host.root, host.gateway)
        if place in places:
            where = "root" if host.is_local else "address, port and root"
            raise InvalidInventory(f"{path}: hosts {places[place]!r} and {host.name!r} have the same {where}")
        places[place] = host.name
    _apart(path, [host for host in hosts if host.is_local])


def _apart(path: Path, hosts: list[Host]) -> None:
    """Refuse a root inside another one: the outer host would treat the inner one's files as its own."""
    for host in hosts:
        for other in hosts:
            if host.root.startswith(f"{other.root.rstrip('/')}/"):
                raise InvalidInventory(f"{path}: the root of {host.name!r} lies inside that of {other.name!r}")
