"""What is offered when Tab is pressed: keys and directories of the cluster, and names of hosts.

Nothing is started for it, and nobody waits longer than `LIMIT` for a listing: where hosts do not answer in time, nothing
is offered. typer speaks with the shells. bash needs more: it takes ``sm://b/k`` for three words, as it breaks words at
colons, and puts in what it is given without quotes.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import shlex
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import typer
from typer._click.shell_completion import split_arg_string

from sshmap.cli.app import chosen_cluster
from sshmap.client.cluster import Cluster
from sshmap.errors import SshmapError
from sshmap.inventory import Inventory, builtin, discover
from sshmap.model import SCHEMES, parse_name, show

#: the environment variable by which the shell's function asks, and what it holds if the shell is bash
VARIABLE, BASH = "_SSHMAP_COMPLETE", "complete_bash"
#: seconds that a listing may take, and names that are offered
LIMIT, MOST = 0.3, 200


def offer_keys(context: typer.Context, incomplete: str) -> list[str]:
    """Offer keys and directories; buckets if nothing was typed yet."""
    return (
        _listed(context, incomplete) if any(scheme.startswith(incomplete[: len(scheme)]) for scheme in SCHEMES) else []
    )


def offer_sources(context: typer.Context, incomplete: str) -> list[str]:
    """Offer keys and directories where a key is begun; else nothing, so that the shell offers files."""
    return _listed(context, incomplete) if incomplete.startswith(("sm:", "s4:")) else []


def offer_hosts(context: typer.Context, incomplete: str) -> list[str]:
    """Offer hosts and groups of the inventory; of several names separated by commas, the last is completed."""
    before = incomplete[: incomplete.rfind(",") + 1]
    with contextlib.suppress(SshmapError):
        hosts = _inventory(context).hosts
        groups = {f"@{group}" for host in hosts for group in host.groups}
        return [before + name for name in [*(host.name for host in hosts), *sorted(groups)]]
    return []


def _inventory(context: typer.Context) -> Inventory:
    named = context.find_root().params
    inventory, local = chosen_cluster(Path(named["inventory"]) if named.get("inventory") else None, named.get("local"))
    return discover(inventory) if local is None else builtin(local)


def _listed(context: typer.Context, incomplete: str) -> list[str]:
    """List what begins with a word, on a thread that is left behind when it takes too long."""
    found: list[str] = []

    def look() -> None:
        with contextlib.suppress(SshmapError, OSError), Cluster(_inventory(context), autostart=False) as cluster:
            found.extend(_beginning_with(cluster, incomplete if ":" in incomplete else show("")))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(LIMIT)
    return [] if looking.is_alive() else found


def _beginning_with(cluster: Cluster, word: str) -> list[str]:
    """List one level; a single directory is looked into, as the shell would put a space behind its name."""
    scheme = next((scheme for scheme in SCHEMES if scheme.startswith(word[: len(scheme)])), "")
    if not scheme:
        return []
    prefix = parse_name(word) if word.startswith(scheme) else ""
    found = [prefix]
    while len(found) == 1 and (found[0].endswith("/") or found == [prefix]):
        before, found = found, _level(cluster, found[0])
        if found == before:
            break
    return [scheme + name for name in found]


def _level(cluster: Cluster, prefix: str) -> list[str]:
    """List one level of keys and directories that start with a prefix; where no bucket is complete yet, the buckets."""
    rows = cluster.ls(show(prefix if "/" in prefix else ""))
    return list(itertools.islice((row.path for row in rows if row.path.startswith(prefix)), MOST))


def in_bash(run: Callable[[], int]) -> int:
    """Have typer answer bash, whose words are put together before, and whose answers are quoted and cut after.

    Args:
        run: runs the app, which answers on stdout.
    """
    raw = os.environ.get("COMP_WORDS", "")
    broken = split_arg_string(raw)
    words, number = joined(broken, int(os.environ.get("COMP_CWORD", "0")))
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = shlex.join(words), str(number)
    # where it has broken a word, bash replaces only what stands behind the colon; within quotes it breaks none
    known = words[number].rfind(":") + 1 if number < len(words) and words[number] not in broken else 0
    with contextlib.redirect_stdout(io.StringIO()) as answer:
        code = run()
    # within quotes that are still open, bash takes what it is given as it is
    quoted = not known and number < len(words) and any(raw.endswith(quote + words[number]) for quote in "\"'")
    for line in answer.getvalue().splitlines():
        sys.stdout.write((line if quoted else re.sub(r"([^\w@%+=:,./-])", r"\\\1", line[known:])) + "\n")
    return code


def joined(words: list[str], number: int) -> tuple[list[str], int]:
    """Put together words that bash has broken at the colon of a scheme.

    Args:
        words: the words of the command line, as bash counts them.
        number: which of them the cursor is in.

    Returns:
        The words, and which of them the cursor is in now.
    """
    found: list[str] = []
    cursor = number
    for position, word in enumerate(words):
        follows = found and (
            (word == ":" and found[-1] in ("sm", "s4")) or (found[-1] in ("sm:", "s4:") and word.startswith("/"))
        )
        if follows:
            found[-1] += word
            cursor -= position <= number
        else:
            found.append(word)
    return found, cursor
