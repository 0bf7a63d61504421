"""The Python API, for recipes: `Cluster` and its verbs, the same as on the command line.

from sshmap import Cluster

with Cluster() as cluster:
cluster.put(b"hello", "sm://in/a")
cluster.map("sm://in/", "sm://out/", "tr a-z A-Z")
print(cluster.get("sm://out/a"))
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import msgspec

from sshmap.client import download, sources
from sshmap.client.commands import OUTPUT_LIMIT, Heard, collect, listen, stream_command
from sshmap.client.conversations import Conversations
from sshmap.client.jobs import JobRun, Options
from sshmap.client.listing import ListingCache, Placed, list_keys
from sshmap.client.results import Counted, Finding, JobResult, Spoken, Status, Transfer, raise_failures, silent
from sshmap.client.upload import upload
from sshmap.errors import InvalidKey, NothingMatched, SshmapError, UsageError
from sshmap.inventory import Inventory, builtin, discover
from sshmap.model import KeyName, Verb, check_name, check_prefix, parse_name
from sshmap.protocol import messages as m
from sshmap.transport.session import Session


class Cluster:
    """The hosts of an inventory as one store and one computer.

    Args:
        inventory: an inventory, or the path of one; found as on the command line if None.
        local: use the built-in local cluster with so many hosts instead.
        autostart: whether hosts on this machine start their daemons when a request comes.

    Raises:
        InvalidInventory: the inventory is wrong.
    """

    def __init__(
        self, inventory: Inventory | Path | str | None = None, *, local: int | None = None, autostart: bool = True
    ) -> None:
        if local is not None:
            chosen = builtin(local)
        elif isinstance(inventory, Inventory):
            chosen = inventory
        else:
            chosen = discover(Path(inventory) if inventory is not None else None)
        self.inventory = chosen
        self._conversations = Conversations(chosen, autostart=autostart)
        self._listings = ListingCache()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions; the hosts go on with what was submitted."""
        self._conversations.close()

    def put(self, source: bytes | Path | BinaryIO, key: str) -> Transfer:
        """Store content under a key; the same content again is harmless.

        Args:
            source: content, a file to copy, or a stream to read to its end.
            key: ``sm://bucket/path``.

        Raises:
            KeyExists: the key holds other content.
        """
        name = check_name(parse_name(key))
        with contextlib.ExitStack() as opened:
            return self._upload([self._source(source, name, opened)]).check()

    def _source(self, content: bytes | Path | BinaryIO, name: KeyName, opened: contextlib.ExitStack) -> sources.Source:
        """Make a source of some content; a short stream is read at once, so that it can be sent again."""
        if isinstance(content, Path):
            if source := sources.of_file(content, name):
                return source
            content = opened.enter_context(content.open("rb", buffering=0))
        if isinstance(content, bytes):
            return sources.Source(name=name, content=content, size=len(content))
        source = sources.of_stream(content, name)
        if not source.repeatable:
            # it can be sent once only, so find out first whether the host answers
            host = self._conversations.ring.place(name)
            self._conversations.ask(host, lambda session: session.ask(m.Ping(), m.Served), bulk=True)
        return source

    def put_tree(self, top: Path, prefix: str, report: Counted = silent) -> Transfer:
        """Store all files below a directory under ``prefix`` plus their relative paths.

        Raises:
            UsageError: there is no such directory.
            TransferFailed: some could not be copied; its ``result`` says which, and the others were.
        """
        start = parse_name(prefix)
        if not top.exists():
            raise UsageError(f"no such directory: {top}")
        if not top.is_dir():
            raise UsageError(f"{top} is not a directory", hint=f"copy a file without -r: sshmap cp {top} {prefix}")
        failures: dict[str, SshmapError] = {}
        transfer = self._upload(sources.of_tree(top, start, failures.__setitem__), report)
        transfer.failures |= failures
        return transfer.complete()

    def _upload(self, chosen: Iterable[sources.Source], report: Counted = silent) -> Transfer:
        return upload(self._conversations, chosen, report)

    def get(self, key: str) -> bytes:
        """Return a key's content; one of more than 1 GiB is left to `get_file` and `cat`.

        Raises:
            NothingMatched: there is no such key.
            UsageError: it is larger.
            DigestMismatch: its content is damaged.
        """
        return download.fetch_bytes(self._conversations, check_name(parse_name(key)))

    def cat(self, key: str, out: BinaryIO) -> int:
        """Write a key's content to a stream and return its size in bytes."""
        return download.fetch_one(self._conversations, check_name(parse_name(key)), out)

    def get_file(self, key: str, path: Path) -> int:
        """Copy a key to a file, which is replaced once all has been checked; return its size in bytes."""
        return download.fetch_file(self._conversations, check_name(parse_name(key)), path)

    def get_tree(self, prefix: str, top: Path, report: Counted = silent) -> Transfer:
        """Copy all keys below ``sm://…/`` to files below a directory.

        Raises:
            NothingMatched: there are none.
        """
        start = check_prefix(parse_name(prefix))
        if start and not start.endswith("/"):
            raise InvalidKey(f"not a directory: {prefix!r}", hint=f"write {prefix}/")
        transfer = download.download(self._conversations, start, top, report)
        if not transfer.fresh and not transfer.failures:
            raise NothingMatched(f"no key below {prefix}", hint="sshmap ls shows what there is")
        return transfer.complete()

    def ls(self, prefix: str = "sm://", *, recursive: bool = False) -> Iterator[Placed | str]:
        """Go through the keys that start with a prefix, sorted by name.

        One level below the prefix: entries, and directories as text ending in ``/``;
        with ``recursive`` all keys. Complete, or an error.

        Raises:
            HostLost: a host does not answer.
        """
        return list_keys(self._conversations, self._listings, check_prefix(parse_name(prefix)), recursive=recursive)

    def rm(self, prefix: str, *, recursive: bool = False, counting: bool = False) -> tuple[int, int]:
        """Delete a key, or with ``recursive`` all keys that start with a prefix; return their number and bytes.

        Args:
            prefix: key or prefix.
            recursive: the prefix may match many keys, as in S3.
            counting: only count.

        Raises:
            NothingMatched: nothing matches.
        """
        name = parse_name(prefix)
        if not name:
            raise UsageError("refusing to delete everything", hint="name a bucket: sshmap rm -r sm://bucket/")
        check_prefix(name) if recursive else check_name(name)
        names = None if recursive else [self._conversations.ring.place(name)]
        answers, failures = self._conversations.gather(
            lambda host: self._remove(host, name, exact=not recursive, counting=counting), names
        )
        raise_failures(failures, dict(answers))
        count, size = sum(answer.count for answer in answers.values()), sum(answer.size for answer in answers.values())
        if not count:
            raise NothingMatched(
                f"no key {'starts with' if recursive else 'is named'} {prefix}", hint="sshmap ls shows what there is"
            )
        return count, size

    def _remove(self, host: str, name: str, *, exact: bool, counting: bool) -> m.Removed:
        """Delete keys on one host; after a break, report what the host held before, as the deletion may have happened."""
        before: m.Removed | None = None

        def converse(session: Session) -> m.Removed:
            nonlocal before
            there = session.ask(m.Remove(prefix=name, exact=exact, counting=True), m.Removed)
            if counting or not there.count:
                return before or there
            if before is None:
                before = there
                return session.ask(m.Remove(prefix=name, exact=exact), m.Removed)
            session.ask(m.Remove(prefix=name, exact=exact), m.Removed)
            return before

        return self._conversations.ask(host, converse)

    def where(self, prefix: str) -> Iterator[Placed]:
        """Go through the keys that start with a prefix with the hosts they lie on.

        Raises:
            NothingMatched: there are none.
        """
        found = False
        for row in self.ls(prefix, recursive=True):
            if isinstance(row, Placed):
                found = True
                yield row
        if not found:
            name = parse_name(prefix)
            there = (
                f"; it would lie on {self._conversations.ring.place(name)}" if name and not name.endswith("/") else ""
            )
            raise NothingMatched(f"no such key: {prefix}{there}", hint="sshmap ls shows what there is")

    def eval(self, key: str, command: str, out: BinaryIO, err: BinaryIO) -> int:
        """Run a command with a key's content as its input, where the key lies; return its exit code.

        Args:
            key: ``sm://bucket/path``.
            command: shell command.
            out: takes its stdout, unchanged.
            err: takes its stderr.
        """
        name = check_name(parse_name(key))
        request = m.Eval(name=name, command=command)
        return self._conversations.once(
            self._conversations.ring.place(name), lambda session: stream_command(session, request, out, err)
        )

    def map(self, indir: str, outdir: str, command: str, **options: Unpack[Options]) -> JobResult:
        """Run a command on each key of INDIR where it lies, one output each.

        Args:
            indir: ``sm://bucket/dir/`` or a glob.
            outdir: where outputs go, under the inputs' relative names.
            command: shell command; the key is its stdin, its stdout the output.
            options: see `Options`.

        Raises:
            JobFailed: some tasks failed or hosts were lost; its ``result`` has the rest.
            NothingMatched: INDIR holds no key.
            OtherReceipt: outputs are there that other work made; nothing was run.
        """
        return self.submit(Verb.MAP, indir, outdir, command, **options)

    def fanout(self, indir: str, outdir: str, command: str, **options: Unpack[Options]) -> JobResult:
        """Run a command on each key of INDIR, any number of named output files each, placed by their names; as `map`."""
        return self.submit(Verb.FANOUT, indir, outdir, command, **options)

    def merge(self, indir: str, outdir: str, command: str, **options: Unpack[Options]) -> JobResult:
        """Run a command on each group of equally named keys of INDIR, one output each; as `map`."""
        return self.submit(Verb.MERGE, indir, outdir, command, **options)

    def submit(self, verb: Verb, indir: str, outdir: str, command: str, **options: Unpack[Options]) -> JobResult:
        """Run a job of any shape; see `map`."""
        return JobRun(self._conversations, verb, indir, outdir, command, **options).run()

    def statuses(self, names: Iterable[str] | None = None) -> tuple[dict[str, Status], dict[str, SshmapError]]:
        """Look at hosts, all if none are named; return statuses and failures by host."""

        def get_status(session: Session) -> Status:
            began = time.monotonic()
            seen = session.ask(m.GetStatus(), m.Status)
            return Status(**msgspec.structs.asdict(seen), round_trip=time.monotonic() - began)

        return self._conversations.gather(lambda host: self._conversations.ask(host, get_status), names)

    def jobs(self) -> dict[str, list[m.JobRow]]:
        """Return the jobs every host knows.

        Raises:
            HostLost: a host does not answer.
        """
        answers, failures = self._conversations.gather(
            lambda host: self._conversations.ask(host, lambda session: session.ask(m.Jobs(), m.JobList))
        )
        raise_failures(failures, dict(answers))
        return {host: list(answer.jobs) for host, answer in answers.items()}

    def up(self, report: Counted = silent) -> tuple[dict[str, m.Status], dict[str, SshmapError]]:
        """Set every host up and start its daemon, telling of each that is done; return statuses and failures by host."""
        from sshmap.client.setup import bring_up  # imports much that only `up` needs

        return bring_up(self._conversations, report)

    def doctor(self, names: Iterable[str] | None = None) -> list[Finding]:
        """Look for what may be wrong with hosts, all if none are named, the way to them and this machine; starts nothing."""
        from sshmap.client.doctor import examine  # seldom needed

        chosen = {host.name: host for host in self.inventory.hosts}
        return examine(self._conversations, [chosen[name] for name in (chosen if names is None else names)])

    def exec(
        self, command: str, names: Iterable[str] | None = None, *, limit: int = OUTPUT_LIMIT
    ) -> tuple[dict[str, Spoken], dict[str, SshmapError]]:
        """Run a command on hosts at once; return its output and exit code, and failures, by host.

        Args:
            command: shell command.
            names: the hosts, all of them if None.
            limit: bytes kept of each host's stdout and stderr; `Spoken.dropped` says whether there were more.
        """
        return collect(self._conversations, command, names, limit)

    def exec_lines(
        self, command: str, heard: Callable[[Heard], None], names: Iterable[str] | None = None
    ) -> tuple[dict[str, int], dict[str, SshmapError]]:
        """Run a command on hosts at once and pass on its output line by line; return exit codes and failures by host.

        Args:
            command: shell command.
            heard: called with lines, one call at a time; when it raises, so does this, and each command is ended as soon
                as it prints more, or with this process.
            names: the hosts, all of them if None.
        """
        return listen(self._conversations, command, heard, names)

    def down(self, *, purge: bool = False) -> dict[str, m.DaemonStopped]:
        """Stop every host's daemon; with ``purge`` delete the roots and all keys.

        Raises:
            HostLost: a host does not answer.
        """
        from sshmap.client.setup import take_down  # imports much that only `down` needs

        self._conversations.close()
        answers, failures = take_down(self._conversations, purge=purge)
        raise_failures(failures, dict(answers))
        return answers

    def host_of(self, key: str) -> str:
        """Return the host a key belongs to."""
        return self._conversations.ring.place(check_name(parse_name(key)))
