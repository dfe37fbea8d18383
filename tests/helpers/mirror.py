"""A mirror on this machine for tests: a few files by HTTP, with the faults of real mirrors."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SCHEME = "http://127.0.0.1"  # patch `download.SCHEME` with it


class Mirror:
    """The files and the faults of a mirror.

    Attributes:
        files: path → content.
        asked: (path, first byte) of each request.
        breaks: number of bytes after which a connection breaks; None: never.
        ranges: whether it supports requests of a range.
        redirects: path → address of a redirection.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, int]] = []
        self.breaks: int | None = None
        self.ranges = True
        self.redirects: dict[str, str] = {}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        mirror: Mirror = self.server.mirror
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        mirror.asked.append((self.path, start))
        if self.path in mirror.redirects:
            self.send_response(302)
            self.send_header("Location", mirror.redirects[self.path])
            self.end_headers()
            return
        content = mirror.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        total = len(content)
        start = start if mirror.ranges else 0
        if start and start >= total:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{total}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        end = total if mirror.breaks is None else start + mirror.breaks
        self.wfile.write(content[start:end])

    def log_message(self, *args: object) -> None:
        """Log nothing: tests read the output."""


@contextmanager
def serve() -> Iterator[Mirror]:
    """Run a mirror until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.mirror = Mirror(f"{SCHEME}:{server.server_port}/")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.mirror
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
