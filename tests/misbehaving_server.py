"""A server of one file that misbehaves in the ways servers do."""

import contextlib
import http.server
import random
import re
import socket
import struct
import threading

BODY = random.Random(0).randbytes(3_000_000)


class Site(http.server.ThreadingHTTPServer):
    """Serves one body under every path; the attributes say how it misbehaves."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/models"
        self.body = BODY
        self.etag = '"1"'
        self.ranges = True  # answers Range requests
        self.conditions = True  # heeds If-Range
        self.statuses = []  # answered first, one a request
        self.cuts = []  # bytes after which the first responses break off, one a response
        self.reset = False  # breaks off by a reset, not by an orderly end
        self.lengths = True  # says the length of what it sends
        self.missing_bytes = 0  # promised in every response and never sent
        self.pause_at = None  # bytes after which a response waits for `go_on`
        self.go_on = threading.Event()
        self.requests = []  # (path, headers)
        self.bytes_sent = 0

    def ranges_asked(self):
        return [headers["Range"] for _, headers in self.requests]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        site = self.server
        site.requests.append((self.path, self.headers))
        body, start, status = site.body, 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", site.etag)
        if asked and site.ranges and (condition == site.etag or not site.conditions):
            start = int(asked[1])
            status = 206 if start < len(body) else 416
        if site.statuses:
            status = site.statuses.pop(0)
        self.send_response(status)
        if site.etag:
            self.send_header("ETag", site.etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(body)}")
        if status in (200, 206) and site.lengths:
            self.send_header("Content-Length", str(len(body) - start + site.missing_bytes))
        self.end_headers()
        if status in (200, 206):
            self.send_body(body[start:])

    def send_body(self, body):
        site = self.server
        end = site.cuts.pop(0) if site.cuts else len(body)
        pause = min(end, site.pause_at or end)
        self.send(body[:pause])
        if pause < end:
            site.go_on.wait(30)
            self.send(body[pause:end])
        if end < len(body) and site.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()

    def send(self, data):
        try:
            self.server.bytes_sent += len(data)
            self.wfile.write(data)
        except OSError:
            pass  # The client is gone.

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def serving():
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.go_on.set()
        site.shutdown()
        thread.join()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]
