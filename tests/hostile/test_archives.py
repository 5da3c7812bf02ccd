"""Archives, arrays and checkpoints whose container is well formed: refused in seconds, whatever they would unpack to."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import lzma
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_home import Attacked, is_message
from mutations import HONEST

from harness.errors import DataError
from harness.images.sources import pickles
from harness.system import arrays
from harness.training.checkpoints import Fit

NAME = f"runs/{HONEST.spec.id}-{HONEST.digest[:12]}"
SECONDS = 10  # a refusal takes milliseconds; the machine may be busy


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return Attacked(tmp_path_factory.mktemp("attacked"))


def honest_files(folder: Path) -> dict[str, bytes]:
    made = HONEST.save(folder / "made")
    return {f"{NAME}/{file.name}": file.read_bytes() for file in sorted(made.iterdir())}


def listing(files: dict[str, Any]) -> bytes:
    listed = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in files.items()
    }
    return json.dumps({"format": 1, "files": listed}).encode()


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE, size: int | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content) if size is None else size
    if kind in (tarfile.LNKTYPE, tarfile.SYMTYPE):
        info.linkname = "/etc/passwd"
    return info.tobuf(tarfile.GNU_FORMAT) + content + b"\0" * (-len(content) % 512)


def tar(*parts: bytes) -> bytes:
    return b"".join(parts) + b"\0" * 1024


def bomb(size: int) -> bytes:
    """A long-name record of so many bytes, of which the archive holds as many zeros as the test can afford."""
    return member("././@LongLink", b"", tarfile.GNUTYPE_LONGNAME, size) + b"\0" * (64 << 20)


Files = dict[str, bytes]
ARCHIVES: dict[str, Callable[[Files], bytes]] = {
    "a long name of 6.5 GB": lambda f: bomb(int(6.5e9)),
    "a long name after the list": lambda f: tar(member("bundle.json", listing(f)), bomb(int(6.5e9))),
    "a long link": lambda f: tar(member("bundle.json", listing(f)), member("././@LongLink", b"x" * 600, tarfile.GNUTYPE_LONGLINK)),
    "a pax header": lambda f: tar(member("bundle.json", listing(f)), member("x", b"9" * 600, tarfile.XHDTYPE)),
    "a global pax header": lambda f: tar(member("x", b"20 path=bundle.json\n", tarfile.XGLTYPE), member("bundle.json", listing(f))),
    "a sparse file": lambda f: tar(member("bundle.json", listing(f)), member(f"{NAME}/run.json", b"", tarfile.GNUTYPE_SPARSE)),
    "a link": lambda f: tar(member("bundle.json", listing(f)), member(f"{NAME}/run.json", b"", tarfile.SYMTYPE)),
    "a hard link": lambda f: tar(member("bundle.json", listing(f)), member(f"{NAME}/run.json", b"", tarfile.LNKTYPE)),
    "a device": lambda f: tar(member("bundle.json", listing(f)), member(f"{NAME}/run.json", b"", tarfile.CHRTYPE)),
    "a name with an escape": lambda f: tar(member("bundle.json", listing({**f, "a\x1b[2J": b""})), member("a\x1b[2J", b"")),
    "a name that leads out": lambda f: tar(member("bundle.json", listing({**f, "../x": b""})), member("../x", b"")),
    "a list of 6.5 GB": lambda f: member("bundle.json", b"", size=int(6.5e9)) + b"\0" * (1 << 20),
    "a list that is nested": lambda f: tar(member("bundle.json", b"[" * 100_000)),
    "a list of numbers": lambda f: tar(member("bundle.json", b"[1, 2]")),
    "a list with a text as size": lambda f: tar(member("bundle.json", listing(f).replace(b'"size": ', b'"size": "x", "s": '))),
    "a list with a negative size": lambda f: tar(member("bundle.json", listing(f).replace(b'"size": ', b'"size": -'))),
    "a list with a huge number": lambda f: tar(member("bundle.json", b'{"format": ' + b"9" * 5000 + b', "files": {}}')),
    "a list that promises terabytes": lambda f: tar(member("bundle.json", json.dumps(
        {"format": 1, "files": {f"fits/{'0' * 12}/fit.pt": {"size": 1 << 39, "sha256": "0" * 64}}}).encode())),
    "a list that promises more than it could hold": lambda f: tar(member("bundle.json", json.dumps(
        {"format": 1, "files": {f"fits/{'0' * 12}/fit.pt": {"size": 1 << 30, "sha256": "0" * 64}}}).encode())),
    "a run.json of 100 MB": lambda f: tar(member("bundle.json", json.dumps(
        {"format": 1, "files": {f"{NAME}/run.json": {"size": 100 << 20, "sha256": "0" * 64}}}).encode())),
    "only a list": lambda f: tar(member("bundle.json", listing(f))),
    "no list": lambda f: tar(*(member(name, content) for name, content in f.items())),
    "a run without result.npz": lambda f: packed({n: c for n, c in f.items() if not n.endswith("npz")}),
    "a run without run.json": lambda f: packed({n: c for n, c in f.items() if not n.endswith("run.json")}),
    "another folder's name": lambda f: packed({n.replace(HONEST.spec.id, "0" * 12): c for n, c in f.items()}),
    "a checkpoint of none of its runs": lambda f: packed({**f, f"fits/{'0' * 12}/fit.json": FIT_JSON, f"fits/{'0' * 12}/fit.pt": b"x"}),
    "a checkpoint without its record": lambda f: packed({**f, f"fits/{KEY}/fit.pt": b"x"}),
    "a checkpoint that is none": lambda f: packed({**f, f"fits/{KEY}/fit.json": FIT_JSON, f"fits/{KEY}/fit.pt": b"x"}),
    "a checkpoint of another record": lambda f: packed({**f, f"fits/{KEY}/fit.json": json.dumps(
        {**json.loads(FIT_JSON), "fit_sha256": "0" * 64}).encode(), f"fits/{KEY}/fit.pt": a_zip(b"x")}),
    "a checkpoint that is packed": lambda f: packed({**f, f"fits/{KEY}/fit.json": FIT_JSON, f"fits/{KEY}/fit.pt": a_zip(b"0" * 10**6, zipfile.ZIP_DEFLATED)}),
    "a record of a fit that is a list": lambda f: packed({**f, f"fits/{KEY}/fit.json": b"[]"}),
    "a record of a fit that is nested": lambda f: packed({**f, f"fits/{KEY}/fit.json": b"[" * 10**6}),
    "an npz of 12 GB": lambda f: packed({**f, f"{NAME}/result.npz": npz_of((12 << 30,))}),
    "an npz of negative shape": lambda f: packed({**f, f"{NAME}/result.npz": npz_of((-5,))}),
    "an npz of a shape beyond numbers": lambda f: packed({**f, f"{NAME}/result.npz": npz_of((1 << 70, 1 << 70))}),
    "an npz of pickled objects": lambda f: packed({**f, f"{NAME}/result.npz": npz_of((3,), "|O")}),
    "an npz that is none": lambda f: packed({**f, f"{NAME}/result.npz": b"PK\x03\x04" + b"x" * 100}),
    "an npz of many members": lambda f: packed({**f, f"{NAME}/result.npz": npz_of((1,), n=2000)}),
    "random bytes": lambda f: np.random.default_rng(0).bytes(4096),
    "nothing": lambda f: b"",
}  # fmt: skip
KEY = HONEST.spec.fit_key
FIT_JSON = json.dumps({"seconds": 1.0, "curves": [], "selection": {}}).encode()


def packed(files: Files) -> bytes:
    return tar(
        member("bundle.json", listing(files)), *(member(name, content) for name, content in files.items())
    )


def a_zip(content: bytes, kind: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", kind) as archive:
        archive.writestr("x", content)
    return file.getvalue()


def header_of(shape: tuple[int, ...], kind: str = "<i8") -> bytes:
    """The header of a .npy file, of any shape."""
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def npz_of(shape: tuple[int, ...], kind: str = "<i8", n: int = 1) -> bytes:
    """An archive whose headers promise such arrays; what follows is a megabyte of zeros, well packed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(n):
            archive.writestr(
                f"n_correct:top{i + 1}.npy", header_of(shape, kind) + b"\0" * (1 << 20) * (n == 1)
            )
    return file.getvalue()


@pytest.mark.parametrize("kind", ARCHIVES)
@pytest.mark.timeout(60)
def test_an_archive_is_refused_in_seconds_and_leaves_nothing(
    home: Attacked, tmp_path: Path, kind: str
) -> None:
    content = ARCHIVES[kind](honest_files(tmp_path))
    bundle = tmp_path / "b.tar.gz"
    bundle.write_bytes(content if kind in ("nothing", "random bytes") else gzip.compress(content, 1))
    before, began = home.digest(), time.monotonic()
    code, said = home.type("import", str(bundle))
    assert code == 3 and is_message(said) and len(said) < 1500, said
    assert time.monotonic() - began < SECONDS
    assert (
        home.digest() == before
        and not list(home.places.runs.glob("*"))
        and not (home.places.cache / "fits").exists()
    )
    home.still_works()


def test_an_honest_archive_is_taken_with_its_checkpoint(tmp_path: Path) -> None:
    import torch

    home = Attacked(tmp_path / "home")
    fit = Fit(tmp_path, KEY)
    fit.finish(torch.nn.Linear(2, 2), json.loads(FIT_JSON))
    files = {f"fits/{KEY}/{file.name}": file.read_bytes() for file in fit.folder.iterdir()}
    bundle = tmp_path / "b.tar.gz"
    bundle.write_bytes(gzip.compress(packed({**honest_files(tmp_path), **files})))
    code, said = home.type("import", str(bundle))
    assert code == 0 and "1 new, 1 new fit" in said, said
    home.still_works()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "blob",
    [
        zlib.compress(b"\0" * (64 << 20)),
        zlib.compress(header_of((67 << 30,)) + b"\0" * (64 << 20)),
        zlib.compress(header_of((10,)) + b"\0" * (64 << 20)),
        zlib.compress(header_of((10,)) + b"\0" * 79),
        zlib.compress(header_of((10,), "|O") + b"\0" * 80),
        zlib.compress(b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000),
        zlib.compress(b"\x93NUMPY\x07\x00"),
        b"",
        b"\x78",
        lzma.compress(b"\0" * (64 << 20), preset=0),
        lzma.compress(header_of((67 << 30,)) + b"\0" * (64 << 20), preset=0),
        lzma.compress(header_of((10,)) + b"\0" * 80, preset=9),  # unpacking it would set 64 MiB aside
        lzma.compress(header_of((10,)) + b"\0" * 80, preset=0)[:-40],
        b"\xfd7zXZ\x00",
    ],
    ids=range(14),
)
def test_a_blob_is_refused_before_anything_is_allocated_for_it(blob: bytes) -> None:
    import tracemalloc

    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"."):
        arrays.unpack(blob)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - began < SECONDS and peak < 4 << 20  # bytes: some headers and the refusal


def test_a_nested_pickle_is_read_in_no_time() -> None:
    """Tuples of the tuple before, forty times: 2^40 of them to whoever does not remember."""
    content = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(40)) + b"."
    began = time.monotonic()
    with_memory = pickles.load(io.BytesIO(content), "nested")
    assert time.monotonic() - began < 2 and isinstance(with_memory, tuple)
    with pytest.raises(DataError, match="not a whole pickle"):
        pickles.load(io.BytesIO(b"\x80\x02" + b"]" * 2000 + b"a" * 1999 + b"."), "deep")
