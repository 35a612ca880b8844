"""Ways to the store on which something happens to a request."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from almanac.local import seaweed

# The request is done, and its answer is lost; or it is not done, and refused for the moment.
LOST, BUSY = "lost", "busy"


@contextmanager
def way(store: seaweed.Store, meddle: Callable[[str], str]) -> Iterator[str]:
    """The address of a way to the store. `meddle` is given a request's method and says what happens to it: LOST, BUSY, or
    nothing when empty.
    """
    server = urlsplit(store.endpoint).netloc

    class Way(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self._body()
            fate = meddle(self.command)
            if fate == BUSY:
                self._answer(503, "Service Unavailable", [], b"<Error><Code>SlowDown</Code></Error>")
                return
            behind = http.client.HTTPConnection(server)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
            behind.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
            answer = behind.getresponse()
            content = answer.read()
            behind.close()
            if fate == LOST:
                self.close_connection = True
                return
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, answer.reason, answer.getheaders(), content, length)

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(
            self, status: int, reason: str, headers: list[tuple[str, str]], content: bytes, length: str | None = None
        ) -> None:
            self.send_response_only(status, reason)
            for name, value in headers:
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_PUT = do_GET = do_HEAD = do_POST = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Way) as serving:
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            serving.shutdown()
            thread.join()
