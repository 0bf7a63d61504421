"""What the calls about jobs return: data, per host and per task."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sshmap.client.results import MOST_FAILURES, gravest
from sshmap.errors import BY_NAME, Cancelled, CommandsFailed, SshmapError
from sshmap.model import Ending, typed
from sshmap.protocol import messages

#: the last step after commands have failed, for those who type jobs
MENDED = "a mended command with --keep-done does so too and keeps what is done, with --replace it makes all anew"
#: tasks of a plan that are listed one by one
MOST_TASKS = 1_000_000


class TaskFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A task that failed."""

    host: str
    #: input, or name of the merged group
    key: str
    attempt: int
    #: class name in `sshmap.errors`
    kind: str
    message: str
    exit_code: int = 0


class HostResult(msgspec.Struct, frozen=True, kw_only=True):
    """A job on one host; on one that was lost, as it had reported last."""

    done: int = 0
    failed: int = 0
    kept: int = 0
    #: tasks whose files wait to be sent to hosts that do not answer
    sending: int = 0
    #: bytes made
    size: int = 0
    #: tasks that were cancelled with their run
    cancelled: int = 0
    #: seconds that the commands of its finished tasks took, all together
    busy: float = 0.0


class HostPlan(msgspec.Struct, kw_only=True):
    """What a host would do about a job."""

    #: tasks by what would be done about them
    run: int = 0
    keep: int = 0
    refuse: int = 0
    #: bytes of the inputs of the tasks that would be run
    size: int = 0
    #: by what would be done and why: how many tasks, and the output of the first
    why: dict[tuple[str, str], tuple[int, str]] = {}
    #: each task, up to `MOST_TASKS`
    tasks: list[messages.Reason] = []
    #: bytes that are free on its disk
    free: int = 0
    #: seconds that the tasks would take, from the last run of the same command; 0 if there was none
    seconds: float = 0.0

    def take(self, rows: Iterable[messages.Reason]) -> None:
        """Add some tasks."""
        for row in rows:
            count, first = self.why.get((row.decision, row.why), (0, row.output))
            if count or len(self.why) < MOST_FAILURES:
                self.why[row.decision, row.why] = (count + 1, first)
            self.run += row.decision == "run"
            self.keep += row.decision == "keep"
            self.refuse += row.decision == "refuse"
            self.size += row.size if row.decision == "run" else 0
            if len(self.tasks) < MOST_TASKS:
                self.tasks.append(row)


class JobResult(msgspec.Struct, kw_only=True):
    """A job on all hosts."""

    job: str
    #: what people call the run
    number: int = 0
    #: number of input keys
    inputs: int
    #: why the run was ended before it was done, if it was
    ending: Ending | None = None
    #: the hosts, shortly
    cluster: str = ""
    hosts: dict[str, HostResult]
    failures: list[TaskFailure]
    #: whether fan-out files had to go through the client
    relayed: bool = False
    #: hosts that were lost, with the reason
    lost: dict[str, SshmapError] = {}
    #: outputs of the same work whose inputs are gone, and those of them that were deleted
    orphans: int = 0
    pruned: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> int:
        """Tasks that ran and succeeded."""
        return sum(host.done for host in self.hosts.values())

    @property
    def failed(self) -> int:
        """Tasks that failed."""
        return sum(host.failed for host in self.hosts.values())

    @property
    def kept(self) -> int:
        """Tasks whose outputs were there already."""
        return sum(host.kept for host in self.hosts.values())

    @property
    def sending(self) -> int:
        """Tasks whose files wait to be sent to hosts that do not answer."""
        return sum(host.sending for host in self.hosts.values())

    @property
    def ran(self) -> bool:
        """Whether anything was run, or would have been but for a host or an end that came early."""
        return bool(self.done or self.failed or self.lost or self.ending)

    @property
    def cancelled(self) -> int:
        """Tasks that were cancelled with their run."""
        return sum(host.cancelled for host in self.hosts.values())

    @property
    def size(self) -> int:
        """Bytes made."""
        return sum(host.size for host in self.hosts.values())

    def skew(self) -> dict[str, tuple[str, float, float]]:
        """Return for bytes made and time worked the host that has most, how much that is, and the mean; empty for one host or one task."""
        measures = {"bytes": {name: float(host.size) for name, host in self.hosts.items()}}
        measures["time"] = {name: host.busy for name, host in self.hosts.items()}
        found: dict[str, tuple[str, float, float]] = {}
        for what, by_host in measures.items():
            if len(by_host) > 1 and self.done > 1 and sum(by_host.values()) > 0:
                most = max(by_host, key=lambda name, by_host=by_host: by_host[name])  # type: ignore[misc]
                found[what] = (most, by_host[most], sum(by_host.values()) / len(by_host))
        return found

    def check(self) -> JobResult:
        """Return this result if the job is complete.

        Raises:
            JobFailed: it is not.
        """
        if self.lost or self.failures or self.ending:
            raise JobFailed(self)
        return self


class JobFailed(CommandsFailed):
    """A job that is over but not complete; ``result`` says what was done and what failed.

    The exit code is that of the gravest reason: 1 if commands failed, 3 if a host was lost, and so on.
    """

    def __init__(self, result: JobResult) -> None:
        errors: list[SshmapError] = list(result.lost.values())
        errors += [_of_kind(failure) for failure in result.failures]
        if result.ending is Ending.CANCELLED:
            errors.append(Cancelled(f"run {result.number} was cancelled", hint="the same command goes on from there"))
        elif result.ending is Ending.HALTED:
            errors.append(CommandsFailed(f"run {result.number} was halted, as too many of its tasks failed"))
        worst = gravest(errors)
        hint = worst.hint or _next_steps(result)
        super().__init__(worst.message, hint=hint, host=worst.host)
        self.exit_code = worst.exit_code
        self.result = result


def _next_steps(result: JobResult) -> str:
    """Say what to type after commands have failed."""
    which = result.number or "last"
    first = result.failures[0].key if result.failures else ""
    steps = (
        [typed("sshmap", "shell", first, "--failed", str(which)) + " opens bash where the first of them failed"]
        if first
        else []
    )
    steps += [f"sshmap logs {which} --failed shows all they said"]
    steps += ["the same command runs what failed again"]
    steps += [MENDED]
    return "; ".join(steps)


def _of_kind(failure: TaskFailure) -> SshmapError:
    return BY_NAME.get(failure.kind, CommandsFailed)(f"{failure.key}: {failure.message}", host=failure.host)
