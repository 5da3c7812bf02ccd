"""Serve the report on this machine alone, rebuild it when the database changes, and reload open pages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

from harness.errors import ConfigError, FsbenchError
from harness.report import render
from harness.store import Store

log = logging.getLogger("fsbench.report")
POLL_SECONDS = 1.0
PATIENCE_SECONDS = 25.0  # a page asks again after so long
HOST = "127.0.0.1"

_RELOAD = """"use strict";
addEventListener("load", () => {
  const ask = () => {
    const script = document.createElement("script");
    script.src = "/.changed?since=%s&at=" + Date.now();
    script.onload = () => { script.remove(); ask(); };
    script.onerror = () => { script.remove(); setTimeout(ask, 2000); };
    document.head.append(script);
  };
  setTimeout(ask);
});
"""


class Versions:
    """Counts the builds of a report, and lets a page wait for the next."""

    def __init__(self) -> None:
        self.number = 0
        self._changed = threading.Condition()

    def advance(self) -> None:
        """Announce a new build."""
        with self._changed:
            self.number += 1
            self._changed.notify_all()

    def wait_for_other_than(self, number: int, seconds: float) -> bool:
        """Wait until the build is not this one; False when time is up."""
        with self._changed:
            return self._changed.wait_for(lambda: self.number != number, seconds)


def serve(
    store: Store, target: Path, settings: Sequence[str] | None, port: int, announce: Callable[[str], None],
    *, with_host: bool = False,
) -> None:  # fmt: skip
    """Build, serve and watch until interrupted.

    Args:
        store: the database.
        target: the folder of the report.
        settings: only these; None for all.
        port: of 127.0.0.1; 0 takes a free one.
        announce: told the address once pages can be opened.
        with_host: also the names and paths of the machines.

    Raises:
        ConfigError: when the port is taken.
        StoreError: when the first build fails; later failures are logged and the old pages stay.
    """
    with running(store, target, settings, port, with_host=with_host) as address:
        announce(address)
        threading.Event().wait()


@contextmanager
def running(
    store: Store, target: Path, settings: Sequence[str] | None, port: int = 0, *, with_host: bool = False
) -> Iterator[str]:
    """Serve inside the block; gives the address."""
    write = partial(render.write, store, target, settings, with_host=with_host)
    write()
    versions, stop = Versions(), threading.Event()
    try:
        server = ThreadingHTTPServer((HOST, port), partial(_Handler, versions, directory=str(target)))
    except OSError as error:
        raise ConfigError(
            f"--port {port} cannot be used: {error.strerror}. Choose another; 0 takes a free one."
        ) from error
    server.daemon_threads = True
    threads = [
        threading.Thread(target=server.serve_forever, daemon=True),
        threading.Thread(target=_watch, args=(store, write, versions, stop), daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield f"http://{HOST}:{server.server_address[1]}/index.html"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        threads[1].join()


def _watch(store: Store, write: Callable[[], object], versions: Versions, stop: threading.Event) -> None:
    seen = _state(store)
    while not stop.wait(POLL_SECONDS):
        try:
            now = _state(store)
            if now != seen:
                write()
                versions.advance()
                seen = now
        except FsbenchError as error:
            log.warning("%s", error)


def _state(store: Store) -> tuple[Any, ...]:
    """What is stored, in a few cheap queries."""
    runs = tuple(
        (run.id, run.replicate, run.status, run.provenance.get("finished"), run.self_reported, run.rechecks)
        for run in store.stored_runs()
    )
    measured = tuple((h.episode_digest, h.novel_digest, h.name, len(h.omega)) for h in store.every_hardness())
    return runs, measured, store.tried()


class _Handler(SimpleHTTPRequestHandler):
    """Files of the report, with a script in each page that waits for the next build."""

    def __init__(self, versions: Versions, *args: Any, **kwargs: Any) -> None:
        self._versions = versions
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        """Answer a page, a file, or the two scripts of reloading; strangers' host names are refused."""
        if self.headers.get("Host", "").partition(":")[0] not in (HOST, "localhost"):
            self.send_error(HTTPStatus.FORBIDDEN)
            return
        asked = urlsplit(self.path)
        number = parse_qs(asked.query).get("since", ["0"])[0]
        since = int(number) if number.isdecimal() else 0
        if asked.path == "/.reload.js":
            self._answer(_RELOAD % since)
        elif asked.path == "/.changed":
            is_new = self._versions.wait_for_other_than(since, PATIENCE_SECONDS)
            self._answer("location.reload();" if is_new else "")
        else:
            super().do_GET()

    def send_head(self) -> BytesIO | BinaryIO | None:
        """Open what was asked; a page gets the waiting script put in."""
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            path = path / "index.html"
        if path.suffix != ".html" or not path.is_file():
            return super().send_head()
        script = f'<script src="/.reload.js?since={self._versions.number}" defer></script></head>'
        body = path.read_bytes().replace(b"</head>", script.encode(), 1)
        self._headers("text/html; charset=utf-8", len(body))
        return BytesIO(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Tell the log, not the terminal."""
        log.debug(format, *args)

    def _answer(self, script: str) -> None:
        self._headers("text/javascript; charset=utf-8", len(script.encode()))
        self.wfile.write(script.encode())

    def _headers(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
