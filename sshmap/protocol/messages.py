"""All messages of the protocol under one name. `sshmap.protocol` says which follows which."""

from __future__ import annotations

from sshmap.protocol.base import (
    LOWEST,
    VERSION,
    Hello,
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
    Failure,
    JobList,
    JobRow,
    Jobs,
    Open,
    Opened,
    OutputCount,
    OutputCounts,
    OutputDirectory,
    Plan,
    Planned,
    Progress,
    Prune,
    Relay,
    RelayItem,
    RunEnded,
    Said,
    Ship,
    StaleOutputs,
    Start,
    Sweep,
    Wanted,
)
from sshmap.protocol.keys import (
    Buckets,
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
    PutResult,
    Remove,
    Removed,
    Stored,
    Sync,
    Synced,
    Unsent,
    refused,
)

__all__ = [
    "LOWEST",
    "VERSION",
    "AnyMessage",
    "Buckets",
    "CountLineage",
    "CountOutputs",
    "Counted",
    "DaemonStopped",
    "Delivered",
    "Diagnose",
    "Diagnosis",
    "End",
    "Eval",
    "Exec",
    "Exited",
    "Failure",
    "Get",
    "GetStatus",
    "Handed",
    "Has",
    "Hello",
    "Item",
    "JobList",
    "JobRow",
    "Jobs",
    "LineageCounts",
    "ListBuckets",
    "Listed",
    "Listing",
    "Ls",
    "Message",
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
    "PutResult",
    "Relay",
    "RelayItem",
    "Remove",
    "Removed",
    "RunEnded",
    "Said",
    "Served",
    "SetPeers",
    "Ship",
    "StaleOutputs",
    "Start",
    "StartDaemon",
    "Status",
    "StopDaemon",
    "Stored",
    "Sweep",
    "Sync",
    "Synced",
    "Tick",
    "Unsent",
    "Wanted",
    "Welcome",
    "refused",
    "settle_version",
    "welcome",
]

AnyMessage = (
    Problem
    | Hello
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
    | CountOutputs
    | OutputCounts
    | Ship
    | Wanted
    | Open
    | Opened
    | Plan
    | Counted
    | Planned
    | Start
    | Progress
    | StaleOutputs
    | RunEnded
    | Sweep
    | Prune
    | Eval
    | Exec
    | Said
    | Exited
    | Jobs
    | JobList
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
