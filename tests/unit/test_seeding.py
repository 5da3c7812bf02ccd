"""Named streams: the same numbers everywhere, another stream for every name, nothing global."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.seeding import numpy_generator, stream, torch_generator

NAMES = st.lists(st.text(alphabet="abcdefgh -0123456789", min_size=1, max_size=8), min_size=1, max_size=3)


def test_streams_are_the_locked_ones() -> None:
    # A run's identity holds its seed alone, so these numbers may never move.
    assert stream(0, "training") == 7_494_043_774_905_425_518
    assert stream(7, "episode", 123) == 7_254_923_930_362_548_841


def test_a_stream_is_the_head_of_a_sha256_without_its_last_bit() -> None:
    head = hashlib.sha256(b"fsbench/7/episode/123").hexdigest()[:16]
    assert stream(7, "episode", 123) == int(head, 16) // 2


@given(st.integers(0, 2**31), NAMES)
def test_streams_fit_every_generator(seed: int, names: list[str]) -> None:
    assert 0 <= stream(seed, *names) < 2**63
    torch_generator(seed, *names)
    numpy_generator(seed, *names)


@given(st.integers(0, 2**31), NAMES, st.integers(0, 2**31), NAMES)
def test_other_names_or_seeds_are_other_streams(seed: int, a: list[str], other: int, b: list[str]) -> None:
    assert (stream(seed, *a) == stream(other, *b)) == ((seed, a) == (other, b))


def test_the_episodes_of_a_run_and_the_seeds_of_an_episode_differ() -> None:
    seeds = {stream(seed, "episode", i) for seed in range(20) for i in range(500)}
    assert len(seeds) == 20 * 500


def test_a_generator_begins_anew_each_time_it_is_opened() -> None:
    assert torch.equal(
        torch.rand(5, generator=torch_generator(3, "x")), torch.rand(5, generator=torch_generator(3, "x"))
    )
    assert (numpy_generator(3, "x").random(5) == numpy_generator(3, "x").random(5)).all()
    assert not (numpy_generator(3, "x").random(5) == numpy_generator(3, "y").random(5)).any()


def test_generators_are_of_the_kinds_that_keep_their_bits() -> None:
    assert isinstance(numpy_generator(0, "x").bit_generator, np.random.Philox)
    generator = torch_generator(0, "x")
    assert generator.device.type == "cpu"
    assert generator.initial_seed() == stream(0, "x")


def test_opening_a_stream_leaves_global_randomness_alone() -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 -- what must not move
    torch.rand(3, generator=torch_generator(0, "x"))
    numpy_generator(0, "x").random()
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002 -- as above


def test_seeding_needs_neither_torch_nor_numpy_before_a_generator_is_opened() -> None:
    code = (
        "import sys, harness.seeding as s; s.stream(0, 'x'); assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
