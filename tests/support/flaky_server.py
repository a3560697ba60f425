"""An HTTP server on the loopback interface that fails the way hosts do, and remembers what it was asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Optional


@dataclass
class Site:
    """What is served: path -> bytes. `plan`: how the next answers go wrong ("cut" after `cut_after` bytes, "503")."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: Optional[str] = '"one"'
    ranges: bool = True
    length: bool = True
    plan: list[str] = field(default_factory=list)
    cut_after: int = 0
    requests: list[tuple[str, Optional[str]]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serves `site` on a free port; site.url is its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, site)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = request.headers.get("Range")
    site.requests.append((request.path, wanted))
    fault = site.plan.pop(0) if site.plan else ""
    if fault == "503":
        request.send_error(503)
        return
    data = site.files.get(request.path.lstrip("/"))
    if data is None:
        request.send_error(404)
        return
    start = 0
    match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
    if match and site.ranges and request.headers.get("If-Range") == site.etag:
        start = int(match[1])
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    if site.length:
        request.send_header("Content-Length", str(len(data) - start))
    if site.etag:
        request.send_header("ETag", site.etag)
    request.end_headers()
    body = data[start:]
    request.wfile.write(body[: site.cut_after] if fault == "cut" else body)
