"""Raw inputs: fetched from addresses once, and kept as they came, with what is known of where they come from.

They are not fetched again unless that is asked for, and then only what the server says has changed.
"""

from __future__ import annotations

import datetime as dt
import functools
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import tenacity

from sshmap.client.cluster import Cluster
from sshmap.client.listing import Placed
from sshmap.client.results import Counted
from sshmap.errors import NotCopied, UsageError
from sshmap.recipe.files import without_user
from sshmap.recipe.flow import Place
from sshmap.recipe.inputs import Difference
from sshmap.recipe.notes import Notes
from sshmap.store.digest import Hasher

if TYPE_CHECKING:
    import httpx

#: what is fetched at the same time
_AT_ONCE = 4
#: seconds without a byte after which a server counts as gone; tries in all, and seconds before the second one, then twice as many
_SILENCE, _TRIES, _PAUSE = 30.0, 4, 0.5
#: answers after which the same request may succeed a little later (RFC 9110, RFC 6585)
_BUSY = {408, 425, 429, 500, 502, 503, 504}
#: answers without an error, and without the whole content
_PARTS = {204, 205, 206}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a raw input comes from."""

    #: its address, without name and password
    url: str
    #: when it was fetched, in UTC
    fetched: str
    #: what the server called this version of it, and when it was changed last, if it said so
    etag: str = ""
    modified: str = ""
    size: int
    #: as ls shows it
    digest: str


class RawInputs:
    """The raw inputs of one recipe that come from addresses.

    Args:
        cluster: the cluster.
        place: where the recipe's keys lie.
        name: name of these inputs.
        urls: addresses by the names of the keys that they become.
        again: ask the servers also for what is here, whether it has changed.
    """

    def __init__(self, cluster: Cluster, place: Place, name: str, urls: Mapping[str, str], *, again: bool) -> None:
        self._cluster, self._prefix, self._urls, self._again = cluster, place.prefix(name), urls, again
        self._stopped = threading.Event()
        self._origins = Notes(cluster, place, f"origins/{name}", Origin)

    def compare(self) -> Difference:
        """Hold addresses against what was fetched; what is to be asked for again counts as changed."""
        there = self._there()
        both = sorted(self._urls.keys() & there.keys())
        kept = set[str]() if self._again else self._kept(there).keys()
        same = [name for name in both if name in kept]
        return Difference(
            new=tuple(sorted(self._urls.keys() - there.keys())),
            changed=tuple(name for name in both if name not in same),
            gone=tuple(sorted(there.keys() - self._urls.keys())),
            same=tuple(same),
        )

    def _there(self) -> dict[str, Placed]:
        rows = self._cluster.ls(self._prefix, recursive=True)
        return {row.path.rsplit("/", 1)[1]: row for row in rows if isinstance(row, Placed)}

    def _kept(self, there: Mapping[str, Placed]) -> dict[str, Origin]:
        """Return what is known of those that lie there as they were fetched from the address that they have now, by name."""
        return {
            name: origin
            for name, origin in self._origins.all().items()
            if name in there and name in self._urls
            if (origin.url, origin.digest) == (without_user(self._urls[name]), there[name].digest.hex())
        }

    def send(self, difference: Difference, report: Counted, note: Callable[[str], None]) -> None:
        """Fetch what is new or has changed, and delete what is gone.

        Raises:
            NotCopied: something could not be fetched; the rest was.
            UsageError: the environment names a proxy that is none.
        """
        for name in difference.gone:
            note(f"{name} is gone")
            self._cluster.rm(f"{self._prefix}{name}")
            self._origins.drop(name)
        if difference.pending and (failures := self._fetch_all(sorted(difference.pending), report, note)):
            more = f", and {len(failures) - 1} more" if failures[1:] else ""
            raise NotCopied(f"{failures[0].message}{more}", hint="the same command fetches what is missing")

    def _fetch_all(self, names: list[str], report: Counted, note: Callable[[str], None]) -> list[NotCopied]:
        """Fetch some, several at the same time; return why those could not be fetched that could not."""
        failures: list[NotCopied] = []
        known = self._kept(self._there()) if self._again else {}
        with tempfile.TemporaryDirectory(prefix="sshmap-recipe-", ignore_cleanup_errors=True) as folder, _web() as web:
            pool = ThreadPoolExecutor(_AT_ONCE)
            fetch = functools.partial(self._fetched, web, Path(folder), known)
            try:
                for name, outcome in zip(names, pool.map(fetch, names), strict=True):
                    if isinstance(outcome, NotCopied):
                        failures.append(outcome)
                        continue
                    report(1, outcome.size if outcome else 0)
                    note(f"{name}: {'fetched' if outcome else 'has not changed'}")
            except BaseException:
                # a server that does not answer is not waited for
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            pool.shutdown()
        return failures

    def _fetched(
        self, web: httpx.Client, folder: Path, known: Mapping[str, Origin], name: str
    ) -> Origin | NotCopied | None:
        """Fetch one; return where it comes from, None if it has not changed, or why it could not be fetched."""
        path = folder / name
        try:
            fresh = self._get(web, self._urls[name], path, known.get(name))
        except NotCopied as exc:
            return exc
        if fresh:
            # the key first: one without a note is fetched again
            self._cluster.put(path, f"{self._prefix}{name}", replace=True)
            self._origins.write(name, fresh)
        path.unlink()
        return fresh

    def _get(self, web: httpx.Client, url: str, path: Path, origin: Origin | None) -> Origin | None:
        """Write what an address has into a file; None if it has not changed.

        Raises:
            NotCopied: the server does not answer, or refuses.
        """
        import httpx  # loaded already

        tries = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(_TRIES) | tenacity.stop_when_event_set(self._stopped),
            wait=tenacity.wait_exponential(multiplier=_PAUSE),
            retry=tenacity.retry_if_exception(_may_pass),
            reraise=True,
        )
        try:
            return tries(_ask, web, url, path, origin, self._stopped)
        except httpx.HTTPStatusError as exc:
            reason = f"{exc.response.status_code} {exc.response.reason_phrase}"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:  # ValueError: a host's name that cannot be one
            reason = str(exc) or type(exc).__name__
        raise NotCopied(f"cannot fetch {without_user(url)}: {reason}")


def _web() -> httpx.Client:
    """Return what asks servers, by way of the proxies that the environment names.

    Raises:
        UsageError: what the environment names is of no use.
    """
    import httpx  # takes 0.1 s, and is needed only now

    try:
        return httpx.Client(timeout=_SILENCE, follow_redirects=True)
    except (ImportError, OSError, ValueError) as exc:
        raise UsageError(
            f"cannot fetch anything: {exc}",
            hint="see the variables HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE",
        ) from exc


def _ask(web: httpx.Client, url: str, path: Path, origin: Origin | None, stopped: threading.Event) -> Origin | None:
    hasher = Hasher()
    with web.stream("GET", url, headers=_headers(origin)) as answer, path.open("wb") as file:
        if origin and answer.status_code == 304:
            return None
        answer.raise_for_status()
        if answer.status_code in _PARTS:
            raise NotCopied(f"cannot fetch {without_user(url)}: {answer.status_code} {answer.reason_phrase}")
        for piece in answer.iter_raw():
            if stopped.is_set():
                raise NotCopied("stopped")
            hasher.update(piece)
            file.write(piece)
    return Origin(
        url=without_user(url), fetched=f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}", size=hasher.size,
        digest=hasher.digest.hex(), etag=answer.headers.get("ETag", ""), modified=answer.headers.get("Last-Modified", ""),
    )  # fmt: skip


def _headers(origin: Origin | None) -> dict[str, str]:
    """Return the headers of a request for a version that is not the one that is here."""
    headers = {"Accept-Encoding": "identity"}
    if origin and origin.etag and origin.etag.isascii():
        headers["If-None-Match"] = origin.etag
    elif origin and origin.modified and origin.modified.isascii():
        headers["If-Modified-Since"] = origin.modified
    return headers


def _may_pass(error: BaseException) -> bool:
    """Say whether the same request may succeed a little later."""
    import httpx  # loaded already

    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in _BUSY
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.UnsupportedProtocol)
