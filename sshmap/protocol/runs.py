"""Messages about runs: following and cancelling them, and what is kept of them."""

from __future__ import annotations

from typing import Annotated

import msgspec

from sshmap.limits import Limits
from sshmap.model import AttemptEnd, Count, Ending, Finite, Force, JobSpec, Size, TaskState, Time, Verb
from sshmap.protocol.base import Message
from sshmap.protocol.keys import PAGE


class Slow(msgspec.Struct, frozen=True, array_like=True):
    """A task that takes much longer than the others of its run."""

    #: input, or group of inputs
    key: str
    #: seconds so far
    seconds: Count
    #: median of the finished ones, in seconds
    median: Finite


class Progress(Message, frozen=True, kw_only=True):
    """How far the job is on this host."""

    queued: Count = 0
    running: Count = 0
    sending: Count = 0
    done: Count = 0
    failed: Count = 0
    #: tasks whose outputs were there when the job was started
    kept: Count = 0
    #: bytes of outputs
    size: Size = 0
    #: hosts that fan-out files cannot be sent to, and how many wait for each
    stuck: dict[str, Count] = {}
    #: those of them whose host key was refused
    barred: tuple[str, ...] = ()
    #: tasks that were cancelled with their run
    cancelled: Count = 0
    #: bytes of memory that are available, where tasks wait for more; 0 where none waits
    short_of_memory: Size = 0
    #: the slowest running tasks, if they take much longer than others
    slow: Annotated[tuple[Slow, ...], PAGE] = ()


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A task that failed."""

    #: input, or group of inputs
    key: str
    attempt: int
    #: class name in `sshmap.errors`
    kind: str
    message: str
    exit_code: int = 0


class RunEnded(Message, frozen=True, kw_only=True):
    """The job is over on this host."""

    done: Count
    failed: Count
    size: Size
    #: tasks whose outputs were there when the job was started
    kept: Count
    #: the first thousand
    failures: Annotated[tuple[Failure, ...], PAGE] = ()
    #: how many fan-out files wait for a host that does not answer, by host; and the tasks that have made them
    stuck: dict[str, Count] = {}
    sending: Count = 0
    #: why such a host does not answer, by host
    why: dict[str, str] = {}
    #: tasks that were cancelled with their run, and why the run was ended
    cancelled: Count = 0
    ending: Ending | None = None
    #: seconds that the commands of its finished tasks took, all together
    busy: Finite = 0.0


class Follow(Message, frozen=True, kw_only=True):
    """Follows a run that was started before."""

    run: str


class CancelRun(Message, frozen=True, kw_only=True):
    """Cancels a run, also one that this host does not know yet. Repeating is harmless."""

    run: str
    force: Force = Force.TERM
    #: hosts that have not been told; this host remembers them
    unreached: tuple[str, ...] = ()
    #: answer only when none of its commands runs any more, or after some seconds
    wait: bool = False
    #: it is no cancel: too many tasks have failed on all hosts together
    halt: bool = False


class RunOver(Message, frozen=True, kw_only=True):
    """Tells the first host of a run that the run is over on the host that calls."""

    run: str
    done: Count
    failed: Count
    cancelled: Count


class CancelNoted(Message, frozen=True, kw_only=True):
    """Answers CancelRun."""

    #: tasks that have not ended yet
    left: Count


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a job on one host."""

    job: str
    run: str = ""
    #: what people call it
    number: Count = 0
    verb: Verb
    indir: str
    outdir: str
    #: its first 500 characters
    command: str
    #: seconds since 1970; 0 of a run that is not over
    submitted: Time
    ended: Time = 0
    #: from where it was submitted
    origin: str = ""
    #: the hosts that the job was submitted to, those included that did not answer
    wanted: Annotated[tuple[str, ...], PAGE] = ()
    #: why no task of it begins any more
    ending: Ending | None = None
    #: whether its tasks are still being queued
    queueing: bool = False
    states: dict[TaskState, Count]
    #: bytes made
    size: Size = 0
    kept: Count = 0
    limits: Limits = Limits()


class Jobs(Message, frozen=True, kw_only=True):
    """Asks for the runs."""


class JobList(Message, frozen=True, kw_only=True):
    """The runs, newest first."""

    jobs: Annotated[tuple[JobRow, ...], PAGE]


class GetJob(Message, frozen=True, kw_only=True):
    """Asks what a run was asked to do; where the run is not known, the newest run of a job."""

    run: str
    job: str = ""


class JobIs(Message, frozen=True, kw_only=True):
    """Answers GetJob."""

    job: JobSpec
    limits: Limits


class Look(Message, frozen=True, kw_only=True):
    """Asks what a host does right now."""


class TaskNow(msgspec.Struct, frozen=True, array_like=True):
    """A task that runs."""

    #: what people call its run, and the run's id
    number: Count
    run: str
    #: input, or group of inputs
    key: str
    slot: Count
    #: seconds so far
    seconds: Finite


class Seen(Message, frozen=True, kw_only=True):
    """Answers Look."""

    queued: Count
    sending: Count
    #: bytes that its runs have made, of all that it still knows
    size: Size
    #: processes that want to run, as the system's load average of the last minute has it, and cores
    load: Finite
    cores: Count
    #: bytes that are free on its disk
    free: Size
    #: the tasks that run, the oldest first
    tasks: Annotated[tuple[TaskNow, ...], PAGE] = ()


class Forget(Message, frozen=True, kw_only=True):
    """Forgets runs that have ended, what they shipped and the directories of their failed tasks."""

    #: seconds after its end for which a run is kept
    age: Annotated[float, msgspec.Meta(ge=0)]


class Forgotten(Message, frozen=True, kw_only=True):
    """Answers Forget."""

    runs: Count
    attempts: Count
    #: shipped files and directories of failed tasks that were deleted, and their bytes
    files: Count
    size: Size


class ListAttempts(Message, frozen=True, kw_only=True):
    """Asks for the attempts of a run in the order of its tasks, those that run included."""

    run: str
    #: only those that failed
    failed: bool = False
    #: only those of this input, or group of inputs
    key: str = ""
    #: with what they said on stderr
    stderr: bool = False
    #: only those that ended after this, in seconds since 1970 by the host's clock, and none that runs; 0 for all
    since: float = 0.0


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt, or a task that has none yet."""

    #: number of the task on its host
    task: Count
    #: input, or group of inputs
    key: str
    state: TaskState
    #: 0 of a task that has no attempt yet
    attempt: Count = 0
    slot: Count = 0
    #: seconds since 1970: when the task was queued, and when the attempt began and ended; 0 if it has not
    queued: Finite = 0.0
    began: Finite = 0.0
    ended: Finite = 0.0
    #: None while it runs
    outcome: AttemptEnd | None = None
    #: seconds that its command took, and seconds of CPU time
    ran: Finite = 0.0
    user: Finite = 0.0
    system: Finite = 0.0
    #: bytes: memory of its largest process, what it was given, what it made
    peak: Size = 0
    received: Size = 0
    made: Size = 0
    #: class name in `sshmap.errors`, and words, of one that failed
    kind: str = ""
    message: str = ""
    exit_code: int = 0
    #: the beginning and the end of its stderr
    stderr: bytes = b""


class AttemptList(Message, frozen=True, kw_only=True):
    """Some rows of the answer to ListAttempts."""

    rows: Annotated[tuple[AttemptRow, ...], PAGE]
