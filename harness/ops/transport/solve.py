"""Batched optimal transport as a function with a gradient, by one of five solvers."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.autograd import Function

from harness.errors import ConfigError, TransportError, nearest
from harness.ops.transport.solvers import Floats, exact, opencv, pot, quadratic, sinkhorn

Solver = Literal["exact", "pot", "opencv", "qpth", "sinkhorn"]
"""Who solves; see ``transport``."""
Form = Literal["L2", "QP"]
"""What qpth minimises: C·X + l2_strength·|X|²/2, or (C·X)²/2 + 1e-4·|X|²/2."""

BALANCE = 1e-5
"""Largest relative difference between the two totals: rounding of sums in float32."""
LARGEST_COST = 1e100
"""Costs lie below, so that sums of them are finite."""
CELLS_PER_THREAD = 5_000
"""Fewer are solved sooner than a thread starts: 8 problems of 25×25."""

HOST: dict[str, Callable[[Floats, Floats, Floats, Floats, Floats, Floats], None]] = {
    "exact": exact,
    "pot": pot,
    "opencv": opencv,
}


class Transport(NamedTuple):
    """Solutions of B transport problems; the dtype is the inputs' common one, at least float32.

    Attributes:
        value: (B,) Σ cost·flow, with gradient.
        flow: (B, N, M) ≥ 0, a constant for the gradient (but not with qpth).
        u: (B, N) dual of the row masses, u_i + v_j ≤ cost_ij with equality where there is flow; fixed up to one
            shift of u against v. ``None`` from solvers that give no duals (opencv, qpth).
        v: (B, M) dual of the column masses, or ``None``.
    """

    value: Tensor
    flow: Tensor
    u: Tensor | None
    v: Tensor | None


def transport(
    cost: Tensor,
    a: Tensor,
    b: Tensor,
    solver: Solver = "exact",
    *,
    form: Form = "L2",
    l2_strength: float = 1e-6,
    regularisation: float = 0.01,
    n_iterations: int = 500,
    n_threads: int | None = None,
) -> Transport:
    """Minimise Σ cost·flow over flow ≥ 0 whose row sums are a and whose column sums are b.

    The gradient is that of the optimal value (envelope theorem): flow for the cost, u for a, v for b. Masses move
    only together, so u and v count up to one shift, which the normalisation of masses cancels. Solvers:

    - ``exact``: simplex of this package, float64, any sides; values to 1e-14.
    - ``pot``: network simplex of POT, float64; the same values and gradients, slower.
    - ``opencv``: cv2.EMD, float32, as the authors of DeepEMD evaluate: values to about 1e-6, no duals, so the
      gradient reaches the cost alone.
    - ``qpth``: the authors' differentiable layer, see ``Form``; the flow itself is differentiated, as there. No
      duals; minutes and several dense (N·M)² matrices per problem at 25×25.
    - ``sinkhorn``: entropic, in log domain on the tensors' device. At unit mass and DeepEMD's costs of 9×9 to 25×25
      the value is off by 0.005 to 0.009 with the defaults, by 0.01 to 0.02 at (0.02, 200) and 0.03 to 0.05 at
      (0.05, 100) (regularisation, n_iterations); at (0.02, 500) the flow is off by 60 % and the gradient of the
      masses by 12 to 18 % of their length. More iterations do not help: the entropy does it.

    ``exact``, ``pot`` and ``opencv`` work on the host, wherever the tensors are.

    Args:
        cost: (B, N, M) float, finite, any sign; B may be 0, N and M may not.
        a: (B, N) float ≥ 0 with a positive sum.
        b: (B, M) float ≥ 0; sums equal those of a within 1e-5 of it, and are scaled to them.
        solver: see above.
        form: of qpth alone.
        l2_strength: of qpth's form L2 alone, > 0 (the authors': 1e-6).
        regularisation: of sinkhorn alone, in units of the cost, > 0.
        n_iterations: of sinkhorn alone, ≥ 1.
        n_threads: of the host's solvers, ≥ 1; as many as torch uses by default.

    Returns:
        The solutions.

    Raises:
        TransportError: shapes that do not fit, masses or costs that are no numbers, unequal totals.
        ConfigError: an unknown solver or form, or a package that is not there.

    >>> cost = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> found = transport(cost, torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]]))
    >>> found.value, found.flow
    (tensor([0.2500]), tensor([[[0.2500, 0.2500],
             [0.0000, 0.5000]]]))
    """
    _check_choice("solver", solver, get_args(Solver))
    _check_choice("form", form, get_args(Form))
    _check_positive(
        l2_strength=l2_strength, regularisation=regularisation, n_iterations=n_iterations, n_threads=n_threads
    )
    if solver == "qpth":
        problem = _checked(cost, a, b)
        unit = problem.unit
        return _by_flow(problem, quadratic(unit.cost.double(), unit.a, unit.b, form, l2_strength))
    with torch.no_grad():
        problem = _checked(cost, a, b)
        if solver == "sinkhorn":
            unit = Unit(*(x.to(problem.dtype) for x in problem.unit))
            solution = sinkhorn(unit.cost, unit.a, unit.b, regularisation, n_iterations)
        else:
            solution = _on_the_host(problem.unit, HOST[solver], n_threads or torch.get_num_threads())
    return _by_value(problem, *(x.to(cost.device, torch.float64) for x in solution), solver=solver)


class Unit(NamedTuple):
    """Problems of unit mass: cost (B, N, M) as it was asked, a (B, N) and b (B, M) float64."""

    cost: Tensor
    a: Tensor
    b: Tensor


class Problem(NamedTuple):
    """What was asked, and the same at unit mass."""

    cost: Tensor
    a: Tensor
    b: Tensor
    unit: Unit
    total: Tensor
    """(B,) float64 mass of each problem."""
    dtype: torch.dtype
    """Of the answer."""


class _Value(Function):
    """Σ cost·flow at the optimum; its gradient is the flow for the cost and the duals for the masses."""

    @staticmethod
    def forward(
        ctx: Any,
        cost: Tensor,
        a: Tensor,
        b: Tensor,
        value: Tensor,
        flow: Tensor,
        u: Tensor | None,
        v: Tensor | None,
    ) -> Tensor:
        ctx.save_for_backward(flow, u, v)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        flow, u, v = ctx.saved_tensors
        each = gradient[:, None]  # (B, 1)
        of_masses = (None, None) if u is None else (each * u, each * v)
        return each[:, :, None] * flow, *of_masses, None, None, None, None


def _by_value(problem: Problem, flow: Tensor, u: Tensor, v: Tensor, *, solver: Solver) -> Transport:
    """The solution with the gradient of the optimal value; ``flow`` is ours to change."""
    unit, total = problem.unit, problem.total
    if solver in ("exact", "pot"):  # equal at the optimum, and N + M products for N·M
        value = (unit.a * u).sum(1) + (unit.b * v).sum(1)  # (B,)
    else:
        value = (unit.cost.detach() * flow).sum(dim=(1, 2))
    value, flow = value * total, flow.mul_(total[:, None, None])
    duals = (None, None) if solver == "opencv" else (u, v)
    value = _Value.apply(problem.cost, problem.a, problem.b, value, flow, *duals)  # type: ignore[no-untyped-call]
    answer = (None if x is None else x.to(problem.dtype) for x in duals)
    return Transport(value.to(problem.dtype), flow.to(problem.dtype), *answer)


def _by_flow(problem: Problem, flow: Tensor) -> Transport:
    """The solution with the gradient through the flow itself."""
    flow = flow * problem.total[:, None, None]
    value = (problem.unit.cost * flow).sum(dim=(1, 2))  # (B,)
    return Transport(value.to(problem.dtype), flow.to(problem.dtype), None, None)


def _on_the_host(unit: Unit, solve: Callable[..., None], n_threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Share the problems out over Python threads; the solvers leave the interpreter lock."""
    cost, n_problems = unit.cost.detach(), len(unit.cost)
    a, b = unit.a.cpu().contiguous(), unit.b.cpu().contiguous()
    flow, u, v = (torch.empty(shape, dtype=torch.float64) for shape in (cost.shape, a.shape, b.shape))
    n_parts = max(1, min(n_threads, n_problems, flow.numel() // CELLS_PER_THREAD))
    ends = [n_problems * part // n_parts for part in range(n_parts + 1)]

    def solve_part(start: int, end: int) -> None:
        costs = cost[start:end].cpu().double().contiguous()
        solve(costs.numpy(), *(x[start:end].numpy() for x in (a, b, flow, u, v)))

    if n_parts == 1:
        solve_part(0, n_problems)
        return flow, u, v
    with ThreadPoolExecutor(n_parts - 1) as threads:
        others = [threads.submit(solve_part, *part) for part in pairwise(ends[1:])]
        solve_part(*ends[:2])
        for other in others:
            other.result()
    return flow, u, v


def _check_choice(name: str, chosen: str, known: tuple[str, ...]) -> None:
    if chosen not in known:
        raise ConfigError(
            f"`{chosen}` is no {name} of transport.{nearest(chosen, known)} Known: {', '.join(known)}."
        )


def _check_positive(**numbers: float | None) -> None:
    wrong = [f"{name}={number}" for name, number in numbers.items() if number is not None and not number > 0]
    if wrong:
        raise ConfigError(f"transport was asked for {', '.join(wrong)}; such numbers are above 0.")


def _checked(cost: Tensor, a: Tensor, b: Tensor) -> Problem:
    """The problems at unit mass, once all of them have a solution."""
    if cost.ndim != 3 or 0 in cost.shape[1:] or a.shape != cost.shape[:2] or b.shape != cost.shape[::2]:
        shapes = ", ".join(f"{tuple(x.shape)}" for x in (cost, a, b))
        raise TransportError(
            f"transport takes cost (B, N, M), a (B, N) and b (B, M) with sides of at least 1; the shapes are {shapes}."
        )
    dtype = torch.float32
    for x in (cost, a, b):
        dtype = torch.promote_types(dtype, x.dtype)
    rows, columns = a.double(), b.double()
    total, other = rows.detach().sum(1), columns.detach().sum(1)  # (B,)
    _check_numbers(cost.detach(), rows.detach(), columns.detach(), total, other)
    # The optimum grows with the masses, so the divisors are constants for the gradient.
    unit = Unit(cost, rows / total[:, None], columns / other[:, None])
    return Problem(cost, a, b, unit, total, dtype)


def _check_numbers(cost: Tensor, a: Tensor, b: Tensor, total: Tensor, other: Tensor) -> None:
    """Refuse what has no solution; a comparison with NaN is false."""
    if len(cost) == 0:
        return
    low, high = (x.double() for x in cost.aminmax())
    is_fine = (low > -LARGEST_COST) & (high < LARGEST_COST) & (a.amin() >= 0) & (b.amin() >= 0)
    is_fine &= (total.amin() > 0) & ((total - other).abs() <= BALANCE * total).all() & total.amax().isfinite()
    if not is_fine:
        raise TransportError(_faults(cost, a, b, total, other))


def _faults(cost: Tensor, a: Tensor, b: Tensor, total: Tensor, other: Tensor) -> str:
    """All that is wrong with the problems, in words."""
    is_bad = {
        f"costs that are no numbers below {LARGEST_COST:g}": ~(
            cost.abs().amax((1, 2)).double() < LARGEST_COST
        ),
        "row masses a that are negative or no numbers": ~((a.amin(1) >= 0) & a.sum(1).isfinite()),
        "column masses b that are negative or no numbers": ~((b.amin(1) >= 0) & b.sum(1).isfinite()),
        "a total mass of zero": total <= 0,
        "totals of a and b that differ": (total - other).abs() > BALANCE * total,
    }
    found = []
    for what, bad in is_bad.items():
        numbers = torch.nonzero(bad).flatten().tolist()
        if numbers:
            first = numbers[0]
            sums = f"sums {float(total[first]):.9g} and {float(other[first]):.9g}"
            found.append(
                f"{what} in {len(numbers)} of {len(cost)} problems, first in number {first} ({sums})"
            )
    return (
        f"transport was asked for problems that have no solution: {'; '.join(found)}. Masses are numbers ≥ 0 with "
        f"equal sums (within {BALANCE:g} of them; normalise in float64: `masses(weights)` of "
        "harness.ops.node_matching does); a NaN usually comes from features of a diverged training."
    )
