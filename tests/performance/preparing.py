"""Peak memory and speed of preparing 50,000 JPEGs out of one tar: ``python tests/performance/preparing.py``.

Options: ``--images 50000``. The pictures are small, 200×150, and few of them differ: memory does not depend on that.
"""

import argparse
import io
import resource
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from harness.images.prepare import import_folder

N_CLASSES, N_DIFFERENT = 100, 50


def photograph(seed: int) -> bytes:
    """A smooth picture of 200×150."""
    coarse = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((200, 150), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_tar(path: Path, n: int) -> None:
    """A tar of class folders."""
    contents = [photograph(i) for i in range(N_DIFFERENT)]
    with tarfile.open(path, "w") as archive:
        for i in range(n):
            info = tarfile.TarInfo(f"set/class{i % N_CLASSES:03d}/{i:06d}.jpg")
            info.size = len(contents[i % N_DIFFERENT])
            archive.addfile(info, io.BytesIO(contents[i % N_DIFFERENT]))
            archive.members.clear()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=50_000)
    n = parser.parse_args().images
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / "set.tar"
        write_tar(source, n)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, cpu = time.perf_counter(), time.process_time()
        found = import_folder("made-up", source, Path(place) / "data", pipeline="metaoptnet").dataset
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        store = found.select(found.class_names, "metaoptnet", 84)
        store.images(range(0, n, max(1, n // 80)))
        print(f"{n:,} JPEGs of {source.stat().st_size / n:,.0f} bytes in one tar")
        print(f"{'images/s, reading and decoding':36}{n / seconds:>10,.0f}")
        print(f"{'CPUs busy on average':36}{cpu / seconds:>10.2f}")
        print(f"{'peak memory, MB':36}{peak / 1024:>10,.0f}")
        print(f"{'of these before it began, MB':36}{before / 1024:>10,.0f}")
        print(f"{'from the prepared set to an episode, s':38}{time.perf_counter() - start:>8.2f}")


if __name__ == "__main__":
    main()
