"""Heads beside easy-few-shot-learning's: episodes a second on the same features, one thread each.

Prints a table, in processor time. Theirs classify one episode after another, as they are used; ours many at once, in their definition where
we have it (steps, logits and weights of fine-tuning and TIM) and in our own else. Logistic regression is beside
scikit-learn's, as RFS calls it. Turns alternate, medians are shown.

Networks of their own are not trained, and both sides have the same weights: theirs is given our LSTMs (and the order in
which ours reads an episode's classes), a copy of our attention, and for relation networks our module, since their own
pools otherwise. Those compare maps of 7×7, conv4's at 28 pixels without its last two pools, and are left out at the 640
channels of ResNet-12, whose maps of 21×21 are 10¹² multiplications an episode in the first convolution of theirs.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"  # before torch is there

import itertools
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import torch
from sklearn.linear_model import LogisticRegression as Sklearn
from torch import Tensor, nn

from harness.api import EpisodeBatch, l2_normalise
from harness.backbones import build
from harness.backbones.torchvision_import import import_torchvision
from harness.evaluation.protocols import AT_ONCE, GATHERED_BYTES
from harness.method import registry, traits
from harness.ops.sinkhorn import power_transform, unit_and_centred

WAY, N_QUERY = 5, 15
BACKBONES = {64: ("conv4", 28), 640: ("resnet12", 84)}  # by the width of their features
WIDTHS = tuple(BACKBONES)
MAP_WIDTHS, SIDE = (64,), 7  # channels and side of maps
N_TURNS, OURS, FEW, THEIRS = 3, 256, 64, 8  # episodes a turn
L2 = {"feature_normalization": 2}


def encoders(head: Any, width: int) -> dict[str, Any]:
    """The networks of our matching network, as theirs takes them."""
    made = head.encoder.of(width)
    return {
        "feature_dimension": width,
        "support_encoder": made.support_lstm,
        "query_encoder": made.query_cell,
    }


def attention(head: Any, width: int) -> dict[str, Any]:
    """Their attention with the weights of ours."""
    from easyfsl.modules import MultiHeadAttention

    module = MultiHeadAttention(1, width, width, width)
    module.load_state_dict(head.block.state_dict())
    return {"attention_module": module}


def relations(head: Any, width: int) -> dict[str, Any]:
    """Our relation module on pairs of maps, as theirs calls it."""
    own = head.relation
    layers = own.layer1, own.layer2, nn.Flatten(), own.fc1, nn.ReLU(), own.fc2, nn.Sigmoid()
    return {"feature_dimension": width, "relation_module": nn.Sequential(*layers)}


class Beside(NamedTuple):
    """One of our heads, and what does the same elsewhere.

    Attributes:
        options: of theirs.
        networks: gives further ones, the networks, from our head and the width of features.
        side: of the maps that both take; 0 for vectors.
        n: episodes of ours a turn.
    """

    head: str
    config: dict[str, Any]
    peer: str
    options: dict[str, Any]
    networks: Callable[[Any, int], dict[str, Any]] | None = None
    side: int = 0
    n: int = OURS


PAIRS = (
    Beside("centroid", {"normalise": "un"}, "PrototypicalNetworks", {}),
    Beside("centroid", {"normalise": "l2n"}, "SimpleShot", L2),
    Beside("bd-cspn", {"normalise": "l2n"}, "BDCSPN", L2),
    Beside("laplacianshot", {"normalise": "l2n", "strength": 0.7}, "LaplacianShot", L2),
    Beside("pt-map", {"steps": 10}, "PTMAP", L2),
    Beside("finetune", {}, "Finetune", L2),
    Beside(
        "transductive-finetune", {"likeness": "distance", "temperature": 1.0}, "TransductiveFinetuning", L2
    ),
    Beside(
        "tim",
        {"solver": "gd", "steps": 50, "ce": 1.0, "likeness": "cosine", "temperature": 10.0},
        "TIM",
        L2,
    ),
    Beside("matching-network", {"n_reads": None}, "MatchingNetworks", {}, encoders, n=FEW),
    Beside("feat", {}, "FEAT", {}, attention),
    Beside("relation-network", {"pool": "mean"}, "RelationNetworks", {}, relations, SIDE, FEW),
    Beside("logistic", {}, "scikit-learn", {}),
)


def episodes(width: int, shot: int, n: int, side: int = 0) -> tuple[Tensor, Tensor]:
    """Features as after a ReLU: supports (E, W, S, *F) and queries (E, W·Q, *F); F is D, or D and twice the side of maps."""
    rng = torch.Generator().manual_seed(shot)
    shape = (width, side, side) if side else (width,)
    centre = torch.randn(n, WAY, 1, *shape, generator=rng)
    x = (centre + 1.5 * torch.randn(n, WAY, shot + N_QUERY, *shape, generator=rng)).relu()
    return x[:, :, :shot].contiguous(), x[:, :, shot:].flatten(1, 2)


def generators(n: int) -> list[torch.Generator]:
    """One for each episode."""
    return [torch.Generator().manual_seed(i) for i in range(n)]


def our_head(pair: Beside, width: int) -> Any:
    """Ours as at test, with fresh weights where it has weights."""
    cls = registry.load(pair.head).cls
    torch.manual_seed(0)
    head = cls(cls.Config(**pair.config), build(*BACKBONES[width]))
    return head.eval() if isinstance(head, nn.Module) else head


def their_method(pair: Beside, head: Any, width: int) -> Any:
    """Theirs, with the weights of ours; None for scikit-learn's."""
    if pair.peer == "scikit-learn":
        return None
    import_torchvision()
    from easyfsl import methods

    networks = pair.networks(head, width) if pair.networks else {}
    method = getattr(methods, pair.peer)(nn.Identity(), **pair.options, **networks).eval()
    if pair.peer == "PTMAP":  # theirs neither centres nor normalises: give its solver what ours prepares
        method.compute_features = lambda x: x
    return method


def ours(head: Any, support: Tensor, query: Tensor, rng: list[torch.Generator]) -> Tensor:
    """Predictions (E, W·Q) of all episodes, as many at once as a run gives a head."""
    each = support[0].nbytes + query[0].nbytes
    at_once = traits(type(head)).episode_batch or max(1, min(AT_ONCE, GATHERED_BYTES // each))
    parts = [slice(i, i + at_once) for i in range(0, len(support), at_once)]
    with torch.no_grad():
        scores = [head.predict_batch(EpisodeBatch(support[i], query[i], rng[i])) for i in parts]
        return torch.cat([x.argmax(-1) for x in scores])


def in_our_order(support: Tensor) -> tuple[Tensor, Tensor]:
    """Supports (E, W, S, D) by class as our matching network reads them, and their labels (E, W·S)."""
    order = torch.stack([torch.randperm(WAY, generator=g) for g in generators(len(support))])  # (E, W)
    ordered = support[torch.arange(len(support))[:, None], order]
    return ordered, order.repeat_interleave(support.shape[2], dim=1)


def prepared(support: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """As PT-MAP's authors prepare features."""
    x, query = (power_transform(side) for side in (support.flatten(1, 2), query))
    x, query = unit_and_centred(x, query)
    return x.unflatten(1, support.shape[1:3]), query


def theirs(pair: Beside, method: Any, support: Tensor, query: Tensor) -> Tensor:
    """The same, one episode after another."""
    label = torch.arange(WAY).repeat_interleave(support.shape[2]).expand(len(support), -1)  # (E, W·S)
    if pair.peer == "scikit-learn":
        s, q = l2_normalise(support.flatten(1, 2)).numpy(), l2_normalise(query).numpy()
        fitted = (Sklearn(C=1.0, max_iter=1000).fit(x, label[0]) for x in s)
        return torch.stack([torch.from_numpy(one.predict(x)) for one, x in zip(fitted, q, strict=True)])
    if pair.peer == "PTMAP":
        support, query = prepared(support, query)
    if pair.peer == "MatchingNetworks":
        support, label = in_our_order(support)
    found = []
    for s, y, q in zip(support, label, query, strict=True):
        with torch.no_grad():
            method.process_support_set(s.flatten(0, 1), y)
            found.append(method(q).argmax(-1))
    return torch.stack(found)


def seconds(work: Callable[..., Tensor], *given: Any) -> float:
    """Processor time of one call: on a busy machine the clock runs ahead of the work."""
    start = time.process_time()
    work(*given)
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    print(
        f"{'head':24}{'beside':24}{'D':>5}{'shot':>5}{'ours/s':>10}{'theirs/s':>10}{'ratio':>8}{'same labels':>13}"
    )
    for pair in PAIRS:
        for width, shot in itertools.product(MAP_WIDTHS if pair.side else WIDTHS, (1, 5)):
            head = our_head(pair, width)
            method = their_method(pair, head, width)
            support, query = episodes(width, shot, pair.n, pair.side)
            few, rng = (support[:THEIRS], query[:THEIRS]), generators(pair.n)
            mine, other = ours(head, *few, rng[:THEIRS]), theirs(pair, method, *few)  # warms both up
            same = (mine == other).float().mean().item()
            turns = [
                (
                    seconds(ours, head, support, query, rng) / pair.n,
                    seconds(theirs, pair, method, *few) / THEIRS,
                )
                for _ in range(N_TURNS)
            ]
            show(pair, width, shot, turns, same)


def show(pair: Beside, width: int, shot: int, turns: list[tuple[float, float]], same: float) -> None:
    """Print one line of the table from the seconds an episode of each turn, ours and theirs."""
    mine, other = median(a for a, _ in turns), median(b for _, b in turns)
    rates = f"{1 / mine:10,.0f}{1 / other:10,.0f}{other / mine:7.0f}×{same:13.1%}"
    print(f"{pair.head:24}{pair.peer:24}{width:5}{shot:5}{rates}", flush=True)


if __name__ == "__main__":
    main()
