"""One training: base images, a method with fresh weights, and what the harness gives it on the way."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Any

import torch

from harness import benchmarks
from harness.images.augmentations import ORIGINALS
from harness.images.full import FullPictures
from harness.images.stores import ImageStore, WholePictures
from harness.method import Learns, hyper
from harness.method.length import epoch_images
from harness.runs import badges
from harness.runs.spec import FitSpec
from harness.runs.starts import starts_from
from harness.seeding import stream, torch_generator
from harness.system import provenance
from harness.system.progress import Progress
from harness.training import pretrained, selection
from harness.training.base_set import BaseSet
from harness.training.build import Workplace, open_role
from harness.training.checkpoints import Fit
from harness.training.fit_context import FitContext, Requires
from harness.training.processes import ALONE, World
from harness.training.validation import ClosedValidator, Validator


def train(
    method: Any, fit: FitSpec, at: Workplace, required: Requires, world: World = ALONE
) -> dict[str, Any]:
    """Train a method on base classes, or go on with its training; novel images stay closed.

    Args:
        method: with fresh weights; trained afterwards.
        fit: what it depends on.
        at: where.
        required: the fits it is built on.
        world: the processes that train together; the first of them keeps the fit.

    Returns:
        The record of the training: seconds, curves, selection, and what it saw.
    """
    kept, benchmark = Fit(at.places.cache, fit.fit_key), benchmarks.named(fit.benchmark)
    torch.manual_seed(stream(fit.seed, "training"))
    rng = torch_generator(fit.seed, "training")
    ctx = FitContext(
        kept.folder, device=at.device, rng=rng, seed=fit.seed, precision=fit.precision,
        validate=validator(fit, "validation", at, required) if "validation" in fit.data_digest else None,
        progress=at.progress, keeps_all=fit.select_on == "novel", world=world, config=fit.values(), required=required,
        is_compiled=fit.is_compiled, budget=fit.budget,
    )  # fmt: skip
    if isinstance(method, torch.nn.Module):
        method.train()
    cls: type[Any] = type(method)
    with benchmarks.novel_closed(), closing(ctx):
        store = open_role(fit, "base", at)
        whole = _whole(store, fit, at.progress) if fit.cut_from else None
        both = partial(_with_validation, fit, benchmark, at)
        with closing(
            BaseSet(
                store,
                fit.pipeline,
                at.device,
                rng,
                ctx.tick,
                world,
                whole,
                fit.augmentation,
                both,
                ctx.is_spent,
            )
        ) as base:
            if isinstance(method, Learns):
                settled = hyper.from_json(cls.Config, fit.values())
                ctx.expect(epoch_images(cls, settled, base.n_images, base.n_classes))
                method.fit_base(base, ctx)
    ctx.check_budget()
    record = ctx.record()
    if not world.is_first:
        return record
    if fit.select_on == "novel":
        novel = validator(fit, "novel", at, required)
        record["selection"] = selection.select(method, kept.folder, novel, fit.n_way, fit.shot)
    if starts_from(fit.config):
        record["pretrained"] = pretrained.facts(fit.backbone, at.places.data)
    record["machine"] = provenance.numerics(at.device)
    kept.finish(method, {**record, "saw": badges.saw(fit, benchmark)})
    return kept.record()


def validator(fit: FitSpec, role: benchmarks.RoleName, at: Workplace, required: Requires) -> Validator:
    """What scores states of a training on images of a role, as its benchmark's protocol asks."""
    benchmark, store = benchmarks.named(fit.benchmark), open_role(fit, role, at)
    frozen = required.source if fit.encoder else None
    if not benchmark.is_closed:
        return Validator(fit, store, benchmark.seed, at.device, frozen)
    if role == "novel":
        return ClosedValidator(fit, [store], benchmark.test_images(), at.device, frozen)
    return ClosedValidator.on_validation(fit, open_role(fit, "base", at), store, at.device, frozen)


def _with_validation(
    fit: FitSpec, benchmark: benchmarks.Benchmark, at: Workplace
) -> tuple[ImageStore, WholePictures | FullPictures | None]:
    store = benchmark.open_with_validation(at.places.data, fit.pipeline, fit.image_size)
    return store, _whole(store, fit, at.progress) if fit.cut_from else None


def _whole(store: ImageStore, fit: FitSpec, progress: Progress) -> WholePictures | FullPictures:
    """The base images uncropped; decoded when a training asks for them first."""
    told = [0]

    def tell(n_done: int, n: int) -> None:
        if not told[0]:
            progress.begin("decode", n, "pictures")
        progress.advance(n_done - told[0])
        told[0] = n_done
        if n_done == n:
            progress.end()

    return store.full(tell) if fit.cut_from == ORIGINALS else store.whole(fit.cut_from, tell, fit.pipeline)
