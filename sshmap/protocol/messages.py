"""All messages of the protocol under one name. `sshmap.protocol` says which follows which."""

from __future__ import annotations

from sshmap.protocol.base import (
    LOWEST,
    VERSION,
    Hello,
    Hold,
    Message,
    Ping,
    Problem,
    Served,
    Tick,
    Welcome,
    settle_version,
    welcome,
)
from sshmap.protocol.hosts import (
    CountLineage,
    DaemonStopped,
    Diagnose,
    Diagnosis,
    GetStatus,
    LineageCounts,
    PeersSet,
    SetPeers,
    StartDaemon,
    Status,
    StopDaemon,
)
from sshmap.protocol.jobs import (
    Counted,
    CountOutputs,
    Delivered,
    Eval,
    Exec,
    Exited,
    Explain,
    Explained,
    NeedPackages,
    Open,
    Opened,
    OutputCount,
    OutputCounts,
    OutputDirectory,
    Plan,
    Planned,
    Prune,
    Reason,
    Reasons,
    Relay,
    RelayItem,
    Resize,
    Said,
    Shell,
    Ship,
    StaleOutputs,
    Start,
    Sweep,
    Wanted,
)
from sshmap.protocol.keys import (
    Aside,
    Buckets,
    Damages,
    End,
    Get,
    Handed,
    Has,
    Item,
    ListBuckets,
    Listed,
    Listing,
    Ls,
    Passed,
    Put,
    PutAside,
    PutResult,
    Remove,
    Removed,
    Stored,
    Sync,
    Synced,
    Unsent,
    Verified,
    Verify,
    refused,
)
from sshmap.protocol.runs import (
    AttemptList,
    AttemptRow,
    CancelNoted,
    CancelRun,
    Failure,
    Follow,
    Forget,
    Forgotten,
    GetJob,
    JobIs,
    JobList,
    JobRow,
    Jobs,
    ListAttempts,
    Look,
    Progress,
    RunEnded,
    RunOver,
    Seen,
    Slow,
    TaskNow,
)

__all__ = [
    "LOWEST",
    "VERSION",
    "AnyMessage",
    "Aside",
    "AttemptList",
    "AttemptRow",
    "Buckets",
    "CancelNoted",
    "CancelRun",
    "CountLineage",
    "CountOutputs",
    "Counted",
    "DaemonStopped",
    "Damages",
    "Delivered",
    "Diagnose",
    "Diagnosis",
    "End",
    "Eval",
    "Exec",
    "Exited",
    "Explain",
    "Explained",
    "Failure",
    "Follow",
    "Forget",
    "Forgotten",
    "Get",
    "GetJob",
    "GetStatus",
    "Handed",
    "Has",
    "Hello",
    "Hold",
    "Item",
    "JobIs",
    "JobList",
    "JobRow",
    "Jobs",
    "LineageCounts",
    "ListAttempts",
    "ListBuckets",
    "Listed",
    "Listing",
    "Look",
    "Ls",
    "Message",
    "NeedPackages",
    "Open",
    "Opened",
    "OutputCount",
    "OutputCounts",
    "OutputDirectory",
    "Passed",
    "PeersSet",
    "Ping",
    "Plan",
    "Planned",
    "Problem",
    "Progress",
    "Prune",
    "Put",
    "PutAside",
    "PutResult",
    "Reason",
    "Reasons",
    "Relay",
    "RelayItem",
    "Remove",
    "Removed",
    "Resize",
    "RunEnded",
    "RunOver",
    "Said",
    "Seen",
    "Served",
    "SetPeers",
    "Shell",
    "Ship",
    "Slow",
    "StaleOutputs",
    "Start",
    "StartDaemon",
    "Status",
    "StopDaemon",
    "Stored",
    "Sweep",
    "Sync",
    "Synced",
    "TaskNow",
    "Tick",
    "Unsent",
    "Verified",
    "Verify",
    "Wanted",
    "Welcome",
    "refused",
    "settle_version",
    "welcome",
]

AnyMessage = (
    Problem
    | Hello
    | Hold
    | Welcome
    | Ping
    | Tick
    | Served
    | Ls
    | Listing
    | Listed
    | ListBuckets
    | Buckets
    | Put
    | End
    | Handed
    | Stored
    | Sync
    | Synced
    | Get
    | Item
    | Passed
    | Unsent
    | Remove
    | Removed
    | Has
    | Verify
    | Damages
    | PutAside
    | Verified
    | CountOutputs
    | OutputCounts
    | Ship
    | NeedPackages
    | Wanted
    | Open
    | Opened
    | Plan
    | Counted
    | Planned
    | Explain
    | Reasons
    | Explained
    | Start
    | Progress
    | StaleOutputs
    | RunEnded
    | Sweep
    | Prune
    | Eval
    | Exec
    | Shell
    | Resize
    | Said
    | Exited
    | Jobs
    | JobList
    | Follow
    | CancelRun
    | CancelNoted
    | GetJob
    | JobIs
    | ListAttempts
    | RunOver
    | Look
    | Seen
    | Forget
    | Forgotten
    | AttemptList
    | Relay
    | RelayItem
    | Delivered
    | GetStatus
    | Status
    | Diagnose
    | Diagnosis
    | CountLineage
    | LineageCounts
    | StartDaemon
    | SetPeers
    | PeersSet
    | StopDaemon
    | DaemonStopped
)
