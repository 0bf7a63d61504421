"""Small servers of the tests: one of files over HTTP that counts who asks, and one that takes mail."""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import threading
from collections.abc import Iterator

import msgspec


class Page(msgspec.Struct, kw_only=True):
    """What an address has."""

    content: bytes = b""
    status: int = 200
    etag: str = ""
    modified: str = ""
    encoding: str = ""
    #: announce this many bytes, whatever comes
    size: int | None = None
    #: answers of an earlier status before this page is shown
    busy: int = 0
    #: send nothing of it before this is set
    after: threading.Event | None = None


class Web(http.server.ThreadingHTTPServer):
    """A web server whose pages tests change."""

    daemon_threads = True

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        #: what was asked for: path and status
        self.asked: list[tuple[str, int]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    def url(self, path: str) -> str:
        """Return the address of a page."""
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0].lstrip("/"), Page(status=404))
        if page.busy:
            page.busy -= 1
            page = Page(status=503)
        known = (page.etag and page.etag == self.headers["If-None-Match"]) or (
            page.modified and page.modified == self.headers["If-Modified-Since"]
        )
        status = 304 if known else page.status
        self.server.asked.append((self.path, status))
        self.send_response(status)
        for name, value in {
            "ETag": page.etag,
            "Last-Modified": page.modified,
            "Content-Encoding": page.encoding,
        }.items():
            if value:
                self.send_header(name, value)
        if status == 302:
            self.send_header("Location", page.content.decode())
        size = page.size if page.size is not None else len(page.content)
        self.send_header("Content-Length", str(size if status == 200 else 0))
        self.end_headers()
        if page.after:
            page.after.wait()
        if status == 200:
            self.wfile.write(page.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Mailbox(socketserver.ThreadingTCPServer):
    """A mail server that keeps what it is sent (RFC 5321, as far as smtplib needs it)."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        self.mails: list[str] = []
        super().__init__(("127.0.0.1", port), _Mail)

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Mail(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 hello\r\n")
        while line := self.rfile.readline():
            match line.split(b" ")[0].strip().upper():
                case b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    self.server.mails.append(b"".join(lines).decode())
                    self.wfile.write(b"250 taken\r\n")
                case b"QUIT":
                    self.wfile.write(b"221 bye\r\n")
                    return
                case _:
                    self.wfile.write(b"250 fine\r\n")


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    """Have a server serve for as long as this lasts."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
