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
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, Unpack

import msgspec

from sshmap.client.commands import OUTPUT_LIMIT, Heard, collect, listen, stream_command
from sshmap.client.conversations import Conversations
from sshmap.client.described import Options, again, described
from sshmap.client.functions import Bundle
from sshmap.client.holding import Holding, holding
from sshmap.client.job_results import HostPlan, JobResult
from sshmap.client.jobs import JobRun
from sshmap.client.keys import Key, KeyCalls
from sshmap.client.results import Counted, Finding, Health, Spoken, Status, all_of, health_of, silent
from sshmap.client.runs import RunCalls
from sshmap.errors import HostsFailed, SshmapError
from sshmap.functions import FanoutFunction, MapFunction, MergeFunction
from sshmap.inventory import Inventory, builtin, discover
from sshmap.model import Verb, check_name, parse_name
from sshmap.protocol import messages as m
from sshmap.transport.session import Session


class Cluster(KeyCalls, RunCalls):
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
        super().__init__(Conversations(chosen, autostart=autostart))

    def __repr__(self) -> str:
        return f"Cluster({self.inventory.called}, {self.inventory.origin})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all sessions; the hosts go on with what was submitted."""
        self._conversations.close()

    def eval(self, key: Key, command: str, out: BinaryIO, err: BinaryIO) -> int:
        """Run a command with a key's content as its input, where the key lies; return its exit code.

        Args:
            key: ``sm://bucket/path``.
            command: shell command.
            out: takes its stdout, unchanged.
            err: takes its stderr.
        """
        name = check_name(parse_name(str(key)))
        request = m.Eval(name=name, command=command)
        return self._conversations.once(
            self._conversations.ring.place(name), lambda session: stream_command(session, request, out, err)
        )

    def shell(
        self, key: Key, command: str = "", *, run: str = "", failed: bool = False, out: BinaryIO, err: BinaryIO
    ) -> int:
        """Run a command as a task on a key would have it, or bash on this terminal; return its exit code.

        Args:
            key: ``sm://bucket/path``.
            command: shell command; if it is empty, bash reads commands from this process's terminal.
            run: the run whose shipped files are there: its number, ``last``, or the beginning of its id.
            failed: in the directory as the run's last failed attempt on the key left it.
            out: takes its stdout, unchanged.
            err: takes its stderr.

        Raises:
            NothingMatched: there is no such key, or nothing is kept of a failed attempt.
        """
        name = check_name(parse_name(str(key)))
        request = m.Shell(name=name, command=command, run=self.job(run).run if run else "", failed=failed)
        host = self._conversations.ring.place(name)
        if command:
            return self._conversations.once(host, lambda session: stream_command(session, request, out, err))
        from sshmap.client.terminal import run_bash  # for systems that have terminals

        return run_bash(self._conversations, host, request, out)

    def map(self, indir: str, outdir: str, command: str | MapFunction, **options: Unpack[Options]) -> JobResult:
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

    def fanout(self, indir: str, outdir: str, command: str | FanoutFunction, **options: Unpack[Options]) -> JobResult:
        """Run a command on each key of INDIR, any number of named output files each, placed by their names; as `map`."""
        return self.submit(Verb.FANOUT, indir, outdir, command, **options)

    def merge(self, indir: str, outdir: str, command: str | MergeFunction, **options: Unpack[Options]) -> JobResult:
        """Run a command on each group of equally named keys of INDIR, one output each; as `map`."""
        return self.submit(Verb.MERGE, indir, outdir, command, **options)

    def submit(
        self,
        verb: Verb,
        indir: str,
        outdir: str,
        command: str | Callable[..., object] | Bundle,
        **options: Unpack[Options],
    ) -> JobResult:
        """Run a job of any shape; see `map`."""
        return JobRun(self._conversations, described(verb, indir, outdir, command, options), options).run()

    def holding(self, name: str, purpose: str) -> contextlib.AbstractContextManager[Holding]:
        """Hold a name on all hosts for as long as this lasts, so that nobody else does.

        Args:
            name: any text, such as a directory of keys.
            purpose: what for, which is told to whoever is refused.

        Raises:
            LockHeld: somebody else holds it.
        """
        return holding(self._conversations, name, purpose)

    def explain(
        self,
        verb: Verb,
        indir: str,
        outdir: str,
        command: str | Callable[..., object] | Bundle,
        **options: Unpack[Options],
    ) -> dict[str, HostPlan]:
        """Say what each host would do about a job, and why, changing nothing.

        Raises:
            HostsFailed: hosts did not answer; its ``results`` are those of the others.
        """
        return all_of(*JobRun(self._conversations, described(verb, indir, outdir, command, options), options).explain())

    def retry(self, which: str = "last", **options: Unpack[Options]) -> JobResult:
        """Submit the job of a run again: what failed or is missing is run.

        Every host is asked what it was to do itself, so that no host can have others run anything.

        Args:
            which: its number, ``last``, or the beginning of its id.
            options: `report`, `note`, `detach` and `limits`; without limits, those of the run.

        Raises:
            Refused: the hosts do not agree on what the run was.
            SshmapError: as `map`.
        """
        job, limits = again(self._conversations, self.job(which))
        options.setdefault("limits", limits)
        return JobRun(self._conversations, job, options).run()

    def report(self, which: Iterable[str] = ("last",)) -> str:
        """Make a page about runs, in HTML, that needs no network and nothing beside it.

        Args:
            which: each a run's number, ``last``, or the beginning of its id.

        Raises:
            NothingMatched: there is no such run.
            HostsFailed: hosts did not answer; its ``results`` has the page without what they know, under ``page``.
        """
        from sshmap.client.report import make_report  # seldom needed

        words = [which] if isinstance(which, str) else which
        page, failures = make_report(self._conversations, words, self.statuses())
        if failures:
            raise HostsFailed(failures, {"page": page})
        return page

    def statuses(self, names: Iterable[str] | None = None) -> tuple[dict[str, Status], dict[str, SshmapError]]:
        """Look at hosts, all if none are named; return statuses and failures by host."""

        def get_status(session: Session) -> Status:
            began = time.monotonic()
            seen = session.ask(m.GetStatus(), m.Status)
            return Status(**msgspec.structs.asdict(seen), round_trip=time.monotonic() - began)

        return self._conversations.gather(lambda host: self._conversations.ask(host, get_status), names)

    def health(self, names: Iterable[str] | None = None) -> dict[str, Health]:
        """Look at hosts, all if none are named, and say of each what is wrong with it; starts nothing."""
        statuses, failures = self.statuses(names)
        chosen = [host.name for host in self.inventory.hosts if host.name in {*statuses, *failures}]
        return {name: health_of(name, statuses.get(name), failures.get(name)) for name in chosen}

    def up(self, report: Counted = silent) -> tuple[dict[str, m.Status], dict[str, SshmapError]]:
        """Set every host up and start its daemon, telling of each that is done; return statuses and failures by host."""
        from sshmap.client.setup import bring_up  # imports much that only `up` needs

        return bring_up(self._conversations, report)

    def doctor(self, names: Iterable[str] | None = None) -> list[Finding]:
        """Look for what may be wrong with hosts, all if none are named, the way to them and this machine; starts nothing."""
        from sshmap.client.doctor import examine  # seldom needed

        chosen = {host.name: host for host in self.inventory.hosts}
        return examine(self._conversations, [chosen[name] for name in (chosen if names is None else names)])

    def exec(self, command: str, names: Iterable[str] | None = None, *, limit: int = OUTPUT_LIMIT) -> dict[str, Spoken]:
        """Run a command on hosts at once; return its output and exit code by host.

        Args:
            command: shell command.
            names: the hosts, all of them if None.
            limit: bytes kept of each host's stdout and stderr; `Spoken.dropped` says whether there were more.

        Raises:
            HostsFailed: hosts did not answer; its ``results`` are those of the others.
        """
        return collect(self._conversations, command, names, limit)

    def exec_lines(
        self, command: str, heard: Callable[[Heard], None], names: Iterable[str] | None = None
    ) -> dict[str, int]:
        """Run a command on hosts at once and pass on its output line by line; return exit codes by host.

        Args:
            command: shell command.
            heard: called with lines, one call at a time; when it raises, so does this, and each command is ended as soon
                as it prints more, or with this process.
            names: the hosts, all of them if None.

        Raises:
            HostsFailed: hosts did not answer; its ``results`` are the exit codes of the others.
        """
        return listen(self._conversations, command, heard, names)

    def down(self, names: Iterable[str] | None = None, *, purge: bool = False) -> dict[str, m.DaemonStopped]:
        """Stop the daemons of hosts, all if none are named; with ``purge`` delete the roots and all keys. May be repeated.

        Raises:
            HostsFailed: hosts do not answer; its ``results`` are the answers of the others.
        """
        from sshmap.client.setup import take_down  # imports much that only `down` needs

        self._conversations.close()
        return all_of(*take_down(self._conversations, names, purge=purge))
