"""What a Python function gets that is a step: its inputs, and where its outputs go. Standard library only, as it runs on hosts.

A map takes ``(Input, Output)``, a fan-out ``(Input, Outputs)``, a merge ``(Inputs, Output)``; what they print goes to the
output as well, but of a fan-out to the names of its files, which `Outputs` prints by itself.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, Any, BinaryIO, TypeAlias

_GZIP = b"\x1f\x8b"
#: files of a fan-out that are open at the same time
_MOST_OPEN = 64


class Input:
    """The content of one key.

    Args:
        path: its file, which is read-only.
        key: its name; that of the group in a merge.
    """

    def __init__(self, path: str, key: str = "") -> None:
        self.path, self.key = path, key

    def __repr__(self) -> str:
        return f"Input({self.path!r}, {self.key!r})"

    @property
    def name(self) -> str:
        """The last part of its name."""
        return os.path.basename(self.path)

    def open(self) -> BinaryIO:
        """Open the content; if it is gzip, what is in it."""
        file = open(self.path, "rb")  # noqa: SIM115  # who called closes it
        if file.peek(2)[:2] != _GZIP:
            return file
        file.close()
        return gzip.open(self.path)  # type: ignore[return-value]  # as good as one

    def bytes(self) -> bytes:
        """Read all of it."""
        with self.open() as file:
            return file.read()

    def text(self, encoding: str = "utf-8") -> str:
        """Read all of it as text."""
        return self.bytes().decode(encoding, "replace")

    def lines(self, encoding: str = "utf-8") -> Iterator[str]:
        """Go through its lines, without their ends."""
        with self.open() as file, io.TextIOWrapper(file, encoding, "replace") as text:
            for line in text:
                yield line.rstrip("\r\n")

    def csv(self, **how: Any) -> Iterator[list[str]]:  # noqa: ANN401  # as csv.reader takes them
        """Go through its rows, as `csv.reader` reads them."""
        with self.open() as file, io.TextIOWrapper(file, "utf-8", "replace", newline="") as text:
            yield from csv.reader(text, **how)

    def json(self) -> Any:  # noqa: ANN401  # whatever it is
        """Read it as JSON."""
        return json.loads(self.bytes())


class Inputs(Sequence[Input]):
    """The contents of a group, ordered by name.

    Args:
        inputs: the contents.
        key: name of the group.
    """

    def __init__(self, inputs: Sequence[Input], key: str = "") -> None:
        self._inputs, self.key = inputs, key

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401  # an Input, or some
        return self._inputs[index]

    @property
    def name(self) -> str:
        """The last part of the group's name."""
        return self.key.rsplit("/", 1)[-1]


class Output:
    """Where what a function makes goes.

    Args:
        file: opened for writing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, content: str | bytes) -> None:
        """Write some text or bytes."""
        self._file.write(content.encode() if isinstance(content, str) else content)

    def lines(self, lines: Iterable[object]) -> None:
        """Write lines, each with its end."""
        for line in lines:
            self.write(f"{line}\n")

    def csv(self, rows: Iterable[Sequence[object]], **how: Any) -> None:  # noqa: ANN401  # as csv.writer takes them
        """Write rows, as `csv.writer` writes them, with plain ends of lines."""
        text = io.StringIO()
        writer = csv.writer(text, **{"lineterminator": "\n", **how})
        for row in rows:
            writer.writerow(row)
            if text.tell() > 1 << 16:
                self.write(text.getvalue())
                text.seek(0)
                text.truncate()
        self.write(text.getvalue())

    def json(self, value: object) -> None:
        """Write a value as one line of JSON, its keys sorted, so that equal values are equal content."""
        self.write(json.dumps(value, sort_keys=True) + "\n")


class _Named(Output):
    """One file of a fan-out, which may be closed meanwhile, as only some are open at the same time."""

    def __init__(self, outputs: Outputs, name: str) -> None:
        self._outputs, self._name = outputs, name

    def write(self, content: str | bytes) -> None:
        """Write some text or bytes."""
        self._outputs.file(self._name).write(content.encode() if isinstance(content, str) else content)


class Outputs:
    """The files that a fan-out makes, by their names; each is placed on the cluster by its name.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._open: dict[str, IO[bytes]] = {}
        #: names in the order in which they came
        self.names: dict[str, None] = {}

    def __getitem__(self, name: str) -> Output:
        """Return the file of a name, which is made when it is first asked for.

        Raises:
            ValueError: it is no name for a file.
        """
        self.file(name)
        return _Named(self, name)

    def file(self, name: str) -> IO[bytes]:
        """Open the file of a name, to go on at its end."""
        if name not in self._open:
            if not name or name in {".", ".."} or "/" in name or "\n" in name or "\0" in name:
                raise ValueError(f"{name!r} is no name for a file of a fan-out")
            if len(self._open) >= _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            mode = "ab" if name in self.names else "xb"
            self._open[name] = open(os.path.join(self._folder, name), mode)  # noqa: SIM115  # closed by `close`
            self.names[name] = None
        return self._open[name]

    def close(self) -> None:
        """Close all files."""
        with contextlib.ExitStack() as stack:
            for file in self._open.values():
                stack.callback(file.close)
            self._open.clear()


MapFunction: TypeAlias = Callable[[Input, Output], object]
FanoutFunction: TypeAlias = Callable[[Input, Outputs], object]
MergeFunction: TypeAlias = Callable[[Inputs, Output], object]
