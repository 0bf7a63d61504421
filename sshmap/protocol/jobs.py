"""Messages about jobs: shipping their files, planning and starting them, and relaying fan-out files."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from sshmap.limits import Limits
from sshmap.model import Count, DigestBytes, Finite, Gap, JobSpec, Receipt, Shipped, Size
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
    #: it is an archive of wheels, which are unpacked as the packages for requirements of this digest
    packages: DigestBytes | None = None


class NeedPackages(Message, frozen=True, kw_only=True):
    """Asks whether the packages for requirements have to be sent."""

    requirements: DigestBytes


class Wanted(Message, frozen=True, kw_only=True):
    """Says whether the file, or the packages, have to be sent."""

    wanted: bool


class Counted(Message, frozen=True, kw_only=True):
    """Ends the counts that belong to a Plan."""


class Open(Message, frozen=True, kw_only=True):
    """Makes a run of a job, or joins its newest one if that is not over; comes before anything is counted or planned."""

    job: JobSpec
    #: id that the run gets if it is made, chosen at random by the client
    run: str
    #: it is the run that all hosts are to work on: one with another id that was not started gets this id
    agreed: bool = False


class Opened(Message, frozen=True, kw_only=True):
    """Answers Open. Tasks of the run that end after this are not judged by OutputCounts, which may be older."""

    run: str
    #: number of this opening: grows each time a client opens the run
    epoch: Count
    #: what people call the run, 0 if it has no number yet; and the highest number of a run that this host knows
    number: Count = 0
    highest: Count = 0


class Plan(Message, frozen=True, kw_only=True):
    """Asks what a job would do on this host; OutputCounts and Counted follow."""

    job: JobSpec
    #: as Opened said; empty of a job that is not going to be started
    run: str
    epoch: Count
    #: most tasks to be run; 0 for all
    sample: Count = 0


class Explain(Message, frozen=True, kw_only=True):
    """Asks why the tasks of a job would be run, kept or refused on this host; OutputCounts and Counted follow."""

    job: JobSpec


class Reason(msgspec.Struct, frozen=True, array_like=True):
    """What would be done about a task, and why."""

    #: its output
    output: str
    decision: Literal["run", "keep", "refuse"]
    why: str
    #: bytes of its inputs
    size: Size


class Reasons(Message, frozen=True, kw_only=True):
    """Some rows of the answer to Explain."""

    rows: Annotated[tuple[Reason, ...], PAGE]


class Explained(Message, frozen=True, kw_only=True):
    """Ends the answer to Explain."""

    #: bytes that are free on the disk
    free: Size
    #: seconds that the tasks would take, from the times of the last run of the same command; 0 if there was none
    seconds: Finite = 0.0


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
    #: what people call the run, if it has no number yet, and from where it was submitted
    number: Count = 0
    origin: Annotated[str, msgspec.Meta(max_length=255)] = ""
    limits: Limits = Limits()
    #: most tasks to be run; 0 for all
    sample: Count = 0
    #: answer as soon as all tasks are queued, and follow nothing
    detach: bool = False
    #: a command that the first of these hosts runs, once, when the run is over on all of them
    notify: str = ""
    hosts: tuple[str, ...] = ()
    #: all hosts that the job was submitted to, those included that do not answer
    wanted: tuple[str, ...] = ()


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


class Shell(Message, frozen=True, kw_only=True):
    """Runs a command as a task on a key would have it, or bash on a terminal; what is typed follows as content."""

    name: str
    #: empty for bash
    command: str = ""
    #: the run whose shipped files are there; and whether the directory is what its last failed attempt on the key left
    run: str = ""
    failed: bool = False
    #: size of the terminal, 0 if there is none, and what kind it is
    rows: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    columns: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    terminal: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Resize(Message, frozen=True, kw_only=True):
    """Says that the terminal has another size now."""

    rows: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    columns: Annotated[int, msgspec.Meta(ge=0, le=65535)]


class Said(Message, frozen=True, kw_only=True):
    """Some stderr of the command."""

    text: bytes


class Exited(Message, frozen=True, kw_only=True):
    """The command's exit code."""

    code: Annotated[int, msgspec.Meta(ge=-64, le=255)]


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
