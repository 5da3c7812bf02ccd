from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.errors import DataError
from harness.images.sources.download import download

CONTENT = random.Random(0).randbytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@dataclass
class Site:
    """A server on 127.0.0.1 and what it does."""

    url: str = ""
    kind: str = "application/zip"
    body: bytes = CONTENT
    knows_ranges: bool = True
    says_length: bool = True
    status: int = 200
    cut_after: int | None = None
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.knows_ranges else 0
            if first >= len(state.body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if asked and state.knows_ranges else state.status)
            self.send_header("Content-Type", state.kind)
            if state.says_length:
                self.send_header("Content-Length", str(len(state.body) - first))
            self.end_headers()
            self.wfile.write(state.body[first:][: state.cut_after])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/set.zip"
    yield state
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_kept(site: Site, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    target = tmp_path / "new" / "set.zip"
    for _ in range(2):
        download(site.url, target, expected_md5=MD5, n_bytes=len(CONTENT), progress=lambda *t: told.append(t))
    assert target.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert site.asked == [None]
    assert [p.name for p in target.parent.iterdir()] == ["set.zip"]


def test_a_broken_connection_is_continued(site: Site, tmp_path: Path) -> None:
    site.cut_after = 300_000
    with pytest.raises(DataError, match="go on where it stopped"):
        download(site.url, tmp_path / "set.zip", expected_md5=MD5)
    assert not (tmp_path / "set.zip").exists()
    assert (tmp_path / "set.zip.part").stat().st_size == 300_000
    site.cut_after = None
    download(site.url, tmp_path / "set.zip", expected_md5=MD5, n_bytes=len(CONTENT))
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-"]


def test_a_server_without_ranges_is_asked_for_the_whole(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(b"stale")
    site.knows_ranges = False
    download(site.url, tmp_path / "set.zip", expected_md5=MD5)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_finished_part_needs_no_more_bytes(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip.part").write_bytes(CONTENT)
    download(site.url, tmp_path / "set.zip", expected_md5=MD5)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_stale_target_is_replaced(site: Site, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"stale")
    download(site.url, tmp_path / "set.zip", expected_md5=MD5)
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


def test_a_wrong_md5_is_refused_and_not_kept(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{MD5}.*{'0' * 32} was expected"):
        download(site.url, tmp_path / "set.zip", expected_md5="0" * 32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "text/html; charset=utf-8"}, "web page"),
        ({"body": CONTENT[:-1]}, "announced 699,999 bytes, 700,000 were expected"),
        ({"says_length": False}, "does not say how large"),
        ({"status": 404}, "404"),
        ({"status": 503}, "503"),
    ],
)
def test_what_cannot_be_the_file_is_refused_before_a_byte_is_saved(
    site: Site, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    with pytest.raises(DataError, match=message):
        download(site.url, tmp_path / "set.zip", expected_md5=MD5, n_bytes=len(CONTENT))
    assert not list(tmp_path.iterdir())


def test_no_connection_says_how_to_do_without(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(DataError, match="--source"):
        download(f"http://127.0.0.1:{port}/set.zip", tmp_path / "set.zip", expected_md5=MD5)


def test_where_no_md5_is_published_a_whole_file_is_taken_once(site: Site, tmp_path: Path) -> None:
    site.cut_after = 1000
    with pytest.raises(DataError, match="the connection ended after"):
        download(site.url, tmp_path / "set.zip", expected_md5=None)
    assert not (tmp_path / "set.zip").exists()
    site.cut_after = None
    for _ in range(2):
        assert download(site.url, tmp_path / "set.zip", expected_md5=None).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000-"]
