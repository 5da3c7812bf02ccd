"""Transport solvers against HiGHS, POT, their own duals, central differences and qpth."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ot.lp.emd_wrap import emd_c
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron
from torch import Tensor

from harness.errors import ConfigError, FsbenchError, MissingPackageError, TransportError
from harness.ops.node_matching import masses
from harness.ops.transport import Transport, check_installed, transport

KINDS = ("random", "degenerate", "uniform", "zero cost", "tiny masses", "zero masses", "tiny total")
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


def _problem(kind: str, n: int, m: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """One problem, (1, n, m), (1, n), (1, m) float64."""
    rng = np.random.default_rng(seed)
    cost, a, b = rng.random((n, m)) * 2, rng.random(n) + 0.1, rng.random(m) + 0.1
    if kind == "degenerate":  # many ties of costs, and of partial sums of masses
        cost, a, b = rng.integers(0, 4, (n, m)), _shares(rng, n), _shares(rng, m)
    elif kind == "uniform":
        a, b = np.ones(n), np.ones(m)
    elif kind == "zero cost":
        cost = np.zeros((n, m))
    elif kind == "tiny masses":
        a, b = a ** rng.integers(1, 40), b ** rng.integers(1, 40)
    elif kind == "zero masses":
        a, b = _with_zeros(rng, a), _with_zeros(rng, b)
    total = 1e-12 if kind == "tiny total" else 1.0
    a, b = a / a.sum() * total, b / b.sum() * total
    return tuple(torch.as_tensor(x, dtype=torch.float64)[None] for x in (cost, a, b))


def _shares(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.bincount(rng.integers(0, n, 60), minlength=n).astype(float)


def _with_zeros(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    x = x * (rng.random(len(x)) < 0.5)
    x[rng.integers(len(x))] = 1.0
    return x


def _assert_optimal(cost: Tensor, a: Tensor, b: Tensor, found: Transport) -> None:
    """Feasible flow and duals of equal value prove each other; a few roundings of float64 are allowed."""
    assert found.u is not None and found.v is not None
    total, size = float(a.sum()), float(cost.abs().max()) + 1e-300
    assert float(found.flow.min()) >= 0
    torch.testing.assert_close(found.flow.sum(2), a, rtol=0, atol=1e-14 * total)
    torch.testing.assert_close(found.flow.sum(1), b, rtol=0, atol=1e-14 * total)
    slack = cost - found.u[:, :, None] - found.v[:, None, :]
    assert float(slack.min()) >= -1e-13 * size
    assert float((slack * (found.flow > 1e-14 * total)).abs().max()) <= 1e-13 * size
    dual_value = (a * found.u).sum(1) + (b * found.v).sum(1)
    torch.testing.assert_close(found.value, dual_value, rtol=0, atol=1e-13 * size * total)


def _highs(cost: Tensor, a: Tensor, b: Tensor) -> float:
    _, n, m = cost.shape
    total = float(a.sum())
    rows, columns = kron(eye_array(n), np.ones((1, m))), kron(np.ones((1, n)), eye_array(m))
    found = linprog(
        cost[0].numpy().ravel(),
        # the last row follows from the others; rounding of masses would make it contradict them
        A_eq=np.vstack([rows.toarray(), columns.toarray()])[:-1],
        b_eq=np.concatenate([a[0].numpy(), b[0].numpy()])[:-1] / total,
        method="highs",
        options={"presolve": False},  # which finds contradictions in masses below its tolerances
    )
    assert found.status == 0, found.message
    return float(found.fun) * total


problems = st.tuples(st.sampled_from(KINDS), st.integers(1, 64), st.integers(1, 64), st.integers(0, 2**32))


@pytest.mark.parametrize("solver", ["exact", "pot"])
@given(problems)
@settings(max_examples=150, deadline=None)
def test_flow_and_duals_prove_the_optimum(solver: Any, problem: tuple[str, int, int, int]) -> None:
    cost, a, b = _problem(*problem)
    _assert_optimal(cost, a, b, transport(cost, a, b, solver))


@given(problems)
@settings(max_examples=40, deadline=None)
def test_the_value_is_that_of_a_linear_program(problem: tuple[str, int, int, int]) -> None:
    cost, a, b = _problem(*problem)
    # HiGHS ends at a vertex too, but leaves out masses below 1e-7, its tolerance of each constraint
    tolerance = (1e-6 if problem[0] == "tiny masses" else 1e-12) * float(a.sum())
    assert float(transport(cost, a, b).value) == pytest.approx(_highs(cost, a, b), abs=tolerance)


@given(problems)
@settings(max_examples=100, deadline=None)
def test_the_value_is_that_of_pot(problem: tuple[str, int, int, int]) -> None:
    cost, a, b = _problem(*problem)
    total = float(a.sum())
    expected = emd_c((a[0] / total).numpy(), (b[0] / total).numpy(), cost[0].numpy(), 1_000_000, 1)[1] * total
    assert float(transport(cost, a, b).value) == pytest.approx(expected, abs=1e-13 * total)


@pytest.mark.parametrize(("n", "m"), [(65, 64), (100, 130), (300, 40), (1, 200), (200, 200)])
@pytest.mark.parametrize("kind", KINDS)
def test_sides_above_one_word_of_the_sets_are_solved_alike(kind: str, n: int, m: int) -> None:
    cost, a, b = _problem(kind, n, m, seed=n + m)
    _assert_optimal(cost, a, b, transport(cost, a, b))


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e99])
@pytest.mark.parametrize("shift", [0.0, -1.5])
def test_costs_of_any_size_and_sign(scale: float, shift: float) -> None:
    cost, a, b = _problem("random", 12, 9, seed=3)
    cost = (cost + shift) * scale
    _assert_optimal(cost, a, b, transport(cost, a, b))


def test_a_flow_known_by_hand() -> None:
    cost = torch.tensor([[[0.0, 1.0], [2.0, 0.0]]])
    found = transport(cost, torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 2.0]]))
    assert found.flow.tolist() == [[[2.0, 1.0], [0.0, 1.0]]]
    assert found.value.tolist() == [1.0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("solver", ["exact", "pot", "opencv", "sinkhorn"])
def test_answers_have_the_common_dtype_and_the_device_of_the_inputs(solver: Any, device: str) -> None:
    cost, a, b = (x.to(device).float() for x in _problem("random", 4, 6, seed=0))
    found = transport(cost.bfloat16(), a, b, solver)
    assert found.value.shape == (1,) and found.flow.shape == (1, 4, 6)
    assert {x.dtype for x in found if x is not None} == {torch.float32}
    assert {x.device.type for x in found if x is not None} == {device}
    assert transport(cost, a, b.double(), solver).value.dtype == torch.float64
    assert (found.u is None) == (solver == "opencv")
    if found.u is not None and found.v is not None:
        assert found.u.shape == (1, 4) and found.v.shape == (1, 6)


@pytest.mark.parametrize("solver", ["exact", "pot", "opencv"])
@pytest.mark.parametrize("n_threads", [2, 3, 100])
def test_threads_change_nothing(solver: Any, n_threads: int) -> None:
    batch = [_problem("random", 25, 25, seed) for seed in range(40)]
    cost, a, b = (torch.cat(x) for x in zip(*batch, strict=True))
    one, many = (transport(cost, a, b, solver, n_threads=n) for n in (1, n_threads))
    for x, y in zip(one, many, strict=True):
        assert x is y is None or torch.equal(x, y)


def test_a_problem_does_not_depend_on_its_batch() -> None:
    batch = [_problem(kind, 7, 11, seed) for seed, kind in enumerate(KINDS)]
    together = transport(*(torch.cat(x) for x in zip(*batch, strict=True)))
    for k, (cost, a, b) in enumerate(batch):
        assert torch.equal(transport(cost, a, b).flow[0], together.flow[k])


@pytest.mark.parametrize("solver", ["exact", "pot", "opencv", "sinkhorn"])
def test_no_problem_is_no_error(solver: Any) -> None:
    found = transport(torch.zeros(0, 3, 4), torch.zeros(0, 3), torch.zeros(0, 4), solver)
    assert found.value.shape == (0,) and found.flow.shape == (0, 3, 4)


def test_inputs_need_not_be_contiguous_and_stay_as_they_are() -> None:
    cost, a, b = _problem("random", 6, 6, seed=5)
    kept = cost.clone()
    turned = transport(cost.transpose(1, 2), b, a)
    torch.testing.assert_close(turned.value, transport(cost, a, b).value, rtol=1e-13, atol=0)
    assert torch.equal(cost, kept)


@pytest.mark.parametrize("solver", ["exact", "pot"])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (3, 5), (9, 9), (13, 6)])
def test_gradients_are_central_differences(solver: Any, n: int, m: int) -> None:
    cost, a, b = (x.requires_grad_() for x in _problem("random", n, m, seed=n))

    def value(cost: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return transport(cost, masses(a), masses(b), solver).value

    # the value is linear between kinks, so differences with step 1e-6 are exact up to rounding, about 1e-9
    assert torch.autograd.gradcheck(value, (cost, a, b), atol=1e-7)


def test_gradients_are_the_flow_and_the_duals() -> None:
    cost, a, b = (x.requires_grad_() for x in _problem("random", 5, 4, seed=1))
    found = transport(cost, a, b)
    weight = torch.tensor([3.0], dtype=torch.float64)
    got = torch.autograd.grad(found.value, (cost, a, b), weight)
    for gradient, expected in zip(got, (found.flow, found.u, found.v), strict=True):
        assert torch.equal(gradient, 3 * expected)
    assert not found.flow.requires_grad


def test_the_gradient_at_a_tie_lies_between_the_one_sided_slopes() -> None:
    cost, a, b = _problem("uniform", 6, 6, seed=2)  # uniform masses: every vertex is degenerate
    a = a.requires_grad_()
    (gradient,) = torch.autograd.grad(transport(cost, masses(a), b).value.sum(), a)
    step = 1e-5
    for i in range(6):
        moved = torch.eye(6, dtype=torch.float64)[i] * step
        up, here, down = (float(transport(cost, masses(a.detach() + s * moved), b).value) for s in (1, 0, -1))
        # a convex function; second-order terms of the normalisation are below step² = 1e-10, so 1e-4 of the step
        assert (here - down) / step - 1e-4 <= float(gradient[0, i]) <= (up - here) / step + 1e-4


@pytest.mark.qpth
@pytest.mark.parametrize(("form", "tolerance"), [("L2", 1e-5), ("QP", 1e-5)])
def test_qpth_finds_the_same_gradient(form: Any, tolerance: float) -> None:
    batch = [_problem("random", 4, 5, seed) for seed in range(6)]
    inputs = [torch.cat(x).requires_grad_() for x in zip(*batch, strict=True)]

    def gradients(solver: Any) -> tuple[Tensor, ...]:
        cost, a, b = inputs
        found = transport(cost, masses(a), masses(b), solver, form=form)
        return torch.autograd.grad(found.value.sum(), inputs)

    for got, expected in zip(gradients("qpth"), gradients("exact"), strict=True):
        # its quadratic term and its last iterate leave 1e-8 to 1e-6
        assert float((got - expected).norm() / expected.norm()) < tolerance
        assert float(expected.norm()) > 0.1


@pytest.mark.qpth
def test_a_stronger_quadratic_term_spreads_the_flow_of_qpth() -> None:
    cost, a, b = _problem("random", 4, 4, seed=0)
    sharp, soft = (
        transport(cost, a, b, "qpth", l2_strength=strength).flow.square().sum() for strength in (1e-6, 10.0)
    )
    assert float(soft) < 0.8 * float(sharp)


def test_opencv_agrees_and_gives_no_gradient_to_the_masses() -> None:
    batch = [_problem("random", 9, 13, seed) for seed in range(20)]
    cost, a, b = (torch.cat(x).requires_grad_() for x in zip(*batch, strict=True))
    found, exact = transport(cost, a, b, "opencv"), transport(cost, a, b)
    # float32 and its own stopping rule: 1e-6 to 1e-5 of the largest cost
    torch.testing.assert_close(found.value, exact.value, rtol=0, atol=2e-5)
    assert torch.autograd.grad(found.value.sum(), (a, b), allow_unused=True) == (None, None)
    (gradient,) = torch.autograd.grad(transport(cost, a, b, "opencv").value.sum(), cost)
    assert torch.equal(gradient, found.flow)


class _Emd:
    """OpenCV after EMD has moved, or with a binding that returns no lower bound."""

    DIST_USER, __version__ = -1, "9"

    def __init__(self, *, at: str, returns: int) -> None:
        self.returns = returns
        setattr(self, "ximgproc" if at == "ximgproc" else "other", self)
        if at != "nowhere":
            self.EMD = self.emd

    def emd(self, rows: np.ndarray, columns: np.ndarray, kind: int, cost: np.ndarray) -> tuple[Any, ...]:
        assert kind == -1 and {x.dtype for x in (rows, columns, cost)} == {np.dtype(np.float32)}
        flow = rows @ columns.T / rows.sum()
        return ((flow * cost).sum(), flow) if self.returns == 2 else ((flow * cost).sum(), 0.0, flow)


@pytest.mark.parametrize("returns", [2, 3])
def test_both_signatures_of_opencv(monkeypatch: pytest.MonkeyPatch, returns: int) -> None:
    cost, a, b = _problem("random", 3, 4, seed=0)
    emd = _Emd(at="main", returns=returns)
    monkeypatch.setitem(sys.modules, "cv2", emd)
    torch.testing.assert_close(
        transport(cost, a, b, "opencv").flow, a[:, :, None] * b[:, None], atol=1e-7, rtol=0
    )
    moved = type("cv2", (), {"ximgproc": emd, "DIST_USER": -1})
    monkeypatch.setitem(sys.modules, "cv2", moved)
    torch.testing.assert_close(
        transport(cost, a, b, "opencv").flow, a[:, :, None] * b[:, None], atol=1e-7, rtol=0
    )
    monkeypatch.setitem(sys.modules, "cv2", _Emd(at="nowhere", returns=3))
    with pytest.raises(ConfigError, match=r"cv2\.EMD.*pip install"):
        transport(cost, a, b, "opencv")


def test_sinkhorn_nears_the_optimum_as_its_regularisation_falls() -> None:
    cost, a, b = (x for x in _problem("random", 9, 9, seed=4))
    exact = float(transport(cost, a, b).value)
    errors = [
        float(transport(cost, a, b, "sinkhorn", regularisation=r, n_iterations=3000).value) - exact
        for r in (0.3, 0.1, 0.03)
    ]
    assert errors[0] > errors[1] > errors[2] > -1e-9
    assert errors[2] < 0.03
    found = transport(cost, a, b, "sinkhorn", regularisation=0.1, n_iterations=3000)
    torch.testing.assert_close(found.flow.sum(1), b, rtol=1e-9, atol=0)
    torch.testing.assert_close(found.flow.sum(2), a, rtol=1e-6, atol=0)


def test_sinkhorn_takes_masses_of_zero() -> None:
    cost, a, b = _problem("zero masses", 6, 8, seed=1)
    found = transport(cost, a, b, "sinkhorn")
    assert all(bool(x.isfinite().all()) for x in found if x is not None)
    assert float(found.flow[0, a[0] == 0].sum()) < 1e-12


SOLVERS = ["exact", "pot", "opencv", "qpth", "sinkhorn"]
BAD: dict[str, Any] = {
    "row masses a that are negative": lambda c, a, b: (c, a - 0.6, b),
    "row masses a that are negative or no numbers": lambda c, a, b: (c, a * torch.nan, b),
    "column masses b that are negative": lambda c, a, b: (c, a, -b),
    "column masses b that are negative or no numbers": lambda c, a, b: (c, a, b / 0),
    "costs that are no numbers": lambda c, a, b: (c * torch.nan, a, b),
    "costs that are no numbers below": lambda c, a, b: (c.double() * 1e200, a, b),
    "totals of a and b that differ": lambda c, a, b: (c, a, b * 1.0001),
    "a total mass of zero": lambda c, a, b: (c, a * 0, b * 0),
    "the shapes are": lambda c, a, b: (c, b, a),
    r"cost \(B, N, M\)": lambda c, a, b: (c[0], a, b),
    "sides of at least 1": lambda c, a, b: (c[:, :0], a[:, :0], b),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("message", BAD)
def test_what_is_no_problem_is_refused(solver: Any, message: str) -> None:
    cost = torch.ones(3, 2, 4)
    a, b = torch.full((3, 2), 0.5), torch.full((3, 4), 0.25)
    with pytest.raises(TransportError, match=message) as caught:
        transport(*BAD[message](cost, a, b), solver=solver)
    assert isinstance(caught.value, FsbenchError) and isinstance(caught.value, ValueError)


@pytest.mark.timeout(60)
def test_one_nan_among_many_problems_is_found_and_named() -> None:
    cost, a, b = torch.rand(50, 8, 8), torch.full((50, 8), 0.125), torch.full((50, 8), 0.125)
    cost[37, 2, 3] = torch.nan
    a[41, 0] = -1.0
    with pytest.raises(
        TransportError, match=r"costs .* in 1 of 50 problems, first in number 37.*; row masses"
    ):
        transport(cost, a, b)


def test_totals_within_the_rounding_of_float32_are_taken() -> None:
    cost, a, b = _problem("random", 9, 9, seed=0)
    found = transport(cost, a, b * (1 + 5e-6))
    torch.testing.assert_close(found.flow.sum(2), a, rtol=0, atol=1e-14)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    cost, a, b = _problem("random", 2, 2, seed=0)
    with pytest.raises(ConfigError, match=r"`exakt` is no solver.*Did you mean `exact`.*qpth"):
        transport(cost, a, b, "exakt")
    with pytest.raises(ConfigError, match=r"`LP` is no form.*L2, QP"):
        transport(cost, a, b, form="LP")


@pytest.mark.parametrize("option", ["l2_strength", "regularisation", "n_iterations", "n_threads"])
def test_numbers_out_of_range_are_refused(option: str) -> None:
    cost, a, b = _problem("random", 2, 2, seed=0)
    with pytest.raises(ConfigError, match=f"{option}=-1"):
        transport(cost, a, b, **{option: -1})


@pytest.mark.parametrize(
    ("solver", "module", "extra"),
    [("exact", "numba", "deepemd"), ("pot", "ot.lp.emd_wrap", "deepemd"), ("qpth", "qpth.qp", "qpth")],
)
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, solver: Any, module: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, "harness.ops.transport.simplex", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    package = {"ot.lp.emd_wrap": "POT", "qpth.qp": "qpth"}.get(module, module)
    with pytest.raises(MissingPackageError, match=rf"pip install {package}`.*fsbench\[{extra}\]"):
        transport(*_problem("random", 2, 2, seed=0), solver=solver)


@pytest.mark.parametrize(
    ("solver", "module"), [("exact", "numba"), ("pot", "ot"), ("opencv", "cv2"), ("qpth", "qpth")]
)
def test_a_solver_can_be_asked_for_without_importing_it(
    monkeypatch: pytest.MonkeyPatch, solver: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=f"solver={solver} needs the package"):
        check_installed(solver)
    check_installed("sinkhorn")


@pytest.mark.skipif(find_spec("qpth") is not None, reason="qpth is installed")
def test_where_qpth_is_really_absent_it_alone_is_refused() -> None:
    with pytest.raises(
        MissingPackageError, match=r"`pip install qpth`; it belongs to the extra fsbench\[qpth\]"
    ):
        transport(*_problem("random", 2, 2, seed=0), solver="qpth")
    for solver in ("exact", "pot", "opencv"):
        check_installed(solver)


def _run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env={k: v for k, v in os.environ.items() if k != "MKL_NUM_THREADS"} | environment,  # torch follows it
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_compiled_or_imported_before_a_solver_is_asked() -> None:
    code = (
        "import sys, harness.ops.transport, harness.ops.node_matching;"
        "print({'numba', 'ot', 'qpth', 'cv2'} & set(sys.modules))"
    )
    assert _run(code).strip() == "set()"


@pytest.mark.nightly
def test_compilation_is_kept_on_disk(tmp_path: Any) -> None:
    code = (
        "import torch; from harness.ops.transport import simplex, transport;"
        "transport(torch.ones(1, 2, 2), torch.ones(1, 2), torch.ones(1, 2));"
        "print(sum(simplex.solve_many.stats.cache_hits.values()))"
    )
    found = [_run(code, NUMBA_CACHE_DIR=str(tmp_path)).strip() for _ in range(2)]
    assert found == ["0", "1"]


@pytest.mark.qpth
@pytest.mark.slow
@pytest.mark.parametrize("told", [True, False])
def test_qpth_is_right_whether_or_not_torch_was_told_its_threads_and_leaves_it_so(told: bool) -> None:
    """Batched LU of 150 rows and more is wrong after the call in some builds of torch; 13·13 variables are 169."""
    code = f"""
import re, torch
from harness.ops.transport import transport
if {told}:
    torch.set_num_threads(2)
mkl = lambda: re.findall(r"mkl_get_max_threads\\(\\) : (\\d+)", torch.__config__.parallel_info())
mkl_before = mkl()
draw = torch.Generator().manual_seed(0)
cost = torch.rand(3, 13, 13, generator=draw, dtype=torch.float64).requires_grad_()
a = torch.full((3, 13), 1 / 13, dtype=torch.float64)
b = torch.rand(3, 13, generator=draw, dtype=torch.float64)
b = b / b.sum(1, keepdim=True)
found, exact = transport(cost, a, b, "qpth"), transport(cost, a, b)
(gradient,) = torch.autograd.grad(found.value.sum(), cost)
print(float((found.value - exact.value).abs().max()), float((gradient - exact.flow).abs().max()))
print(torch.get_num_threads())
print(mkl() == mkl_before)  # its count goes on following OpenMP's where torch was told nothing
"""
    errors, threads, as_before = _run(code, OMP_NUM_THREADS="2").splitlines()
    # the quadratic term moves values by 1e-6 and flows, of 1/13 at most, by 1e-5
    assert max(map(float, errors.split())) < 1e-3
    assert threads == "2"
    assert as_before == "True"
