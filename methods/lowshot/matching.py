"""Matching networks (Vinyals et al., NIPS 2016, arXiv:1606.04080) on the features of another fit.

Support and queries are encoded in the context of the whole support, and a query goes to the label whose support has most
of its attention. The encoders are trained on base classes: in each step every class brings a few examples and one query.
Jointly (Hariharan and Girshick 2017), base classes bring a hundred random examples each and novel ones are repeated until
they have as many. ``--set context=false`` is the form without encoders, ``readout=sum`` that of FEAT's repository.

What differs: easyfsl adds 1e-6 to a label's attention and lets a query read the support once for each support image
(``n_reads=none``). An episode's classes are read in an order drawn for it, as in training, since a fixed one favours some
labels; an experiment's novel examples are in the order of classes and draws, where theirs are sorted by file.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.api import Backbone, BaseSet, EpisodeBatch, FitContext, Later, Support
from harness.ops.attention import ContextEncoder, attention_scores, plain_attention_scores, row_normalised
from harness.ops.softmax_regression import draw_distinct
from methods.lowshot.recipe import MATCHING, MatchingConfig, Table

_STEPS_AN_EPOCH = 250


class Memory(NamedTuple):
    """An encoded support: (E, n, D) and its labels (E, n)."""

    support: Tensor
    label: Tensor
    n_way: int


class MatchingNetwork(nn.Module):
    """Attention of a query over all support, both encoded in context."""

    Config: ClassVar[type[Any]] = MatchingConfig
    name: ClassVar[str] = "matching-network"
    version: ClassVar[str] = "1"
    takes: ClassVar[str] = "vectors"
    protocols: ClassVar[set[str]] = {"episodic", "joint"}
    reference: ClassVar[str] = """@inproceedings{vinyals2016matching,
      title={Matching Networks for One Shot Learning},
      author={Vinyals, Oriol and Blundell, Charles and Lillicrap, Timothy and Kavukcuoglu, Koray and Wierstra, Daan},
      booktitle={Advances in Neural Information Processing Systems},
      year={2016},
      eprint={1606.04080},
      archivePrefix={arXiv},
    }"""
    CONTRACT: ClassVar[dict[str, Any]] = {
        "features": "representation(aux=none)", "n_steps": 100, "train_way": None, "decay_every": 50, "base_per_class": 5,
    }  # fmt: skip
    DEFAULTS: ClassVar[Table] = MATCHING

    def __init__(self, config: MatchingConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config = config
        self.encoder = Later(ContextEncoder, "support_lstm.weight_ih_l0", axis=1)

    def fit_base(self, base: BaseSet, ctx: FitContext) -> None:
        """Train the encoders on base classes; without context there are none."""
        c = self.config
        x, y = ctx.features(ctx.require(c.features))
        x = x.flatten(1)
        if not c.context:
            return
        encoder = self.encoder.of(x.shape[1]).to(ctx.device)
        optimiser = torch.optim.SGD(encoder.parameters(), c.lr, c.momentum, c.dampening, c.weight_decay)
        schedule = torch.optim.lr_scheduler.StepLR(optimiser, c.decay_every, 0.1)
        rows = torch.arange(len(y)).split(y.bincount().tolist())  # of each class
        n_epochs = -(-c.n_steps // _STEPS_AN_EPOCH)
        for epoch in ctx.epochs(n_epochs, model=self, optimiser=optimiser, schedule=schedule):
            seen = []
            for _ in range(min(_STEPS_AN_EPOCH, c.n_steps - epoch * _STEPS_AN_EPOCH)):
                support, label, query = _draw_step(rows, c.train_way or len(rows), c.most_shots, ctx.rng)
                memory = self._encode(x[support][None].to(ctx.device), label[None].to(ctx.device), len(query))
                scores = self._scores(memory, x[query][None].to(ctx.device))[0]  # (m, m)
                target = torch.arange(len(query), device=ctx.device)
                loss = functional.cross_entropy(scores, target)  # of log-probabilities, their own soft-max
                ctx.backward(loss)
                ctx.step(optimiser)
                schedule.step()
                seen.append(torch.stack([loss.detach(), (scores.argmax(1) == target).to(loss).mean()]))
            points = dict(zip(("loss", "train_accuracy"), torch.stack(seen).mean(0).tolist(), strict=True))
            ctx.log(min((epoch + 1) * _STEPS_AN_EPOCH, c.n_steps), **points)

    def adapt(self, support: Support) -> Memory:
        """Encode the support, class by class; jointly, so much of every class."""
        if support.base is not None:
            x, y = _balanced(support, self.config.base_per_class)
        else:
            place = torch.randperm(support.n_way, generator=support.rng).argsort()  # of each class
            order = place.to(support.y.device)[support.y].argsort(stable=True)
            x, y = support.x[order], support.y[order]
        return self._encode(x[None], y[None], support.n_way)

    def predict(self, state: Memory, query: Tensor) -> Tensor:
        """Log attention of each label; labels without support are below all others: (n_query, n_way)."""
        scores = self._scores(state, query[None])[0]
        return scores.clamp(min=torch.finfo(scores.dtype).min)

    def predict_batch(self, batch: EpisodeBatch) -> Tensor:
        """Do both for many episodes: (E, n_query, n_way)."""
        n_episodes, n_way, shot = batch.support.shape[:3]
        classes = torch.stack([torch.randperm(n_way, generator=g) for g in batch.rng]).to(
            batch.support.device
        )
        x = batch.support[torch.arange(n_episodes, device=classes.device)[:, None], classes]  # (E, W, S, D)
        label = classes.repeat_interleave(shot, dim=1)  # (E, W·S)
        return self._scores(self._encode(x.flatten(1, 2), label, n_way), batch.query)

    def _encode(self, x: Tensor, label: Tensor, n_way: int) -> Memory:
        return Memory(self.encoder.made.support(x) if self.config.context else x, label, n_way)

    def _scores(self, memory: Memory, query: Tensor) -> Tensor:
        """(E, Q, D) → (E, Q, n_way)."""
        c, support = self.config, memory.support
        if c.context:
            n_reads = support.shape[1] if c.n_reads is None else c.n_reads
            query = self.encoder.made.query(query, support, n_reads)
        read = attention_scores if c.readout == "attention" else plain_attention_scores
        return read(query, row_normalised(support), memory.label, memory.n_way)


def _draw_step(
    rows: tuple[Tensor, ...], way: int, most_shots: int, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw classes in random order, 1 to ``most_shots`` examples of each and one query, which may be among them.

    Returns:
        rows (n,) of the support, by class, and their labels (n,); rows (m,) of the queries.
    """
    classes = torch.randperm(len(rows), generator=rng)[:way].tolist()
    shots = (1 + torch.randint(most_shots, (len(classes),), generator=rng)).tolist()
    support, query = [], []
    for c, shot in zip(classes, shots, strict=True):
        own = rows[c]
        support.append(own[torch.randperm(len(own), generator=rng)[:shot].sort().values])
        query.append(own[torch.randint(len(own), (1,), generator=rng)])
    sizes = torch.tensor([len(own) for own in support])
    return torch.cat(support), torch.arange(len(classes)).repeat_interleave(sizes), torch.cat(query)


def _balanced(support: Support, n: int) -> tuple[Tensor, Tensor]:
    """The support of a joint experiment: n random images of each base class, then the novel ones as often as makes n."""
    base = support.base
    assert base is not None
    counts = base.y.unique_consecutive(return_counts=True)[1].tolist()
    starts = torch.tensor([0, *counts]).cumsum(0).tolist()
    rows = torch.cat([
        start + draw_distinct(count, min(n, count), 1, support.rng)[0] for start, count in zip(starts, counts, strict=False)
    ])  # fmt: skip
    repeats = -(-n // int(support.y.bincount().max()))
    x = torch.cat([base.take(rows), support.x.repeat(repeats, 1)])
    return x, torch.cat([base.y[rows.to(base.y.device)], support.y.repeat(repeats)])
