"""Fixed episodes for a program of one's own: rows and pixels as plain numpy, without torch.

>>> import harness
>>> setting = harness.load("glyphs-5w1s")
>>> episode = setting.episodes()[0]
>>> episode.support.shape, episode.query.shape
((5,), (75,))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.benchmarks import settings
from harness.benchmarks.episodes import Episode
from harness.benchmarks.settings import RoleName, Setting
from harness.errors import ConfigError
from harness.images.pipelines import Pixels
from harness.images.stores import ImageStore
from harness.system.folders import places


def load(name: str, data: Path | str | None = None) -> Loaded:
    """Find a setting by name.

    Args:
        name: such as "mini-5w1s".
        data: where prepared images are; None for FSBENCH_DATA or its default.

    Raises:
        ConfigError: with the nearest names.
    """
    return Loaded(settings.load(name), Path(data) if data else places().data)


@dataclass(frozen=True)
class Loaded:
    """A setting: its fixed episodes, and its images by role.

    Attributes:
        setting: what the harness knows of it.
        data: where prepared images are.
    """

    setting: Setting
    data: Path

    def episodes(self, n: int | None = None) -> Sequence[Episode]:
        """The first ``n`` episodes of the fixed list; None for as many as the benchmark evaluates.

        An episode has ``support`` (n,) and ``query`` (m,), int64 rows of the novel images, and their labels
        ``support_label`` and ``query_label`` in [0, n_way).

        Raises:
            ConfigError: when the list is shorter.
        """
        n = self.setting.n_episodes if n is None else n
        if not 1 <= n <= self.setting.list_length:
            raise ConfigError(
                f"The list of {self.setting.name} has {self.setting.list_length} episodes, not {n}."
            )
        return self.setting.episodes[:n]

    def images(self, role: RoleName = "novel") -> Pixels:
        """Every image of a role, in the order of the episodes' rows.

        Args:
            role: "base", "validation" or "novel".

        Returns:
            (N, H, W, C) uint8; a read-only memory map where the images lie together on disk, else a copy.

        Raises:
            ConfigError: when the benchmark has no such role.
            DataError: when the images are not prepared, saying how.
        """
        store = self._store(role)
        first, n = int(store.source[0]), len(store)
        if store.is_rotated or not np.array_equal(store.source, np.arange(first, first + n)):
            return store.images(range(n))
        return store.pixels[first : first + n]

    def labels(self, role: RoleName = "novel") -> npt.NDArray[np.int64]:
        """(N,) int64: the class of each image of a role, an index into ``class_names``."""
        return self._store(role).label

    def class_names(self, role: RoleName = "novel") -> tuple[str, ...]:
        """Names of the classes of a role."""
        return self._store(role).class_names

    def _store(self, role: RoleName) -> ImageStore:
        benchmark = self.setting.benchmark
        if role not in benchmark.roles:
            raise ConfigError(f"{benchmark.key} has no {role} classes; it has {', '.join(benchmark.roles)}.")
        return benchmark.open(role, self.data)
