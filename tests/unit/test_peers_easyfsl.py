"""easy-few-shot-learning's methods through a wrapper, on the same features and episodes as ours.

The wrapper counts what a direct call of each of the eleven counts. Beside ours: equal accuracy, to the last digit, where the
definitions are the same; where they are not, what differs. FEAT, matching and relation networks have networks of their own
and are compared with their vectors elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.backbones.torchvision_import import import_torchvision
from harness.benchmarks.sampling import sample
from harness.evaluation.protocols import EPISODIC
from harness.method import registry

N_CLASSES, N_IMAGES, D = 12, 30, 32
EPISODES = {shot: sample([N_IMAGES] * N_CLASSES, 5, shot, 10, 40, seed=shot) for shot in (1, 5)}


class Table:
    """Features ≥ 0 by row, as after a ReLU."""

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(0)
        centre = torch.randn(N_CLASSES, 1, D, generator=rng)
        self.rows = (centre + 1.6 * torch.randn(N_CLASSES, N_IMAGES, D, generator=rng)).relu().flatten(0, 1)

    def take(self, rows: np.ndarray) -> Tensor:
        return self.rows[torch.from_numpy(rows)]


class Wrapped:
    """A method of theirs as one of ours."""

    @dataclass(frozen=True)
    class Config:
        """None."""

    name, version = "wrapped", "1"

    def __init__(self, peer: str, **options: Any) -> None:
        import_torchvision()
        from easyfsl import methods

        torch.manual_seed(0)  # of networks of their own
        made = {name: option() if callable(option) else option for name, option in options.items()}
        self.method = getattr(methods, peer)(nn.Identity(), **made).eval()

    def adapt(self, support: Any) -> Any:
        self.method.process_support_set(support.x, support.y)
        return None

    def predict(self, state: Any, query: Tensor) -> Tensor:
        return self.method(query.clone()).nan_to_num(0.0)


def accuracy(method: Any, shot: int) -> np.ndarray:
    """Of each episode."""
    episodes = EPISODES[shot]
    return (EPISODIC.predict(method, episodes, Table(), seed=0) == episodes.query_label).mean(axis=1)


def ours(head: str, **config: Any) -> Any:
    cls = registry.load(head).cls
    return cls(cls.Config(**config), nn.Identity())


L2 = {"feature_normalization": 2}
SIDE = 2  # of the maps that a row of features is taken for, where a method wants maps


def attention() -> nn.Module:
    from easyfsl.modules import MultiHeadAttention

    return MultiHeadAttention(1, D, D, D)


PEERS: dict[str, dict[str, Any]] = {
    "BDCSPN": L2,
    "FEAT": {"attention_module": attention},
    "Finetune": {**L2, "fine_tuning_steps": 20, "fine_tuning_lr": 0.01},
    "LaplacianShot": L2,
    "MatchingNetworks": {"feature_dimension": D},
    "PTMAP": L2,  # without unit length it has no numbers, see below
    "PrototypicalNetworks": {},
    "RelationNetworks": {"feature_dimension": D // SIDE**2},
    "SimpleShot": L2,
    "TIM": {**L2, "fine_tuning_steps": 20},
    "TransductiveFinetuning": {**L2, "fine_tuning_steps": 10, "fine_tuning_lr": 0.01},
}


class Maps(Table):
    def take(self, rows: np.ndarray) -> Tensor:
        return super().take(rows).unflatten(1, (-1, SIDE, SIDE))


def test_these_are_all_of_them() -> None:
    import_torchvision()
    from easyfsl import methods

    offered = {name for name, entry in vars(methods).items() if isinstance(entry, type)}
    assert offered - {"FewShotClassifier"} == set(PEERS)


@pytest.mark.parametrize("shot", EPISODES)
@pytest.mark.parametrize("peer", PEERS)
def test_the_wrapper_has_the_accuracy_of_a_direct_call(peer: str, shot: int) -> None:
    """As their own evaluation calls a method: one object, episode after episode, queries by class."""
    n, table = 10, Maps() if peer == "RelationNetworks" else Table()
    episodes = EPISODES[shot][:n]
    given = EPISODIC.predict(Wrapped(peer, **PEERS[peer]), episodes, table, seed=0)
    theirs, label = Wrapped(peer, **PEERS[peer]).method, torch.arange(5).repeat_interleave(shot)
    for i, right in enumerate((given == episodes.query_label).mean(axis=1)):
        episode = episodes[i]
        with torch.no_grad():
            theirs.process_support_set(table.take(episode.support.ravel()), label)
            scores = theirs(table.take(episode.query.ravel()))
        assert scores.isfinite().all()
        hits = scores.argmax(1).numpy() == np.arange(5).repeat(10)
        assert hits.mean() == right


AGREE = [  # theirs, its options, ours, its values
    ("PrototypicalNetworks", {}, "centroid", {"normalise": "un"}),
    ("PrototypicalNetworks", L2, "centroid", {"normalise": "l2n"}),
    ("Finetune", L2, "finetune", {}),
    ("Finetune", {}, "finetune", {"normalise": "un"}),
    ("Finetune", {**L2, "fine_tuning_steps": 50, "temperature": 10.0}, "finetune", {"steps": 50, "temperature": 10.0}),
    ("TransductiveFinetuning", L2, "transductive-finetune", {"likeness": "distance", "temperature": 1.0}),
    (
        "TransductiveFinetuning", {**L2, "fine_tuning_steps": 10, "fine_tuning_lr": 1e-4, "temperature": 10.0},
        "transductive-finetune", {"likeness": "distance", "steps": 10, "lr": 1e-4, "temperature": 10.0},
    ),
    ("TIM", L2, "tim", {"solver": "gd", "steps": 50, "ce": 1.0, "likeness": "cosine", "temperature": 10.0}),
    (
        "TIM", {**L2, "fine_tuning_lr": 1e-3, "conditional_entropy_weight": 0.5}, "tim",
        {"solver": "gd", "steps": 50, "lr": 1e-3, "ce": 1.0, "conditional": 0.5, "likeness": "cosine", "temperature": 10.0},
    ),
]  # fmt: skip


@pytest.mark.parametrize("shot", EPISODES)
@pytest.mark.parametrize(("peer", "options", "head", "config"), AGREE)
def test_equal_definitions_have_equal_accuracy_to_the_last_digit(
    shot: int, peer: str, options: dict[str, Any], head: str, config: dict[str, Any]
) -> None:
    np.testing.assert_array_equal(
        accuracy(Wrapped(peer, **options), shot), accuracy(ours(head, **config), shot)
    )


@pytest.mark.parametrize("shot", EPISODES)
def test_their_simpleshot_is_the_cosine_rule_and_ours_the_euclidean_of_the_paper(shot: int) -> None:
    theirs, mine = (
        accuracy(Wrapped("SimpleShot", **L2), shot),
        accuracy(ours("centroid", normalise="l2n"), shot),
    )
    if shot == 1:  # a mean of one has unit length, and both rules are one
        np.testing.assert_array_equal(theirs, mine)
    else:
        assert 0 < np.abs(theirs - mine).max() < 0.2


DIFFER = [  # what differs is in the docstring of ours, and in the specification of theirs
    (
        "BDCSPN",
        "bd-cspn",
        {"normalise": "l2n"},
    ),  # exp(cos) without the 10, weights that sum to 1, a final cosine
    (
        "LaplacianShot",
        "laplacianshot",
        {"normalise": "l2n", "strength": 0.7},
    ),  # their prototypes, unshifted queries
]


@pytest.mark.parametrize("shot", EPISODES)
@pytest.mark.parametrize(("peer", "head", "config"), DIFFER)
def test_other_definitions_have_other_labels_and_nearly_the_accuracy(
    shot: int, peer: str, head: str, config: dict[str, Any]
) -> None:
    theirs, mine = accuracy(Wrapped(peer, **L2), shot), accuracy(ours(head, **config), shot)
    assert (theirs != mine).any() and abs(theirs.mean() - mine.mean()) < 0.05


def test_where_their_pt_map_has_no_numbers_ours_has_or_says_why() -> None:
    import_torchvision()
    from easyfsl.methods import PTMAP

    table, episode = Table(), EPISODES[1][0]
    support, query = table.take(episode.support.ravel()) * 40, table.take(episode.query) * 40
    label = torch.arange(5)
    with torch.no_grad():
        method = PTMAP(nn.Identity())
        method.process_support_set(support, label)
        assert bool(method(query).isnan().any()), (
            "exp(-10 d²) of features without unit length is 0 for a whole row"
        )
        from harness.api import EpisodeBatch

        found = ours("pt-map").predict_batch(EpisodeBatch(support[None, :, None], query[None], []))
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found.sum(1), torch.full((1, 5), query.shape[0] / 5.0), rtol=1e-4, atol=1e-4)
