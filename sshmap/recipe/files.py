"""The files that a recipe starts from: which they are, here or at addresses, and what their directory is called on the cluster."""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
import xxhash

from sshmap.errors import UsageError
from sshmap.model import Digest
from sshmap.recipe.flow import NAME, Data, Flow

_NAME_THEM = "give addresses by names: {'2018-01.json': 'https://…'}; names have letters, digits and _ . - in them"
#: characters of a name
_LONGEST = 255


class Pattern(msgspec.Struct, frozen=True):
    """Which files a recipe takes; stands in the annotation of a parameter, as in ``Annotated[Files, Pattern("*.csv")]``."""

    #: the files of a directory that count, as `fnmatch` has it; several patterns are separated by blanks
    pattern: str = "*"
    #: what they are, for ``--help``
    text: str = "files"


class Files(Data):
    """Files that a recipe starts from.

    Args:
        name: the parameter's name.
        flow: what they are part of.
        pattern: which files of a directory count.
        origin: what the user has named: a directory, a glob, or addresses separated by blanks; None if nothing.
        dataset: name of that.
    """

    def __init__(self, name: str, flow: Flow, pattern: str = "*", origin: str | None = None, dataset: str = "") -> None:
        super().__init__(name, flow)
        self.pattern, self.origin, self.dataset = pattern, origin, dataset
        #: writes files into an empty directory, where the user has named none
        self.make: Callable[[Path], object] | None = None
        #: by the names of the keys that they become, addresses that they are fetched from
        self.urls: dict[str, str] = _by_name(origin.split()) if origin and is_address(origin) else {}
        flow.add(name, "files")
        flow.files.append(self)

    @property
    def is_there(self) -> bool:
        """Whether it is known what they are."""
        return bool(self.origin or self.make or self.urls)

    @property
    def called(self) -> str:
        """The pattern in words."""
        return " or ".join(self.pattern.split())

    def has(self, pattern: str) -> bool:
        """Say whether a name among them is matched by a pattern, as `fnmatch` has it; not of files that are still to be made."""
        names = self.urls or (_matched(self.origin, self.pattern) if self.origin else ())
        return any(fnmatch.fnmatchcase(name, pattern) for name in names)

    def or_made(self, dataset: str, make: Callable[[Path], object]) -> Files:
        """Return these files; if the user has named none, those that a function writes into an empty directory.

        Args:
            dataset: what the made files are called.
            make: the function.
        """
        if self.origin is None:
            self.make, self.dataset = make, dataset
        return self

    def or_fetched(self, urls: Iterable[str] | Mapping[str, str], dataset: str = "") -> Files:
        """Return these files; if the user has named none, raw inputs that are fetched from addresses, once.

        Args:
            urls: addresses, each called by the last part of its path; or addresses by the names that they get.
            dataset: what keeps them apart from those of other addresses.

        Raises:
            UsageError: an address is none, or has no name of its own.
        """
        if self.origin is None:
            self.urls = _named(urls) if isinstance(urls, Mapping) else _by_name(urls)
            self.dataset = dataset
        return self


def is_address(text: str) -> bool:
    """Say whether a text begins with an address."""
    return text[:8].lower().startswith(("http://", "https://"))


def without_user(url: str) -> str:
    """Return an address without name and password, which are nobody else's business."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _by_name(urls: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for url in urls:
        try:
            name = unquote(urlsplit(url).path.rsplit("/", 1)[-1])
        except ValueError as exc:
            raise UsageError(f"{url!r} is no address: {exc}") from exc
        if name in found:
            raise UsageError(
                f"two addresses are called {name!r}: {without_user(found[name])} and {without_user(url)}",
                hint=_NAME_THEM,
            )
        found[name] = url
    return _named(found)


def _named(urls: Mapping[str, str]) -> dict[str, str]:
    for name, url in urls.items():
        if not is_address(url):
            raise UsageError(f"{url!r} is no address", hint="it begins with http:// or https://")
        if not NAME.fullmatch(name) or len(name) > _LONGEST:
            raise UsageError(f"{name!r} is no name for what {without_user(url)} has", hint=_NAME_THEM)
    return dict(urls)


class NoFiles(UsageError):
    """There are no files where the user said that they are."""


def dataset_of(origin: str) -> str:
    """Name what a user has named: for people by its own last part, for certain by a digest of its whole path."""
    if is_address(origin):
        return f"addresses-{xxhash.xxh3_64_hexdigest(origin.encode())}"
    path = Path(origin).resolve()
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', path.name)[:100]}-{xxhash.xxh3_64_hexdigest(bytes(path))}"


@contextlib.contextmanager
def found(files: Files) -> Iterator[dict[str, Path]]:
    """Find the files by their names, or have them made for as long as this lasts.

    Raises:
        UsageError: there are none, or two have the same name.
    """
    with contextlib.ExitStack() as stack:
        origin = files.origin
        if origin is None:
            if files.make is None:
                raise UsageError(
                    f"--{files.name} is missing",
                    hint=f"give it a directory with files named {files.called}, a quoted glob, or addresses",
                )
            origin = stack.enter_context(tempfile.TemporaryDirectory(prefix="sshmap-recipe-"))
            files.make(Path(origin))
        yield _listed(files, origin)


def _listed(files: Files, origin: str) -> dict[str, Path]:
    hint = f"--{files.name} takes a directory with files named {files.called}, a quoted glob, or addresses"
    found = _matched(origin, files.pattern)
    if not found:
        raise NoFiles(f"no files {files.called} in {origin}", hint=hint)
    for name, paths in found.items():
        if len(paths) > 1:
            raise UsageError(f"two files are called {name}: {paths[0]} and {paths[1]}", hint=hint)
    return {name: paths[0] for name, paths in found.items()}


def _matched(origin: str, pattern: str) -> dict[str, list[Path]]:
    """Return the files of a directory that a pattern matches, or those of a glob, in order, by their names."""
    if Path(origin).is_dir():
        paths = [
            path
            for path in Path(origin).iterdir()
            if any(fnmatch.fnmatchcase(path.name, one) for one in pattern.split())
        ]
    else:
        paths = [Path(path) for path in glob.glob(origin)]  # Path.glob takes no absolute pattern
    found: dict[str, list[Path]] = {}
    for path in sorted(filter(Path.is_file, paths)):
        found.setdefault(path.name, []).append(path)
    return found


def digest(path: Path) -> Digest:
    """Return the digest under which the cluster knows a file's content.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return Digest(hashlib.file_digest(file, xxhash.xxh3_128).digest())
    except OSError as exc:
        raise UsageError(f"cannot read {path}: {exc.strerror}") from exc
