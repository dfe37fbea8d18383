"""A stand-in for the Hugging Face hub: it keeps what is uploaded, and gives it back."""

import base64
import hashlib
import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """The requests of `create_repo`, `upload_folder` and `snapshot_download`."""

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Authorization"] == "Bearer secret"
        if self.path == "/api/repos/create":
            self.answer({"url": "https://huggingface.co/user/tiny", "id": "user/tiny"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(content)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    value = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = value
            address = f"https://huggingface.co/user/tiny/commit/{COMMIT}"
            self.answer({"commitUrl": address, "commitOid": COMMIT})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        else:
            self.answer({"error": self.path}, 404)

    def do_GET(self):
        files = self.server.files
        if re.fullmatch("/api/models/user/tiny(/revision/.*)?", self.path):
            siblings = [{"rfilename": name} for name in files]
            self.answer({"id": "user/tiny", "sha": COMMIT, "siblings": siblings})
        elif self.path.startswith("/api/models/user/tiny/tree/"):
            sizes = {name: len(content) for name, content in files.items()}
            rows = [
                {"type": "file", "path": name, "size": size, "oid": "0"}
                for name, size in sizes.items()
            ]
            self.answer(rows)
        elif found := re.fullmatch("/user/tiny/resolve/[^/]+/(.*)", self.path):
            content = files.get(found[1])
            if content is None:
                self.answer({"error": "no such file"}, 404)
            else:
                etag = hashlib.sha256(content).hexdigest()
                more = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
                self.answer(content, 200, more)
        else:
            self.answer({"error": self.path}, 404)

    def do_HEAD(self):
        self.do_GET()

    def answer(self, content, status=200, headers=()):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in {**dict(headers), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextmanager
def local_hub():
    """The address of a hub, and its files by name."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", server.files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
