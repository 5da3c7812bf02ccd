"""What a method's text says is read alike by threads at once."""

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.method import outline
from harness.method.registry import BUILT_IN


@pytest.fixture
def often_interrupted() -> Iterator[None]:
    """Another thread takes over in the middle of whatever allocates."""

    def give_way(phase: str, told: dict[str, Any]) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(give_way)
    gc.set_threshold(50)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(give_way)


def test_threads_that_read_at_once_read_the_same(often_interrupted: None) -> None:
    targets = [BUILT_IN[name] for name in ("bml", "protonet", "softmax", "pixels")]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(outline.read, targets * 3))
    assert [one.version for one in found] == [outline.read(target).version for target in targets] * 3
