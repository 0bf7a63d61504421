"""What commands print: for people, as JSON, or nothing. Data on stdout, all else on stderr.

Names and texts from hosts are escaped before they are printed, as they might control a terminal or look like lines of
ours: see `cli/escaping.py`.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from sshmap.cli.escaping import clean, clean_json, clean_lines, escape
from sshmap.client.job_results import JobResult, TaskFailure
from sshmap.client.listing import Folder, Placed
from sshmap.client.results import Finding, Transfer
from sshmap.errors import SshmapError
from sshmap.inventory.ranges import fold
from sshmap.model import Bucket

Row = Mapping[str, object]
_WRITE_AT = 500
#: lines of failures that are shown
MOST_LINES = 20
#: what failures of the same kind say differently
_DIFFERING = re.compile(r"/\S*tmp\S*|0x[0-9a-fA-F]+|\b(?=[a-f]*\d)[0-9a-f]{8,}\b|\d+")
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Printer(Protocol):
    """How results are shown."""

    def listing(self, rows: Iterable[Placed | Folder], *, below: int) -> int:
        """Show a listing, names from an offset on; return the number of rows."""

    def buckets(self, rows: Sequence[Bucket]) -> None:
        """Show buckets."""

    def table(self, rows: Sequence[Row]) -> None:
        """Show rows that have the same columns."""

    def health(self, rows: Sequence[Row]) -> None:
        """Show of each host whether it is healthy."""

    def findings(self, findings: Sequence[Finding]) -> None:
        """Show what is wrong, and what mends it."""

    def job(self, result: JobResult, hint: str = "") -> None:
        """Show how a job ended, what to do next if it is not complete, and the last line."""

    def detached(self, result: JobResult) -> None:
        """Show which run a detached job is."""

    def transfer(self, result: Transfer, seconds: float) -> None:
        """Show how a copy ended."""

    def note(self, text: str) -> None:
        """Say something that is neither data nor an error."""


class HumanPrinter:
    """For a person at a terminal, and for scripts that read lines."""

    def listing(self, rows: Iterable[Placed | Folder], *, below: int) -> int:
        """Show ``YYYY-MM-DD HH:MM:SS SIZE NAME`` in UTC, directories as ``PRE name/``."""
        count = 0
        lines: list[str] = []
        stamps: dict[int, str] = {}
        for row in rows:
            count += 1
            if isinstance(row, Folder):
                lines.append(f"{'PRE':>30} {escape(row.path[below:])}\n")
            else:
                stamp = stamps.get(row.mtime) or stamps.setdefault(row.mtime, _stamp(row.mtime))
                lines.append(f"{stamp} {row.size:>10} {escape(row.path[below:])}\n")
            if len(lines) >= _WRITE_AT:
                sys.stdout.write("".join(lines))
                lines.clear()
        sys.stdout.write("".join(lines))
        return count

    def buckets(self, rows: Sequence[Bucket]) -> None:
        """Show ``YYYY-MM-DD HH:MM:SS SIZE BUCKET`` in UTC: when its newest key came, and the bytes of all."""
        for row in rows:
            sys.stdout.write(f"{_stamp(row.mtime)} {row.size:>10} {escape(row.name)}\n")

    def table(self, rows: Sequence[Row]) -> None:
        """Show aligned columns under their names."""
        if not rows:
            return
        cells = [[str(name) for name in rows[0]], *([_cell(value) for value in row.values()] for row in rows)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
        for line in cells:
            text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            sys.stdout.write(text.rstrip() + "\n")

    def health(self, rows: Sequence[Row]) -> None:
        """Show a line for each host."""
        for row in rows:
            line = f"healthy: {row['host']}" if row["healthy"] else f"unhealthy: {row['host']}: {row['reason']}"
            sys.stdout.write(clean(line) + "\n")

    def findings(self, findings: Sequence[Finding]) -> None:
        """Show two lines for each."""
        for finding in findings:
            sys.stdout.write(clean(f"{finding.host or 'here'}: {finding.problem}") + "\n")
            sys.stdout.write(clean(f"    mend: {finding.mend}") + "\n")

    def job(self, result: JobResult, hint: str = "") -> None:
        """Show failures, folded, then what to do next, and the last line."""
        _say_folded(result)
        for error in result.lost.values():
            _say(f"error: {error.message}")
        if result.relayed:
            _say("note: fan-out files went through this machine instead of from host to host")
        if result.orphans:
            _say(
                f"note: inputs of {result.orphans} outputs are gone; the same command with --prune deletes these outputs"
            )
        if skew := _skew(result):
            _say(f"skew: {skew}")
        if hint:
            _say(f"hint: {hint}")
        more = (("cancelled", result.cancelled), ("waiting to send", result.sending), ("pruned", result.pruned))
        ran = "" if result.ran else "nothing to run: "
        counts = f"{result.done} ok, {result.failed} failed, {result.kept} kept"
        counts += "".join(f", {count} {what}" for what, count in more if count)
        _say(f"{ran}done: {counts}, {human_size(result.size)}, {human_time(result.seconds)}, on {result.cluster}")

    def detached(self, result: JobResult) -> None:
        """Show the run's number on stdout."""
        sys.stdout.write(f"{result.number}\n")

    def transfer(self, result: Transfer, seconds: float) -> None:
        """Show failures, equal ones once, and the last line of a copy."""
        _say_failures(result)
        missed = "an unknown number" if result.missed is None else result.missed
        counts = [
            f"{result.fresh} ok, {result.failed} failed, {result.kept} kept",
            *([f"{result.repaired} repaired"] if result.repaired else []),
            *([f"{result.deleted} deleted"] if result.deleted else []),
            *([f"{missed} not copied"] if missed else []),
        ]
        _say(f"done: {', '.join(counts)}, {human_size(result.size)}, {human_time(seconds)}")

    def note(self, text: str) -> None:
        """Say something on stderr."""
        _say(text)


class JsonPrinter(HumanPrinter):
    """For programs."""

    def listing(self, rows: Iterable[Placed | Folder], *, below: int) -> int:  # noqa: ARG002  # JSON has whole names
        """Show one JSON list, row by row, so that a long listing needs little memory."""
        count = 0
        for row in rows:
            data: Row = (
                {"prefix": row.name} if isinstance(row, Folder)
                else {"key": row.name, "size": row.size, "mtime": row.mtime, "digest": row.digest.hex(), "host": row.host}
            )  # fmt: skip
            sys.stdout.write(("[" if count == 0 else ",\n ") + _json(data))
            count += 1
        sys.stdout.write("]\n" if count else "[]\n")
        return count

    def buckets(self, rows: Sequence[Bucket]) -> None:
        """Show one JSON list."""
        self.table([
            {"bucket": row.name, "keys": row.keys, "size": row.size, "mtime": row.mtime} for row in rows
        ])  # fmt: skip

    def table(self, rows: Sequence[Row]) -> None:
        """Show one JSON list."""
        sys.stdout.write("[" + ",\n ".join(_json(row) for row in rows) + "]\n")

    def health(self, rows: Sequence[Row]) -> None:
        """Show one JSON list."""
        self.table(rows)

    def findings(self, findings: Sequence[Finding]) -> None:
        """Show one JSON list."""
        self.table([msgspec.structs.asdict(finding) for finding in findings])

    def job(self, result: JobResult, hint: str = "") -> None:
        """Show the result with its failures; the hint goes to stderr."""
        sys.stdout.write(
            _json({
                "job": result.job, "number": result.number, "cancelled": result.cancelled,
                "ending": result.ending.value if result.ending else None,
                "ok": result.done, "failed": result.failed, "kept": result.kept, "sending": result.sending,
                "bytes": result.size, "seconds": round(result.seconds, 3),
                "hosts": {name: msgspec.structs.asdict(host) for name, host in result.hosts.items()},
                "orphans": result.orphans, "pruned": result.pruned,
                "failures": [msgspec.structs.asdict(failure) for failure in result.failures],
                "lost": {name: error.message for name, error in result.lost.items()},
            }) + "\n"
        )  # fmt: skip
        if hint:
            _say(f"hint: {hint}")

    def detached(self, result: JobResult) -> None:
        """Show the run."""
        sys.stdout.write(_json({"job": result.job, "number": result.number}) + "\n")

    def transfer(self, result: Transfer, seconds: float) -> None:
        """Show the counts."""
        counts = {
            "ok": result.fresh, "failed": result.failed, "kept": result.kept, "repaired": result.repaired, "deleted": result.deleted,
            "not_copied": result.missed, "lost": {name: error.message for name, error in result.lost.items()},
        }  # fmt: skip
        sys.stdout.write(_json({**counts, "bytes": result.size, "seconds": round(seconds, 3)}) + "\n")


class NullPrinter(HumanPrinter):
    """For programs that read names, which may hold anything but NUL."""

    def listing(self, rows: Iterable[Placed | Folder], *, below: int) -> int:
        """Show names only, byte by byte as they are, each ended by NUL."""
        count = 0
        for row in rows:
            sys.stdout.buffer.write(row.path[below:].encode() + b"\0")
            count += 1
        sys.stdout.buffer.flush()
        return count

    def buckets(self, rows: Sequence[Bucket]) -> None:
        """Show names only."""
        sys.stdout.buffer.writelines(row.name.encode() + b"\0" for row in rows)
        sys.stdout.buffer.flush()


class QuietPrinter(HumanPrinter):
    """Data and errors only."""

    def job(self, result: JobResult, hint: str = "") -> None:
        """Show failures only, and what to do next."""
        _say_folded(result)
        for error in result.lost.values():
            _say(f"error: {error.message}")
        if hint:
            _say(f"hint: {hint}")

    def transfer(self, result: Transfer, seconds: float) -> None:  # noqa: ARG002  # quiet
        """Show failures only."""
        _say_failures(result)

    def note(self, text: str) -> None:
        """Show nothing."""


def _skew(result: JobResult) -> str:
    """Say which host has most bytes and time, and how much that is of the mean."""
    writers = {"bytes": human_size, "time": human_time}
    parts = [
        f"{host} has most {what}, {writers[what](most)}, {most / mean:.1f} x the mean"
        for what, (host, most, mean) in result.skew().items()
    ]
    return "; ".join(parts)


def _say_folded(result: JobResult) -> None:
    """Show failures; what a command said last may have several lines, of which none begins like one of ours."""
    left = MOST_LINES
    groups = folded(result.failures)
    for number, line in enumerate(groups):
        lines = clean_lines(line).split("\n")
        sys.stderr.writelines(f"{line}\n" for line in lines[:left])
        left -= len(lines)
        if left <= 0 and (left < 0 or number + 1 < len(groups)):
            _say(f"error: {len(groups) - number - 1} more kinds of failure; the same command with --json shows all")
            return


def _say_failures(result: Transfer) -> None:
    """Show lost hosts, and what could not be copied; of what failed for the same reason, the number and the first."""
    for error in result.lost.values():
        _say(f"error: {error}")
    groups: dict[str, list[SshmapError]] = {}
    for name, error in result.failures.items():
        groups.setdefault(masked(error.message.replace(name, "…")), []).append(error)
    for group in list(groups.values())[:MOST_LINES]:
        _say(f"error: {group[0]}" if len(group) == 1 else f"error: {len(group)} times, first: {group[0]}")
    if len(groups) > MOST_LINES:
        _say(f"error: and {len(groups) - MOST_LINES} more kinds of failure")
    if result.more_failures:
        _say(f"error: and {result.more_failures} more")


def masked(message: str) -> str:
    """Leave out of a message what differs between failures of the same kind: temporary paths, addresses, numbers."""
    return _DIFFERING.sub("…", message)


def folded(failures: Sequence[TaskFailure]) -> list[str]:
    """Put failures of the same kind into one line: ``214 keys on h[1,4,9]: KeyError: 'tip' (first: sm://in/x)``."""
    groups: dict[tuple[str, int, str], list[TaskFailure]] = {}
    for failure in failures:
        groups.setdefault((failure.kind, failure.exit_code, masked(failure.message)), []).append(failure)
    lines = []
    for group in sorted(groups.values(), key=len, reverse=True):
        hosts = fold(dict.fromkeys(failure.host for failure in group))
        first = group[0]
        if len(group) == 1:
            lines.append(f"error: {first.key} on {hosts}, attempt {first.attempt}: {first.message}")
        else:
            lines.append(f"error: {len(group)} keys on {hosts}: {first.message} (first: {first.key})")
    return lines


def human_size(size: float) -> str:
    """Write bytes with a decimal unit, rounded before the unit is chosen."""
    if size < 999.5:
        return f"{size:.0f} B"
    for unit in _UNITS[1:]:
        size /= 1000
        if size < 999.95 or unit == _UNITS[-1]:
            return f"{size:.1f} {unit}"
    raise AssertionError


def human_time(seconds: float) -> str:
    """Write a duration."""
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m{rest:02}s" if hours else f"{minutes}m{rest:02}s"


def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else escape(str(value))


def _json(value: object) -> str:
    return clean_json(msgspec.json.encode(value).decode())


def _say(text: str) -> None:
    sys.stderr.write(clean(text) + "\n")
