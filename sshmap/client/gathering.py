"""Doing something for many hosts at once; returns results and failures apart, so that none hides the other."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from sshmap.errors import HostLost, SshmapError

Value = TypeVar("Value")


def gather(
    call: Callable[[str], Value], names: Iterable[str], limit: float | None = None
) -> tuple[dict[str, Value], dict[str, SshmapError]]:
    """Do something for every host at once, with a thread for each, so that no host waits for another.

    Args:
        call: what to do, given a host's name.
        names: the hosts.
        limit: seconds after which hosts that have not answered count as lost.

    Returns:
        What came back, and what failed, by host, in the order of the names.
    """
    chosen = list(names)
    answers: queue.SimpleQueue[tuple[str, Value | BaseException]] = queue.SimpleQueue()

    def work(name: str) -> None:
        answers.put((name, _outcome(call, name)))

    for name in chosen:
        threading.Thread(target=work, args=(name,), name=f"host-{name}", daemon=True).start()
    results: dict[str, Value] = {}
    failures: dict[str, SshmapError] = {}
    for name, answer in _answered(answers, len(chosen), limit):
        if isinstance(answer, SshmapError):
            failures[name] = answer
        elif isinstance(answer, BaseException):
            raise answer
        else:
            results[name] = answer
    silent = [name for name in chosen if name not in results and name not in failures]
    failures |= {name: HostLost(f"no answer within {limit:g} s", host=name) for name in silent}
    return _ordered(results, chosen), _ordered(failures, chosen)


def _answered(answers: queue.SimpleQueue[Value], count: int, limit: float | None) -> Iterator[Value]:
    """Go through so many answers as they come, or those that come within some seconds."""
    deadline = None if limit is None else time.monotonic() + limit
    with contextlib.suppress(queue.Empty):
        for _ in range(count):
            yield answers.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))


def _outcome(call: Callable[[str], Value], name: str) -> Value | BaseException:
    try:
        return call(name)
    except SshmapError as exc:
        exc.host = exc.host or name
        return exc
    except BaseException as exc:  # noqa: BLE001  # handed to the thread that waits
        return exc


def _ordered(answers: dict[str, Value], names: list[str]) -> dict[str, Value]:
    return {name: answers[name] for name in names if name in answers}
