"""Downloads: whole or not at all, going on where they broke, and what to do offline."""

import hashlib
import http.server
import threading

import pytest

from jaxvision.cli import main
from jaxvision.errors import ConfigError
from jaxvision.weights import fetch as module
from jaxvision.weights import published
from jaxvision.weights.fetch import fetch
from jaxvision.weights.published import PUBLISHED, Published, published_file

CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `content`; `cuts`: bytes after which the next answers break off; `ranges`: those asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.cuts, self.ranges, self.knows_ranges = CONTENT, '"one"', [], [], True
        self.url = f"http://127.0.0.1:{self.server_port}/weights.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        if self.path != "/weights.h5":
            self.send_error(404)
            return
        same = self.headers.get("If-Range") in (None, server.etag)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same and server.knows_ranges else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    path = tmp_path / "cache" / "w.h5"
    server.cuts = [300_000, 200_000]
    fetch(server.url, path, md5=MD5, what="the weights")
    assert path.read_bytes() == CONTENT
    assert server.ranges[0] is None
    first, second = (int(asked[6:-1]) for asked in server.ranges[1:])
    assert 0 < first <= 300_000 < second  # nothing that came is asked for again
    assert {file.name for file in path.parent.iterdir()} == {"w.h5", ".lock"}


def test_a_later_call_goes_on_too(server, tmp_path):
    path = tmp_path / "w.h5"
    server.cuts = [100_000] * module.ATTEMPTS
    with pytest.raises(ConfigError, match="broke after"):
        fetch(server.url, path, md5=MD5, what="the weights")
    assert not path.exists()
    have = path.with_name("w.h5.part").stat().st_size
    assert have > 0
    asked = len(server.ranges)
    fetch(server.url, path, md5=MD5, what="the weights")
    assert server.ranges[asked:] == [f"bytes={have}-"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("md5", [MD5, None])
def test_what_is_whole_already_is_not_fetched_again(server, tmp_path, md5):
    path = tmp_path / "w.h5"
    path.with_name("w.h5.part").write_bytes(CONTENT)
    path.with_name("w.h5.part.etag").write_text('"one"')
    fetch(server.url, path, md5=md5, what="the weights")
    assert path.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT)}-"]


def test_a_file_that_changed_meanwhile_or_a_server_without_ranges_starts_afresh(server, tmp_path):
    path = tmp_path / "w.h5"
    for change in ("content", "no ranges", "no tag"):
        path.with_name("w.h5.part").write_bytes(b"the beginning of another file")
        if change == "no tag":
            path.with_name("w.h5.part.etag").unlink(missing_ok=True)
        else:
            path.with_name("w.h5.part.etag").write_text('"older"')
        server.knows_ranges = change != "no ranges"
        # No hash is known: only the tag keeps two files from being put together.
        fetch(server.url, path, md5=None, what="the weights")
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_a_spoiled_beginning_is_found_by_the_hash_and_fetched_again(server, tmp_path):
    path = tmp_path / "w.h5"
    path.with_name("w.h5.part").write_bytes(b"spoiled" * 1000)
    server.etag = ""
    fetch(server.url, path, md5=MD5, what="the weights")
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=7000-", None]


def test_processes_that_want_the_same_file_fetch_it_once(server, tmp_path):
    path = tmp_path / "w.h5"
    threads = [threading.Thread(target=fetch, args=(server.url, path), kwargs=dict(md5=None, what="")) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None]


def test_another_file_under_the_address_is_refused(server, tmp_path):
    path = tmp_path / "w.h5"
    server.content = CONTENT[::-1]
    with pytest.raises(ConfigError, match="md5"):
        fetch(server.url, path, md5=MD5, what="the weights")
    assert not list(tmp_path.glob("w.h5*"))
    assert server.ranges == [None]


def test_published_weights_are_fetched_once_and_one_put_there_by_hand_is_used(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
    monkeypatch.setitem(PUBLISHED, ("vgg16", False), Published("vgg16", False, server.url, MD5, ""))
    path = published_file("vgg16", top=False)
    assert path == tmp_path / "weights" / "weights.h5"
    assert path.read_bytes() == CONTENT
    path.write_bytes(b"by hand: not of the published hash")
    assert main(["weights", "fetch", "vgg16", "--no-top"]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    assert path.read_bytes() == b"by hand: not of the published hash"
    assert len(server.ranges) == 1


def test_offline_one_message_says_where_to_put_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
    with Server() as gone:
        url = gone.url  # nobody listens there afterwards
    monkeypatch.setitem(PUBLISHED, ("vgg16", True), Published("vgg16", True, url, MD5, ""))
    assert main(["weights", "fetch", "vgg16"]) == 2
    said = capsys.readouterr().err
    for part in (
        "error: the weights of vgg16",
        url,
        str(tmp_path / "weights" / "weights.h5"),
        "refused",
        "--model.weights FILE",
    ):
        assert part in said


def test_an_address_without_the_file_is_one_message(server, tmp_path):
    with pytest.raises(ConfigError, match="404"):
        fetch(server.url + ".gone", tmp_path / "w.h5", md5=None, what="the weights")
    assert len(server.ranges) == 1  # asking again would not help


def test_the_table_is_keras_own(tmp_path, monkeypatch, capsys):
    """Read off Keras' source text, which says it in a place of its own for each model."""
    import importlib.util
    import pathlib

    folder = pathlib.Path(importlib.util.find_spec("keras").origin).parent / "src" / "applications"
    sources = "".join(path.read_text() for path in folder.glob("*.py"))
    for file in PUBLISHED.values():
        assert file.md5 is None or file.md5 in sources
        assert file.url.startswith("https://storage.googleapis.com/")
    assert published.PUBLISHED["vgg16", False].file_name == "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"
    monkeypatch.setenv("JAXVISION_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["weights", "list"]) == 0
    said = capsys.readouterr().out
    assert all(file.file_name in said for file in PUBLISHED.values())  # piped, none is broken over two lines
    assert said.count("vgg16") >= 2
    assert "CC BY 4.0" in said
