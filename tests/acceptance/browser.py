"""Pages in a headless Chromium: the document that their scripts have made, and what was said on the console."""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import PLAIN

#: seconds that a browser may take for a page
LIMIT = 90
#: milliseconds that pass for a page before it is looked at; they are skipped, not waited for
_BUDGET = 5000
_QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--enable-logging=stderr",
)  # fmt: skip


class Element(NamedTuple):
    """An element of a document."""

    tag: str
    attributes: dict[str, str | None]


class Seen(html.parser.HTMLParser):
    """A document as it is after its scripts have run.

    Args:
        document: as HTML.
        console: lines that were said on the console.
    """

    def __init__(self, document: str, console: list[str]) -> None:
        super().__init__()
        self.console = console
        self.elements: list[Element] = []
        self._texts: list[str] = []
        self._within_script = False
        self.feed(document)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append(Element(tag, dict(attrs)))
        self._within_script = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        """Note that a script is over."""
        self._within_script = False

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if not self._within_script:
            self._texts.append(data)

    @property
    def text(self) -> str:
        """All that a reader can see."""
        return "".join(self._texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Return the attributes of all elements of a kind."""
        return [element.attributes for element in self.elements if element.tag == tag]

    @property
    def body(self) -> dict[str, str | None]:
        """The attributes of the body."""
        return self.all("body")[0]

    def numbers(self, name: str) -> list[int]:
        """Return the numbers that all elements have which have such an attribute."""
        return [int(element.attributes[name] or 0) for element in self.elements if name in element.attributes]


class Browser:
    """Looks at pages.

    Args:
        program: Chromium.
        folder: where it keeps what it needs.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._program, self._folder = program, folder

    def look(self, page: Path, *options: str) -> Seen:
        """Open a page and return what its scripts have made of it, as it is when all is quiet."""
        profile = self._folder / "profile"
        done = subprocess.run(
            [self._program, *_QUIET, *options, f"--user-data-dir={profile}", f"--virtual-time-budget={_BUDGET}",
             "--window-size=1200,1600", "--dump-dom", page.as_uri()],
            capture_output=True, timeout=LIMIT, check=True, env={**PLAIN, "HOME": str(self._folder)},
        )  # fmt: skip
        shutil.rmtree(profile, ignore_errors=True)
        said = re.findall(r"CONSOLE.*", done.stderr.decode("utf-8", "replace"))
        return Seen(done.stdout.decode(), said)

    def look_at(self, text: str, script: str = "") -> Seen:
        """Look at a page that is given as text; a script may be added, which its policy is changed to allow."""
        if script:
            text = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", text, count=1)
            text = text.replace("</body>", f"<script>{script}</script></body>")
        page = self._folder / "page.html"
        page.write_text(text)
        return self.look(page)


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """A headless Chromium."""
    program = shutil.which("chromium")
    if not program:
        pytest.skip("chromium is missing; .ci/components installs it")
    folder = tmp_path / "browser"
    folder.mkdir()
    return Browser(program, folder)
