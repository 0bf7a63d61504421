"""The messages of the protocol, one class each. `sshmap.protocol` says which follows which."""

from __future__ import annotations

import msgspec

from sshmap.errors import BY_NAME, SshmapError
from sshmap.model import Entry, JobSpec, Maker, Peer, Receipt, Shipped

VERSION = 2


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="t", tag=True, omit_defaults=True):
    """Base of all messages."""


class Problem(Message, frozen=True, kw_only=True):
    """An error on its way to the one who asked."""

    #: class name in `sshmap.errors`
    kind: str
    message: str
    hint: str = ""
    #: key it is about, if it is about one
    key: str = ""

    @classmethod
    def of(cls, error: SshmapError, key: str = "") -> Problem:
        """Pack an error."""
        kind = type(error).__name__
        return cls(kind=kind if kind in BY_NAME else "SshmapError", message=error.message, hint=error.hint, key=key)

    def error(self, host: str = "") -> SshmapError:
        """Unpack it again."""
        return BY_NAME.get(self.kind, SshmapError)(self.message, hint=self.hint, host=host)


class Hello(Message, frozen=True, kw_only=True):
    """First message of a client: who is meant and what the cluster looks like."""

    version: int = VERSION
    host: str
    ring: tuple[tuple[str, float], ...]
    #: the other hosts; empty when a peer calls
    peers: tuple[Peer, ...] = ()
    workers: int = 0
    idle_stop: float = 0.0
    shuffle: str = "auto"
    #: the host whose courier calls; empty when a client does
    caller: str = ""
    #: start the daemon if there is none
    autostart: bool = False


class Welcome(Message, frozen=True, kw_only=True):
    """The agent's answer to Hello."""

    version: int = VERSION
    host: str


class Ls(Message, frozen=True, kw_only=True):
    """List keys by prefix."""

    prefix: str
    recursive: bool = False
    #: generation of a listing the client still has
    known: str = ""


class Listing(Message, frozen=True, kw_only=True):
    """Some rows of a listing, sorted by name."""

    entries: tuple[Entry, ...] = ()
    prefixes: tuple[str, ...] = ()


class Listed(Message, frozen=True, kw_only=True):
    """End of a listing."""

    generation: str
    #: the listing the client has is still right
    unchanged: bool = False


class Put(Message, frozen=True, kw_only=True):
    """Announces the content of a key."""

    name: str
    receipt: Receipt | None = None
    #: swap a key that has another receipt
    replace: bool = False


class Introduce(Message, frozen=True, kw_only=True):
    """Tells the maker that receipts of later Puts refer to."""

    maker: Maker


class End(Message, frozen=True, kw_only=True):
    """Ends a stream of data."""

    size: int
    digest: bytes


class Handed(Message, frozen=True, kw_only=True):
    """Stands for a stream of data and its End: the open file came with this message, on one machine."""

    size: int
    digest: bytes


class PutResult(msgspec.Struct, frozen=True, array_like=True):
    """What became of one Put."""

    name: str
    fresh: bool = True
    problem: Problem | None = None


def refused(error: SshmapError, name: str) -> PutResult:
    """Say that a Put came to nothing."""
    return PutResult(name, fresh=False, problem=Problem.of(error, name))


class Stored(Message, frozen=True, kw_only=True):
    """What became of some Puts, in their order."""

    results: tuple[PutResult, ...]


class Sync(Message, frozen=True, kw_only=True):
    """Asks for the results of all Puts so far."""


class Synced(Message, frozen=True, kw_only=True):
    """All results have been sent."""


class Get(Message, frozen=True, kw_only=True):
    """Asks for content."""

    prefix: str
    #: the prefix is one whole key name
    exact: bool = False
    #: skip all up to and with this name, when going on after a lost connection
    after: str = ""


class Item(Message, frozen=True, kw_only=True):
    """Announces the content of one key."""

    name: str
    size: int


class Served(Message, frozen=True, kw_only=True):
    """End of a series of answers."""

    count: int = 0


class Remove(Message, frozen=True, kw_only=True):
    """Deletes keys, or only counts them."""

    prefix: str
    exact: bool = False
    counting: bool = False


class Removed(Message, frozen=True, kw_only=True):
    """How many keys of how many bytes."""

    count: int
    size: int


class TallyRow(msgspec.Struct, frozen=True, array_like=True):
    """The fan-out outputs in one directory that one receipt made, on one host or summed."""

    #: directory ending in ``/``
    output: str
    receipt: Receipt | None
    count: int
    #: xor of the xxh3-128 of the base names
    names: bytes


class Tally(Message, frozen=True, kw_only=True):
    """Asks which fan-out outputs lie below OUTDIR."""

    outdir: str


class Tallies(Message, frozen=True, kw_only=True):
    """Some rows of the answer to Tally."""

    rows: tuple[TallyRow, ...]


class Ship(Message, frozen=True, kw_only=True):
    """Offers a file for a job."""

    file: Shipped


class Wanted(Message, frozen=True, kw_only=True):
    """Says whether the file has to be sent."""

    wanted: bool


class Recall(Message, frozen=True, kw_only=True):
    """Comes before the tallies of a fan-out: tasks that are in hand now are not judged by them."""

    job: JobSpec


class Recalled(Message, frozen=True, kw_only=True):
    """The number of the run that such tasks belong to."""

    run: int


class Plan(Message, frozen=True, kw_only=True):
    """Asks what a job would do on this host."""

    job: JobSpec
    tallies: tuple[TallyRow, ...] = ()
    #: what Recalled said before the tallies; 0 if nothing was asked
    since: int = 0


class Planned(Message, frozen=True, kw_only=True):
    """What the job would do here."""

    job: str
    inputs: int
    fresh: int
    kept: int
    #: tasks refused, the first hundred
    problems: tuple[Problem, ...] = ()
    refused: int = 0


class Start(Message, frozen=True, kw_only=True):
    """Starts the job that was planned, or attaches to it."""

    #: the client has seen it start and goes on after a broken session: what has failed since is not run again
    attach: bool = False


class Progress(Message, frozen=True, kw_only=True):
    """How far the job is on this host."""

    queued: int = 0
    running: int = 0
    sending: int = 0
    done: int = 0
    failed: int = 0
    #: tasks whose outputs were there when the job was started
    kept: int = 0
    #: bytes of outputs
    size: int = 0
    #: hosts that fan-out files cannot be sent to, and how many wait for each
    stuck: dict[str, int] = {}
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


class Finished(Message, frozen=True, kw_only=True):
    """The job is over on this host."""

    done: int
    failed: int
    size: int
    #: tasks whose outputs were there when the job was started
    kept: int
    #: the first thousand
    failures: tuple[Failure, ...] = ()
    #: outputs that other work left beside the fresh ones: what to keep
    stale: tuple[TallyRow, ...] = ()
    #: fan-out files that wait for a host that does not answer
    stuck: dict[str, int] = {}
    #: why it does not
    why: dict[str, str] = {}


class Sweep(Message, frozen=True, kw_only=True):
    """Deletes outputs in these directories that other receipts made."""

    keep: tuple[TallyRow, ...]


class Eval(Message, frozen=True, kw_only=True):
    """Runs a command once, with a key's content as its input, and streams what it says."""

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

    code: int


class Look(Message, frozen=True, kw_only=True):
    """Asks for the host's condition."""


class Condition(Message, frozen=True, kw_only=True):
    """A host's condition."""

    host: str
    keys: int
    size: int
    #: bytes
    free: int
    cores: int
    workers: int
    daemon: bool
    #: process id of the daemon, 0 if there is none
    pid: int = 0
    queued: int = 0
    running: int = 0
    version: str = ""
    #: id of the code the agent runs from; empty if it was not shipped
    runtime: str = ""
    #: what compiled code depends on: Python's version, machine, C library
    platform: tuple[str, str, str] = ("", "", "")
    #: the key this host logs in to its peers with
    public_key: str = ""
    #: digest of what it was told about its peers
    met: str = ""
    #: tells one root from another
    root_id: str = ""
    findings: tuple[str, ...] = ()


class Examine(Message, frozen=True, kw_only=True):
    """Asks for what only the host itself can find out."""


class Examined(Message, frozen=True, kw_only=True):
    """What it found out."""

    #: peers that it cannot bring files to, with the reason
    unreached: dict[str, str] = {}
    #: what else is wrong, and what mends it
    findings: tuple[tuple[str, str], ...] = ()


class JobRow(msgspec.Struct, frozen=True, kw_only=True):
    """A job on one host."""

    job: str
    verb: str
    indir: str
    outdir: str
    command: str
    #: seconds since 1970
    submitted: int
    states: dict[str, int]
    kept: int = 0


class Jobs(Message, frozen=True, kw_only=True):
    """Asks for the jobs."""


class JobList(Message, frozen=True, kw_only=True):
    """The jobs."""

    jobs: tuple[JobRow, ...]


class Rise(Message, frozen=True, kw_only=True):
    """Starts the daemon and waits until it answers."""


class Meet(Message, frozen=True, kw_only=True):
    """Introduces the other hosts: how to reach them, their host keys, the keys they log in with."""

    peers: tuple[Peer, ...]
    #: lines of a known_hosts file
    known_hosts: tuple[str, ...]
    #: public keys, without options
    authorized: tuple[str, ...]


class Met(Message, frozen=True, kw_only=True):
    """The other hosts are known now."""


class Halt(Message, frozen=True, kw_only=True):
    """Stops the daemon; with purge, the root goes too."""

    purge: bool = False


class Halted(Message, frozen=True, kw_only=True):
    """The daemon has stopped."""

    #: whether one was running
    was_running: bool
    #: running tasks that went back to the queue
    requeued: int = 0


class Relay(Message, frozen=True, kw_only=True):
    """Asks for fan-out files that wait for a peer, to carry them there."""

    peer: str


class Parcel(Message, frozen=True, kw_only=True):
    """Announces one of them."""

    id: int
    name: str
    receipt: Receipt
    maker: Maker
    replace: bool = False


class Delivered(Message, frozen=True, kw_only=True):
    """Says what became of them."""

    peer: str
    ids: tuple[int, ...]
    refused: dict[int, Problem] = {}


class Has(Message, frozen=True, kw_only=True):
    """Asks whether a key is there."""

    name: str


class Ping(Message, frozen=True, kw_only=True):
    """Asks for a sign of life."""


class Tick(Message, frozen=True, kw_only=True):
    """A sign of life."""


AnyMessage = (
    Problem | Hello | Welcome | Ls | Listing | Listed | Put | Introduce | End | Handed | Stored | Sync | Synced | Get | Item
    | Served | Remove | Removed | Tally | Tallies | Ship | Wanted | Recall | Recalled | Plan | Planned | Start | Progress | Finished
    | Sweep | Eval | Exec | Said | Exited | Look | Condition | Examine | Examined | Jobs | JobList | Rise | Meet | Met | Halt | Halted
    | Has | Relay | Parcel | Delivered | Ping | Tick
)  # fmt: skip
