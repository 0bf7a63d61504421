"""Messages about jobs: planning, running and following them, and relaying fan-out files."""

from __future__ import annotations

from typing import Annotated

import msgspec

from sshmap.model import Count, DigestBytes, Gap, JobSpec, Receipt, Shipped, Size, TaskState, Time
from sshmap.protocol.base import Message, Problem
from sshmap.protocol.keys import PAGE


class OutputCount(msgspec.Struct, frozen=True, array_like=True):
    """How many keys with the same receipt lie in one directory of fan-out outputs, on one host or on all together."""

    #: directory ending in ``/``
    output: str
    receipt: Receipt | None
    count: Count
    #: xor of the xxh3-128 of the base names
    names: DigestBytes


class CountOutputs(Message, frozen=True, kw_only=True):
    """Asks which fan-out outputs lie below OUTDIR."""

    outdir: str


class OutputCounts(Message, frozen=True, kw_only=True):
    """Some rows of the answer to CountOutputs."""

    rows: Annotated[tuple[OutputCount, ...], PAGE]


class Ship(Message, frozen=True, kw_only=True):
    """Offers a file for a job."""

    file: Shipped


class Wanted(Message, frozen=True, kw_only=True):
    """Says whether the file has to be sent."""

    wanted: bool


class Counted(Message, frozen=True, kw_only=True):
    """Ends the counts that belong to a Plan."""


class Open(Message, frozen=True, kw_only=True):
    """Makes a run of a job, or joins its newest one if that is not over; comes before anything is counted or planned."""

    job: JobSpec
    #: id that the run gets if it is made, chosen at random by the client
    run: str


class Opened(Message, frozen=True, kw_only=True):
    """Answers Open. Tasks of the run that end after this are not judged by OutputCounts, which may be older."""

    run: str
    #: number of this opening: grows each time a client opens the run
    epoch: Count


class Plan(Message, frozen=True, kw_only=True):
    """Asks what a job would do on this host; OutputCounts and Counted follow."""

    job: JobSpec
    #: as Opened said
    run: str
    epoch: Count


class Planned(Message, frozen=True, kw_only=True):
    """What the job would do here."""

    job: str
    inputs: Count
    fresh: Count
    kept: Count
    #: tasks refused, the first hundred
    problems: Annotated[tuple[Problem, ...], PAGE] = ()
    refused: Count = 0
    #: for a merge: what fan-outs have not brought below INDIR
    gaps: Annotated[tuple[Gap, ...], PAGE] = ()
    #: outputs of the same work whose inputs are gone
    orphans: Count = 0


class Start(Message, frozen=True, kw_only=True):
    """Queues tasks whose outputs are missing, and follows the run; OutputCounts and Counted follow. Repeating is harmless."""

    job: JobSpec
    #: as Opened said
    run: str
    epoch: Count


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


class OutputDirectory(msgspec.Struct, frozen=True, array_like=True):
    """A fan-out task's output directory, and the receipt of the keys that belong in it; keys of other receipts are stale."""

    #: directory ending in ``/``
    output: str
    receipt: Receipt


class StaleOutputs(Message, frozen=True, kw_only=True):
    """Some output directories in which stale keys lie beside the fresh ones."""

    directories: Annotated[tuple[OutputDirectory, ...], PAGE]


class Sweep(Message, frozen=True, kw_only=True):
    """Deletes the stale keys in some output directories; a client sends one Sweep for each page of them."""

    directories: Annotated[tuple[OutputDirectory, ...], PAGE]
    #: delete instead the keys that have these receipts: their inputs are gone
    orphaned: bool = False


class Prune(Message, frozen=True, kw_only=True):
    """Deletes the outputs of a map or merge whose inputs are gone; of a fan-out, asks for their directories, for a Sweep."""

    job: JobSpec
    #: forget instead what a fan-out has made of inputs that are gone: its outputs were swept on all hosts
    swept: bool = False


class Eval(Message, frozen=True, kw_only=True):
    """Runs a command once, with a key's content as its input, and streams its stdout and stderr."""

    name: str
    command: str


class Exec(Message, frozen=True, kw_only=True):
    """Runs a command once, without input."""

    command: str


class Said(Message, frozen=True, kw_only=True):
    """Some stderr of the command."""

    text: bytes


class Exited(Message, frozen=True, kw_only=True):
    """The command's exit code."""

    code: Annotated[int, msgspec.Meta(ge=-64, le=255)]


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run of a job on one host."""

    job: str
    run: str = ""
    verb: str
    indir: str
    outdir: str
    command: str
    #: seconds since 1970
    submitted: Time
    states: dict[TaskState, Count]
    kept: Count = 0


class Jobs(Message, frozen=True, kw_only=True):
    """Asks for the jobs."""


class JobList(Message, frozen=True, kw_only=True):
    """The jobs."""

    jobs: Annotated[tuple[JobRow, ...], PAGE]


class Relay(Message, frozen=True, kw_only=True):
    """Asks for fan-out files that wait for a peer, to carry them there."""

    peer: str


class RelayItem(Message, frozen=True, kw_only=True):
    """Announces one fan-out file, which the client brings to its peer."""

    id: int
    name: str
    receipt: Receipt
    #: names of the inputs it was made from
    members: tuple[str, ...] = ()
    replace: bool = False


class Delivered(Message, frozen=True, kw_only=True):
    """Tells a host which of its fan-out files have arrived at a peer, and which were refused there."""

    peer: str
    ids: tuple[int, ...]
    refused: dict[int, Problem] = {}
