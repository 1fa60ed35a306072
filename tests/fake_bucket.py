"""A stand-in for Google Cloud Storage on this machine: the calls of its JSON API that three clients make, TensorFlow's
(behind etils' epath), tensorstore's (behind Orbax' arrays) and google-cloud-storage (behind Orbax' folders).

TensorFlow's client knows no other address than Google's. So this server is also its proxy: it answers CONNECT to any
host by a TLS connection of its own, with a certificate that `environment` has the client trust.

Runs on its own too: python fake_bucket.py FOLDER prints the environment to set, and serves until it is stopped.
"""

import contextlib
import http.server
import itertools
import json
import re
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOSTS = ("www.googleapis.com", "storage.googleapis.com")
BUCKET = "bucket"


class FakeBucket:
    """objects: of the one bucket there is, by name: (content, generation). calls: (method, path) of all requests.
    forbidden: whether the account may do nothing."""

    def __init__(self, folder: Path):
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.times: dict[str, float] = {}
        self.calls: list[tuple[str, str]] = []
        self.forbidden = False
        self.lock = threading.Lock()
        self.generations = itertools.count(1)
        self.uploads: dict[str, tuple[str, bytes]] = {}
        self.certificate = _certificate(folder)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, folder / "key.pem")

    @contextlib.contextmanager
    def serve(self) -> Iterator[dict[str, str]]:
        """Within it the server answers; gives the environment that sends the clients to it."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"store": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield {
                "https_proxy": address,
                "CURL_CA_BUNDLE": str(self.certificate),
                "TENSORSTORE_GCS_HTTP_URL": address,
                "STORAGE_EMULATOR_HOST": address,
                "GOOGLE_AUTH_TOKEN_FOR_TESTING": "anyone",
                "NO_GCE_CHECK": "true",
                "no_proxy": "127.0.0.1",
            }
        finally:
            server.shutdown()
            server.server_close()

    def put(self, name: str, content: bytes) -> dict[str, Any]:
        with self.lock:
            self.objects[name], self.times[name] = (content, next(self.generations)), time.time()
        return self.metadata(name)

    def metadata(self, name: str) -> dict[str, Any]:
        content, generation = self.objects[name]
        changed = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(self.times[name]))
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": BUCKET,
            "size": str(len(content)),
            "generation": str(generation),
            "metageneration": "1",
            "updated": changed,
            "timeCreated": changed,
            "storageClass": "STANDARD",
        }


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: FakeBucket
    host = ""

    def log_message(self, *_: Any) -> None:
        pass

    def do_CONNECT(self) -> None:
        self.send_response_only(200, "Connection established")
        self.end_headers()
        self.wfile.flush()
        self.connection = self.request = self.store.tls.wrap_socket(self.connection, server_side=True)
        self.host = self.path.partition(":")[0]
        self.rfile = self.connection.makefile("rb", -1)
        self.wfile = http.server.socketserver._SocketWriter(self.connection)  # type: ignore[attr-defined]
        self.close_connection = False

    def _answer(self) -> None:
        body = self._body()
        url = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(url.query).items()}
        self.store.calls.append((self.command, self.path))
        if self.store.forbidden:
            return self._send(403, {"error": {"code": 403, "message": "not allowed"}})
        if self.host == "storage.googleapis.com" and not url.path.startswith(("/storage/", "/upload/")):
            bucket, _, name = urllib.parse.unquote(url.path.lstrip("/")).partition("/")
            return self._read(bucket, name)
        if url.path.startswith("/upload/"):
            return self._upload(query, body)
        match = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(?:/storageLayout|/o(?:/(.+))?)?", url.path)
        if match is None:
            return self._send(404, {})
        bucket = urllib.parse.unquote(match[1])
        if bucket != BUCKET:
            return self._send(404, {"error": {"code": 404, "message": "The specified bucket does not exist."}})
        if match[2] is None:
            return self._list(query) if url.path.endswith("/o") else self._send(200, {"name": bucket, "location": "US"})
        if "/rewriteTo/b/" in match[2]:
            source, _, target = match[2].partition("/rewriteTo/b/")
            return self._rewrite(urllib.parse.unquote(source), urllib.parse.unquote(target.partition("/o/")[2]))
        name = urllib.parse.unquote(match[2])
        if self.command == "DELETE":
            return self._delete(name, query)
        if query.get("alt") == "media":
            return self._read(bucket, name, query)
        return self._send(200, self.store.metadata(name)) if name in self.store.objects else self._send(404, {})

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _fits(self, name: str, query: dict[str, str]) -> bool:
        """Whether the generation is the one the caller expects."""
        expected = query.get("ifGenerationMatch")
        return expected is None or int(expected) == self.store.objects.get(name, (b"", 0))[1]

    def _read(self, bucket: str, name: str, query: dict[str, str] | None = None) -> None:
        if bucket != BUCKET or name not in self.store.objects:
            return self._send(404, {})
        content, generation = self.store.objects[name]
        if not self._fits(name, query or {}):
            return self._send(412, {})
        if query and query.get("ifGenerationNotMatch") == str(generation):
            return self._send(304, None)
        headers = {"x-goog-generation": str(generation), "x-goog-stored-content-length": str(len(content))}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            return self._send(200, content, headers)
        if not asked[1]:
            first, last = max(0, len(content) - int(asked[2])), len(content) - 1
        else:
            first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return self._send(416, {})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], headers)

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        first, end = query.get("startOffset", ""), query.get("endOffset")
        items, prefixes = [], dict[str, None]()
        for name in sorted(self.store.objects):
            if not name.startswith(prefix) or name < first or (end is not None and name >= end):
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                prefixes[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                items.append(name)
        found = sorted([*items, *prefixes])
        start, most = int(query.get("pageToken", 0)), int(query.get("maxResults", 1000))
        page = found[start : start + most]
        answer: dict[str, Any] = {"kind": "storage#objects"}
        answer["items"] = [self.store.metadata(name) for name in page if name not in prefixes]
        answer["prefixes"] = [name for name in page if name in prefixes]
        if start + most < len(found):
            answer["nextPageToken"] = str(start + most)
        return self._send(200, answer)

    def _upload(self, query: dict[str, str], body: bytes) -> None:
        if query.get("uploadType") == "media":
            if not self._fits(query["name"], query):
                return self._send(412, {})
            return self._send(200, self.store.put(query["name"], body))
        if self.command == "POST":  # the begin of a resumable upload
            number = str(next(self.store.generations))
            self.store.uploads[number] = (query["name"], b"")
            where = f"https://{self.host or self.headers['Host']}{self.path}&upload_id={number}"
            return self._send(200, b"", {"Location": where})
        name, had = self.store.uploads[query["upload_id"]]
        had += body
        self.store.uploads[query["upload_id"]] = (name, had)
        total = self.headers.get("Content-Range", "").rpartition("/")[2]
        if total in ("*", "") or len(had) < int(total):
            return self._send(308, None, {"Range": f"bytes=0-{len(had) - 1}"} if had else {})
        return self._send(200, self.store.put(name, had))

    def _rewrite(self, source: str, target: str) -> None:
        if source not in self.store.objects:
            return self._send(404, {})
        return self._send(200, {"done": True, "resource": self.store.put(target, self.store.objects[source][0])})

    def _delete(self, name: str, query: dict[str, str]) -> None:
        if name not in self.store.objects:
            return self._send(404, {})
        if not self._fits(name, query):
            return self._send(412, {})
        with self.store.lock:
            del self.store.objects[name]
        return self._send(204, None)

    def _send(self, status: int, content: Any, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if not isinstance(content, bytes) and content is not None:
            self.send_header("Content-Type", "application/json")
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _certificate(folder: Path) -> Path:
    """A certificate of Google's host names that nobody else trusts."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "certificate.pem"
    names = ",".join(f"DNS:{host}" for host in HOSTS)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=fake bucket",
         "-addext", f"subjectAltName={names}", "-keyout", str(folder / "key.pem"), "-out", str(file)],
        check=True,
        capture_output=True,
    )  # fmt: skip
    return file


if __name__ == "__main__":
    fake = FakeBucket(Path(sys.argv[1]))
    with fake.serve() as environment:
        for key, value in environment.items():
            print(f"export {key}={value}", flush=True)
        try:
            while True:
                time.sleep(1)
                Path(sys.argv[1], "calls").write_text("\n".join(" ".join(call) for call in fake.calls))
                sizes = [f"{name} {len(content)}" for name, (content, _) in sorted(fake.objects.items())]
                Path(sys.argv[1], "objects").write_text("\n".join(sizes))
        except KeyboardInterrupt:
            pass
