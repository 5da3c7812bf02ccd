"""Five ways to solve transport problems of unit mass; ``transport`` checks what they are given and names them.

The solvers of the host fill arrays, problem by problem, and leave the interpreter lock, so that threads share the
work. Packages are imported by the solver that needs them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from harness.errors import ConfigError, MissingPackageError, TransportError

Floats = NDArray[np.float64]
POT_PIVOTS = 10_000_000
"""POT's own default, 100,000, is too few for sides of some hundreds."""


class Package(NamedTuple):
    """What a solver is made of: the module, the package that brings it, and the extra of fsbench that names it."""

    module: str
    name: str
    extra: str


PACKAGES = {
    "exact": Package("numba", "numba", "deepemd"),
    "pot": Package("ot", "POT", "deepemd"),
    "opencv": Package("cv2", "opencv-python-headless", "deepemd"),
    "qpth": Package("qpth", "qpth", "qpth"),
}


def check_installed(solver: str) -> None:
    """See that the package of a solver is there, without importing it: before a training that would ask for it.

    Raises:
        MissingPackageError: it is not; says what to type.
    """
    package = PACKAGES.get(solver)
    if package is not None and find_spec(package.module) is None:
        raise MissingPackageError(_missing(solver, package, f"there is no module {package.module}"))


def exact(cost: Floats, a: Floats, b: Floats, flow: Floats, u: Floats, v: Floats) -> None:
    """Solve by the simplex of this package.

    Args:
        cost: (B, N, M) contiguous.
        a: (B, N), b: (B, M), each row of unit mass.
        flow: (B, N, M), u: (B, N), v: (B, M): receive the solutions.
    """
    simplex = _import("harness.ops.transport.simplex", "exact")
    n_solved = simplex.solve_many(cost, a, b, flow, u, v)
    if n_solved < len(cost):
        raise TransportError(_unsolved("exact", cost[n_solved], "it did not end within 200 pivots per node"))


def pot(cost: Floats, a: Floats, b: Floats, flow: Floats, u: Floats, v: Floats) -> None:
    """Solve by POT's network simplex, without its Python wrapper; arguments as those of ``exact``."""
    emd_c = _import("ot.lp.emd_wrap", "pot").emd_c
    flow[:] = 0.0
    for k in range(len(cost)):
        rows, columns = np.flatnonzero(a[k]), np.flatnonzero(b[k])  # it gives no duals of masses of zero
        cells = np.ix_(rows, columns)
        found, _, of_rows, of_columns, code = emd_c(
            a[k, rows], b[k, columns], np.ascontiguousarray(cost[k][cells]), POT_PIVOTS, 1
        )
        if code != 1:
            raise TransportError(_unsolved("pot", cost[k], f"POT's result code is {code}"))
        flow[k][cells] = found
        u[k] = (cost[k][:, columns] - of_columns).min(axis=1)  # (N,) the largest feasible ones
        u[k, rows] = of_rows
        v[k] = (cost[k] - u[k][:, None]).min(axis=0)  # (M,)
        v[k, columns] = of_columns


def opencv(cost: Floats, a: Floats, b: Floats, flow: Floats, u: Floats, v: Floats) -> None:
    """Solve by cv2.EMD in float32 at total mass N, as DeepEMD's authors do; arguments as those of ``exact``.

    There are no duals: ``u`` and ``v`` stay as they are.
    """
    emd, user_cost = _opencv_emd()
    n = cost.shape[1]
    costs, rows, columns = (x.astype(np.float32) for x in (cost, a * n, b * n))
    for k in range(len(cost)):
        # (cost, bound, flow), or (cost, flow) where the binding has no bound
        found = emd(rows[k][:, None], columns[k][:, None], user_cost, costs[k])[-1]  # (N, M)
        flow[k] = found / n


def quadratic(cost: Tensor, a: Tensor, b: Tensor, form: str, l2_strength: float) -> Tensor:
    """Solve by qpth's interior point method; the flow has a gradient with respect to all three arguments.

    The masses are scaled to N in all, where the authors' strengths of the quadratic term apply.

    Args:
        cost: (B, N, M) float64.
        a: (B, N), b: (B, M) float64 of unit mass.
        form: "L2" or "QP".
        l2_strength: of form L2.

    Returns:
        (B, N, M) float64 flow.
    """
    n = cost.shape[1]
    flow: Tensor = _OneThread.apply(cost, a * n, b * n, form, l2_strength)  # type: ignore[no-untyped-call]
    return flow / n


def sinkhorn(
    cost: Tensor, a: Tensor, b: Tensor, regularisation: float, n_iterations: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Solve approximately by Sinkhorn's iteration in log domain (Cuturi 2013); see ``transport`` for its error.

    Args:
        cost: (B, N, M) float.
        a: (B, N), b: (B, M) of unit mass.
        regularisation: weight of the entropy, > 0.
        n_iterations: updates of both duals, ≥ 1.

    Returns:
        Flow (B, N, M), whose column sums are b while its row sums are only near a, and duals (B, N), (B, M).
    """
    tiny = torch.finfo(cost.dtype).tiny
    log_a, log_b, scaled = a.clamp(min=tiny).log(), b.clamp(min=tiny).log(), cost / regularisation
    u, v = torch.zeros_like(a), torch.zeros_like(b)
    for _ in range(n_iterations):
        u = log_a - torch.logsumexp(v[:, None, :] - scaled, dim=2)  # (B, N)
        v = log_b - torch.logsumexp(u[:, :, None] - scaled, dim=1)  # (B, M)
    flow = (u[:, :, None] + v[:, None, :] - scaled).exp()  # (B, N, M)
    return flow, u * regularisation, v * regularisation


class _OneThread(Function):
    """The quadratic flow and its gradient, both on one thread."""

    @staticmethod
    def forward(ctx: Any, cost: Tensor, a: Tensor, b: Tensor, form: str, l2_strength: float) -> Tensor:
        cost, a, b = (x.detach().requires_grad_() for x in (cost, a, b))
        with _one_thread(), torch.enable_grad():
            flow = _quadratic_flow(cost, a, b, form, l2_strength)
        ctx.inputs, ctx.flow = (cost, a, b), flow
        return flow.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        with _one_thread():
            return (*torch.autograd.grad(ctx.flow, ctx.inputs, gradient, retain_graph=True), None, None)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hold this thread's linear algebra at one thread, and leave torch as it was.

    After torch.set_num_threads(k > 1), batched LU of about 150 rows and more is wrong or hangs in builds of torch
    with MKL, in every thread and for good. So that call is made only where it was made before, which shows in
    MKL: its own count of threads no longer follows OpenMP's.
    """
    threadpoolctl = _import("threadpoolctl", "qpth")
    before = torch.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        found = re.search(r"mkl_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())
        if found is None or int(found[1]) == 1:
            yield
            return
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _quadratic_flow(cost: Tensor, a: Tensor, b: Tensor, form: str, l2_strength: float) -> Tensor:
    """Least quadratic cost over flow ≥ 0, row sums ≤ a, column sums ≤ b, all mass moved."""
    n, m = cost.shape[1:]
    solve = _import("qpth.qp", "qpth").QPFunction(verbose=-1, check_Q_spd=False)
    identity = torch.eye(n * m, dtype=cost.dtype, device=cost.device)  # (N·M, N·M)
    linear = cost.flatten(1)  # (B, N·M)
    if form == "L2":
        curvature = l2_strength * identity
    else:
        curvature = linear[:, :, None] * linear[:, None, :] + 1e-4 * identity  # (B, N·M, N·M)
        linear = torch.zeros_like(linear)
    cells = identity.unflatten(1, (n, m))  # (N·M, N, M)
    bounded = torch.cat([-identity, cells.sum(2).T, cells.sum(1).T])  # (N·M + N + M, N·M)
    bounds = torch.cat([torch.zeros_like(linear), a, b], dim=1)  # (B, N·M + N + M)
    total = torch.minimum(a.sum(1), b.sum(1))[:, None]  # (B, 1)
    flow: Tensor = solve(curvature, linear, bounded, bounds, torch.ones_like(identity[:1]), total)
    return flow.unflatten(1, (n, m))  # (B, N, M)


def _opencv_emd() -> tuple[Callable[..., Any], int]:
    """EMD of the main module, or of ximgproc, where OpenCV moves it; and the constant for costs of the user."""
    cv2 = _import("cv2", "opencv")
    for module in (cv2, getattr(cv2, "ximgproc", None)):
        if hasattr(module, "EMD"):
            return module.EMD, cv2.DIST_USER  # type: ignore[union-attr]
    raise ConfigError(
        f"solver=opencv needs cv2.EMD, which OpenCV {cv2.__version__} does not have. Type `pip install "
        "'opencv-python-headless<5'`, or take solver=exact."
    )


def _import(module: str, solver: str) -> Any:
    try:
        return import_module(module)
    except ImportError as reason:
        raise MissingPackageError(_missing(solver, PACKAGES[solver], str(reason))) from reason


def _missing(solver: str, package: Package, reason: str) -> str:
    return (
        f"solver={solver} needs the package {package.name}, which cannot be imported: {reason}. Type `pip install "
        f"{package.name}`; it belongs to the extra fsbench[{package.extra}]."
    )


def _unsolved(solver: str, cost: Floats, why: str) -> str:
    n, m = cost.shape
    return (
        f"solver={solver} found no solution of a {n}×{m} problem: {why}. Its costs run from {cost.min():g} to "
        f"{cost.max():g}; take solver={'pot' if solver == 'exact' else 'exact'}, or scale them."
    )
