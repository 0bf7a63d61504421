"""Every error a user can meet, with its exit code and its hint; imports nothing.

SshmapError                      70  a bug in sshmap, unless a subclass says otherwise
├── CommandsFailed                1  commands of a job exited with an error
├── NothingMatched                1  no key matched what was asked for
├── UsageError                    2  the command line is wrong
│   ├── InvalidKey                2  a key name breaks the naming rule
│   └── InvalidInventory          2  the inventory is wrong
├── NotCopied                     1  something in a tree cannot be copied; the rest was
├── HostLost                      3  a host cannot be reached or stopped answering
│   ├── ConversationBroken        3  a connection that had been made broke off
│   ├── HostNotReady              3  the host answers, but `up` has not been run or has to be run again
│   ├── ConnectionDropped         3  the server closes connections before login, as MaxStartups makes it do
│   ├── HostKeyRefused            3  a host key is unknown or has changed
│   └── ProtocolError             3  what the host says is not sshmap's protocol
├── Refused                       4  doing what was asked would lose or mix data
│   ├── KeyExists                 4  the key holds other content
│   ├── OtherReceipt              4  the output was made by other work
│   ├── RingChanged               4  the inventory places keys on other hosts than they lie on
│   └── LockHeld                  4  another process holds a lock that is needed
├── DigestMismatch                5  content is not what was written
├── NoSpace                       6  the disk is full
├── TimeLimit                     7  a limit set by the user has passed
├── Cancelled                   130  the run was cancelled
└── HostsFailed                   …  several hosts failed; takes the gravest code
"""

from __future__ import annotations


class SshmapError(Exception):
    """Root of all errors: a message, an optional hint, an exit code.

    Args:
        message: one line naming the thing and the place.
        hint: what to type or change next; empty if there is nothing to say.
        host: name of the host it happened on, if it is about one.
    """

    exit_code = 70

    def __init__(self, message: str, *, hint: str = "", host: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.host = host

    def __str__(self) -> str:
        return f"{self.host}: {self.message}" if self.host else self.message


class CommandsFailed(SshmapError):
    """Commands of a job failed; the others were finished.

    Args:
        message: one line naming the thing and the place.
        hint: what to type or change next; empty if there is nothing to say.
        host: name of the host it happened on, if it is about one.
        code: exit code of the command, 0 if it is about several or none has ended.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", host: str = "", code: int = 0) -> None:
        super().__init__(message, hint=hint, host=host)
        self.code = code


class NothingMatched(SshmapError):
    """No key matched."""

    exit_code = 1


class NotCopied(SshmapError):
    """Something in a tree cannot be copied: not a plain file, not readable, not a possible name."""

    exit_code = 1


class UsageError(SshmapError):
    """The request itself is wrong."""

    exit_code = 2


class InvalidKey(UsageError):
    """A key name breaks the naming rule."""


class InvalidInventory(UsageError):
    """The inventory is missing, unreadable or wrong."""


class HostLost(SshmapError):
    """A host cannot be reached, or stopped answering."""

    exit_code = 3


class HostNotReady(HostLost):
    """The host answers, but sshmap is not set up there as needed."""


class ConversationBroken(HostLost):
    """A connection that had been made broke off; whether the request under way was carried out is not known."""


class ConnectionDropped(HostLost):
    """The server closed the connection before login; trying again may help."""


class HostKeyRefused(HostLost):
    """The host's key is unknown or has changed."""


class ProtocolError(HostLost):
    """The other side does not speak the protocol."""


class Refused(SshmapError):
    """Not done, because something would be lost or mixed."""

    exit_code = 4


class KeyExists(Refused):
    """The key exists with other content."""


class OtherReceipt(Refused):
    """The output exists and was made by other work."""


class RingChanged(Refused):
    """The ring of the inventory is not the one the data was placed by."""


class LockHeld(Refused):
    """A lock is held by another process."""


class DigestMismatch(SshmapError):
    """Content differs from the digest taken when it was written."""

    exit_code = 5


class NoSpace(SshmapError):
    """The disk is full."""

    exit_code = 6


class TimeLimit(SshmapError):
    """A time limit has passed."""

    exit_code = 7


class Cancelled(SshmapError):
    """The run was ended before it was done, by somebody who wanted that."""

    exit_code = 130


class HostsFailed(SshmapError):
    """Several hosts failed; successes are kept beside the failures.

    Args:
        failures: the error of each failed host.
        results: what the other hosts answered.
    """

    def __init__(self, failures: dict[str, SshmapError], results: dict[str, object]) -> None:
        first = next(iter(failures.values()))
        others = f" (and {len(failures) - 1} more hosts)" if len(failures) > 1 else ""
        super().__init__(f"{first.message}{others}", hint=first.hint, host=first.host)
        self.failures = failures
        self.results = results
        self.exit_code = max(error.exit_code for error in failures.values())


#: Errors that travel over the wire, by the name they travel under.
BY_NAME: dict[str, type[SshmapError]] = {
    kind.__name__: kind
    for kind in (
        SshmapError,
        CommandsFailed,
        NothingMatched,
        UsageError,
        InvalidKey,
        NotCopied,
        HostLost,
        ConversationBroken,
        HostNotReady,
        ConnectionDropped,
        HostKeyRefused,
        ProtocolError,
        Refused,
        KeyExists,
        OtherReceipt,
        RingChanged,
        LockHeld,
        DigestMismatch,
        NoSpace,
        TimeLimit,
        Cancelled,
    )
}


def is_silent(error: SshmapError) -> bool:
    """Say whether a host does not answer at all; not whether it answers something wrong, or is not set up."""
    return isinstance(error, HostLost) and not isinstance(error, ProtocolError | HostNotReady | HostKeyRefused)


class Interrupted(BaseException):
    """The user has pressed Ctrl-C (SIGINT); a class of our own, as some libraries catch KeyboardInterrupt."""
