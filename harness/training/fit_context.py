"""What ``fit_base`` may ask of the harness: resumable epochs, validation, curves, and the fits it is built on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch

from harness.benchmarks import RoleName
from harness.benchmarks.episodes import IntArray
from harness.errors import ConfigError, PluginError, StoreError
from harness.evaluation.features import Source
from harness.images.stores import ImageStore
from harness.method import Need, need_of, needs
from harness.ops.precision import autocast
from harness.system.progress import Progress, stage
from harness.system.trackers import Curves
from harness.training.checkpoints import FORMAT, Stateful, kept_state, load_tensors, save_tensors
from harness.training.effort import Effort
from harness.training.processes import ALONE, World

log = logging.getLogger("fsbench.fit")
_LOOK_EVERY = 50  # losses between two looks at them


class BaseFeatures(NamedTuple):
    """Features of all images of one role.

    Attributes:
        x: (N, *F) float32, memory-mapped: read it in parts.
        y: (N,) int64 label of each, as in ``base.batches``.
    """

    x: torch.Tensor
    y: torch.Tensor


class Requires(Protocol):
    """Where the fits are that a training is built on."""

    def fitted(self, need: Need) -> Any:
        """The method of a need, fitted and frozen."""

    def features(self, fitted: Any, role: RoleName) -> BaseFeatures:
        """Its features of all images of a role."""

    def source(self, head: Any, store: ImageStore, rows: IntArray) -> Source:
        """The features of some images that a head is given."""


class FitContext:
    """What ``fit_base`` may ask of the harness.

    Attributes:
        device: where the method lives.
        rng: CPU generator of the training stream; its state is part of every checkpoint.
        seed: the run seed.
    """

    def __init__(self, folder: Path, *, device: torch.device, rng: torch.Generator, seed: int,
                 precision: str, validate: Callable[[Any, int, int], float] | None,
                 progress: Progress, keeps_all: bool = False, world: World = ALONE,
                 config: Mapping[str, Any] = MappingProxyType({}), required: Requires | None = None,
                 is_compiled: bool = False, budget: int = 0) -> None:  # fmt: skip
        self._budget = budget
        self._required = required
        self._effort, self._warnings = Effort(world.size, counts_flop=not is_compiled), list[str]()
        self._config, self._tracked = config, Curves(folder.name, config)
        self._world = world
        self.device, self.rng, self.seed = device, rng, seed
        self._folder, self._precision, self._validate, self._progress = folder, precision, validate, progress
        self._keeps_all, self._kept = keeps_all, 0
        self._scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._curves: list[dict[str, float]] = []
        self._best: dict[str, Any] = {}
        self._began, self._earlier_seconds = time.monotonic(), 0.0
        self._note, self._n_images, self._speed_since = "", 0, time.monotonic()
        self._in_epoch, self._epoch_images = 0, 0  # images seen of it, and as many as it should have
        self._epoch, self._n_steps, self._losses = 0, 0, list[tuple[int, torch.Tensor]]()

    def require(self, method: str, **config: Any) -> Any:
        """Give a fit that ``requires`` has named, by the same words: that method, fitted, frozen, of the same run seed.

        Raises:
            PluginError: when it was not named there, so that it could not be planned.
        """
        if self._required is None:
            raise PluginError(
                f"ctx.require({method!r}): name it in requires(config) first, so that it is planned."
            )
        return self._required.fitted(needs(method, **config) if config else need_of(method))

    def features(self, fitted: Any, role: RoleName = "base") -> BaseFeatures:
        """Features that a required fit gives all images of a role, embedded once whoever asks.

        Args:
            fitted: what ``require`` gave.
            role: "base" or "validation".

        Raises:
            PluginError: when it did not come from ``require``, or has no ``embed``.
        """
        if self._required is None:
            raise PluginError("ctx.features takes what ctx.require gave.")
        return self._required.features(fitted, role)

    def autocast(self) -> torch.autocast:
        """Open the run's precision (``--precision bf16``); distances and losses belong outside it."""
        return autocast(self.device, self._precision)

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss, scaled in fp16 so that small ones do not vanish.

        May be called several times before a ``step``: a batch in parts, each loss divided by their number, is how a
        published batch fits a small card.

        Raises:
            PluginError: when this or a recent loss is not finite, with the step and the configuration.
        """
        self._losses.append((self._n_steps + 1, loss.detach()))
        if len(self._losses) == _LOOK_EVERY:
            self._look_at_losses()
        self._scaler.scale(loss).backward()

    def step(self, optimiser: torch.optim.Optimizer, *, longest: float | None = None) -> None:
        """Step along the gradients of every ``backward`` since the last step, then clear them.

        Args:
            optimiser: whose parameters move.
            longest: gradients of a parameter group that are longer together are shortened to this length, > 0.
        """
        if longest is not None:
            self._scaler.unscale_(optimiser)
            for group in optimiser.param_groups:
                torch.nn.utils.clip_grad_norm_(group["params"], longest)
        self._scaler.step(optimiser)
        self._scaler.update()
        optimiser.zero_grad(set_to_none=True)
        self._n_steps += 1
        self._effort.step()

    def log(self, step: int, **scalars: float) -> None:
        """Record a point of the training curves; a NaN stops the training with the last good checkpoint kept.

        Raises:
            PluginError: when a value is not finite.
        """
        self._look_at_losses()
        point = {"step": step, **{name: float(value) for name, value in scalars.items()}}
        if not all(torch.tensor(list(point.values())).isfinite()):
            raise self._diverged(f"at step {step}: {point}")
        self._curves.append(point)
        if self._world.is_first:
            self._tracked.write(point)
        self._note = ", ".join(f"{name} {value:.3f}" for name, value in point.items() if name != "step")

    def epochs(self, n: int, *, patience: int = 0, **state: Stateful) -> Iterator[int]:
        """Count epochs from where an interrupted training stopped; save everything after each.

        Args:
            n: number of epochs, at most.
            patience: end once so many epochs after the best of ``keep_best`` were no better; 0 never does, and without
                validation classes nothing is best.
            state: modules, optimisers and schedules by name, ``model`` among them; they are saved with the
                random states and restored on resumption.

        Yields:
            epoch, in [0, n).

        When ``keep_best`` was called, the best weights are in ``model`` after the last epoch.

        Raises:
            ConfigError: when ``n`` is negative.
        """
        if n < 0:
            raise ConfigError(f"A training of {n} epochs was asked for; at least 0 are possible.")
        first = self._resume(state)
        self._world.join(state)
        with stage(self._progress, "train", n, "epochs", first) as progress:
            for epoch in range(first, n):
                if self.is_spent():
                    break
                if patience and self._best and epoch - self._best.get("epoch", epoch) > patience:
                    break
                self._epoch, self._n_steps, self._in_epoch = epoch, 0, 0
                self._n_images, self._speed_since = 0, time.monotonic()
                yield epoch
                self._epoch_images = self._in_epoch
                self._effort.pause()
                self._look_at_losses()
                self._world.settle(state, self.rng)
                if self._world.is_first:
                    self._save(epoch + 1, state)
                progress.advance(1, self._note)
        if self._best:
            state["model"].load_state_dict(self._best["state"])

    def warn(self, sentence: str) -> None:
        """Say what is suspicious about a training that went to its end; the row and the page of the run show it."""
        log.warning("%s", sentence)
        self._warnings.append(sentence)

    def is_spent(self) -> bool:
        """Whether the images that this training is given have been seen."""
        return 0 < self._budget <= self._effort.images

    def expect(self, epoch_images: int) -> None:
        """Say how many images an epoch should have, so that time left is told in the first one; it is corrected there."""
        self._epoch_images = epoch_images

    def tick(self, n_images: int) -> None:
        """Count trained images, for the record and to show how fast it goes."""
        self._effort.images += n_images
        self._n_images += n_images
        n_before, self._in_epoch = (
            self._in_epoch,
            self._in_epoch + n_images,
        )  # these are given, not yet trained on
        elapsed = time.monotonic() - self._speed_since
        if elapsed > 1.0:
            speed = f"{self._n_images / elapsed:,.0f} img/s"
            part = min(n_before / self._epoch_images, 0.99) if self._epoch_images else 0.0
            self._progress.advance(0, ", ".join(filter(None, (self._note, speed))), part)
            self._n_images, self._speed_since = 0, time.monotonic()

    @property
    def has_validation(self) -> bool:
        """Whether the benchmark has validation classes."""
        return self._validate is not None

    def validation_accuracy(self, method: Any, way: int = 5, shot: int = 1) -> float:
        """Score the method as it stands on the fixed validation episodes.

        Returns:
            Mean accuracy in [0, 1].

        Raises:
            PluginError: when the benchmark has no validation classes (see ``has_validation``).
        """
        self._effort.pause()
        self._look_at_losses()
        validate = self._validate
        if validate is None:
            raise PluginError("This benchmark has no validation classes; ask ctx.has_validation first.")
        training = [m for m in method.modules() if m.training] if isinstance(method, torch.nn.Module) else []
        rng_state = torch.get_rng_state()
        for module in training:
            module.training = False
        try:
            return self._world.told(lambda: validate(method, way, shot))
        finally:
            torch.set_rng_state(rng_state)
            for module in training:
                module.training = True

    def keep_best(self, method: Stateful, way: int = 5, shot: int = 1) -> float | None:
        """Score the method and remember its weights if no earlier epoch did better.

        The selection is the harness's: highest accuracy on the validation episodes, the earliest of equals.
        Without validation classes the last weights stay, and None is returned. Where a run asks for the selection
        of papers that chose on novel classes, every state is kept here and the harness scores them afterwards.
        """
        if self._keeps_all:
            if self._world.is_first:
                save_tensors(kept_state(self._folder, self._kept), {"state": method.state_dict()})
            self._kept += 1
            return None
        if not self.has_validation:
            return None
        score = self.validation_accuracy(method, way, shot)
        if not self._best or score > self._best["score"]:
            copy = deepcopy(method.state_dict())
            self._best = {"score": score, "state": copy, "epoch": self._epoch}
        return score

    def check_budget(self) -> None:
        """Refuse a training that took images, but not those that it was given.

        Raises:
            PluginError: when it ended more than a hundredth before them.
        """
        if 0 < self._effort.images < 0.99 * self._budget:
            raise PluginError(
                f"This training was given {self._budget:,} images and took {self._effort.images:,}. Its epochs have fewer "
                "than epoch_images(config, n_images, n_classes) says, or it ended early; what is compared at equal "
                "budgets may not."
            )

    def record(self) -> dict[str, Any]:
        """What is kept of a finished training: seconds, curves, selection, effort and warnings, as JSON types."""
        selection = {}
        if self._best:
            selection = {"validation_accuracy": self._best["score"], "epoch": self._best.get("epoch", 0) + 1}
        told = {"warnings": self._warnings} if self._warnings else {}
        return {
            "seconds": self._seconds(),
            "curves": self._curves,
            "selection": selection,
            "effort": self._effort.record(),
            **told,
        }

    def close(self) -> None:
        """Leave nothing switched on, however the training ended."""
        self._effort.pause()
        self._tracked.close()

    def _look_at_losses(self) -> None:
        """Stop at the first loss that is not finite; not at every step, because each look waits for the GPU."""
        if not self._losses:
            return
        steps, losses = zip(*self._losses, strict=True)
        self._losses.clear()
        is_bad = ~torch.stack(losses).isfinite()
        if bool(is_bad.any()):
            first = int(is_bad.int().argmax())
            raise self._diverged(
                f"at step {steps[first]} of epoch {self._epoch + 1}: the loss is {float(losses[first])}"
            )

    def _diverged(self, where: str) -> PluginError:
        config = ", ".join(f"{name}={value}" for name, value in self._config.items())
        return PluginError(
            f"The training diverged {where}. The last whole epoch is kept in {self._folder}; try a smaller learning "
            f"rate. It was seed {self.seed}, {self._precision}{f', {config}' if config else ''}."
        )

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    def _save(self, epoch: int, state: Mapping[str, Stateful]) -> None:
        save_tensors(
            self._folder / "training.pt",
            {
                "format": FORMAT,
                "epoch": epoch,
                "state": {name: part.state_dict() for name, part in state.items()},
                "random": self._random_state(),
                "best": self._best,
                "kept": self._kept,
                "scaler": self._scaler.state_dict(),
                "curves": self._curves,
                "effort": self._effort.state(),
                "seconds": self._seconds(),
            },
        )

    def _resume(self, state: Mapping[str, Stateful]) -> int:
        path = self._folder / "training.pt"
        if not path.exists():
            return 0
        saved = load_tensors(path, self.device)
        if saved["format"] != FORMAT or set(saved["state"]) != set(state) or "effort" not in saved:
            raise StoreError(f"{path} is a checkpoint of another version. Delete it, or run with --force.")
        for name, part in state.items():
            part.load_state_dict(saved["state"][name])
        self._restore_random(saved["random"])
        self._kept = saved.get("kept", 0)
        self._scaler.load_state_dict(saved.get("scaler", {}))
        self._effort.restore(saved["effort"])
        self._best, self._curves, self._earlier_seconds = saved["best"], saved["curves"], saved["seconds"]
        log.info("training resumes after epoch %d", saved["epoch"])
        return int(saved["epoch"])

    def _random_state(self) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state(self.device).cpu() if self.device.type == "cuda" else None
        return {"torch": torch.get_rng_state(), "cuda": cuda, "training": self.rng.get_state()}

    def _restore_random(self, saved: Mapping[str, Any]) -> None:
        torch.set_rng_state(saved["torch"].cpu())
        self.rng.set_state(saved["training"].cpu())
        if saved["cuda"] is not None:
            torch.cuda.set_rng_state(saved["cuda"].cpu(), self.device)
