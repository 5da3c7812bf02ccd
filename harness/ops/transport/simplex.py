"""The transportation simplex on a spanning tree, compiled by numba on first use and kept on disk: exact, any sides.

Nodes are the n rows, then the m columns; the last column is the root. A basis is a spanning tree of n + m − 1
cells, stored at the lower end of each. Masses are whole multiples of 2⁻⁶⁰, so that flows are exact and ties are
seen; leaving cells are chosen such that every cell without flow points to the root, which excludes cycling
(Cunningham 1976, "A network simplex method").
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

UNITS = 1 << 60
"""Whole units of mass in one problem."""
PIVOTS_PER_NODE = 200
"""Bound on the pivots; about 1 per node are usual."""
NONE = -1

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

compiled = numba.njit(nogil=True)
# Sums and minima are vectorised where their order is free; no NaN arrives here.
compiled_freely = numba.njit(nogil=True, fastmath={"nnan", "nsz", "reassoc"})


class Tree(NamedTuple):
    """A basis: arrays over the n + m nodes.

    Attributes:
        parent: (n + m,) int64, ``NONE`` at the root.
        flow: (n + m,) int64 units on the cell of a node and its parent.
        below: (n + m, words) uint64, the set of a node and all nodes below it, one bit each.
        dual: (n + m,) float64, u of the rows, then v of the columns.
        side: (n + m,) float64, 1 for rows and -1 for columns.
        child: (n + m,) int64, room for the first child of each node.
        after: (n + m,) int64, room for the next child of the same parent; at first, for the nodes as they are hung.
    """

    parent: Ints
    flow: Ints
    below: Words
    dual: Floats
    side: Floats
    child: Ints
    after: Ints


@numba.njit(cache=True, nogil=True)  # kept on disk, with all that it calls
def solve_many(cost: Floats, a: Floats, b: Floats, flow: Floats, u: Floats, v: Floats) -> int:
    """Solve B problems of unit mass one after the other, without the interpreter lock.

    Args:
        cost: (B, N, M) finite, contiguous.
        a: (B, N) ≥ 0, each row sums to 1 up to rounding.
        b: (B, M) likewise.
        flow: (B, N, M), u: (B, N), v: (B, M), float64: receive the results.

    Returns:
        How many problems were solved; fewer than B when one did not end within the bound on pivots.
    """
    n, m = cost.shape[1:]
    tree = _new_tree(n, m)
    left, keys, best = np.empty(n + m, np.int64), np.empty((n, m)), np.empty(m)
    for k in range(len(cost)):
        _share_out(a[k], b[k], left)
        _start(cost[k], left, keys, tree)
        if not _improve(cost[k], tree, best):
            return k
        _read(tree, b[k], flow[k], u[k], v[k])
    return len(cost)


@compiled
def _new_tree(n: int, m: int) -> Tree:
    side = np.ones(n + m)
    side[n:] = -1.0
    return Tree(
        np.empty(n + m, np.int64),
        np.empty(n + m, np.int64),
        np.empty((n + m, (n + m + 63) // 64), np.uint64),
        np.empty(n + m),
        side,
        np.empty(n + m, np.int64),
        np.empty(n + m, np.int64),
    )


@compiled
def _share_out(a: Floats, b: Floats, left: Ints) -> None:
    """Masses in whole units, the same total on both sides; a column has one at least (the rule of `_pivot`)."""
    n, total, largest = len(a), 0, len(a)
    for i in range(n):
        left[i] = np.int64(np.rint(a[i] * UNITS))
        total += left[i]
    for j in range(len(b)):
        left[n + j] = max(np.int64(np.rint(b[j] * UNITS)), 1)
        total -= left[n + j]
        if left[n + j] > left[largest]:
            largest = n + j
    left[largest] += total


@compiled
def _start(cost: Floats, left: Ints, keys: Floats, tree: Tree) -> None:
    """First basis: the cheapest cells of the doubly centred costs, each filled as far as it goes.

    The side that ends hangs below the other. Where both end, it is the column, so that the cell has flow if it
    points away from the root, but the row if the root already hangs below either.
    """
    n, m = cost.shape
    within = _keys(cost, keys)
    lowest, low = np.empty(n), np.empty(1)  # key of each open row, of the next cell
    bits, bits_of_low = lowest.view(np.int64), low.view(np.int64)
    for i in range(n):
        lowest[i] = _minimum(keys[i])
    tree.below[:] = 0
    for node in range(n + m):
        tree.below[node, node >> 6] = np.uint64(1) << np.uint64(node & 63)
    above_root = top = n + m - 1
    for step in range(n + m - 1):
        low[0] = _minimum(lowest)
        cell = bits_of_low[0] & within
        row, top = cell // m, n + cell % m
        root_is_near = above_root in (row, top)
        if left[row] < left[top] or (left[row] == left[top] and root_is_near):
            above_root = _hang(row, top, above_root, left, tree)
            tree.after[step] = row
            lowest[row] = np.inf
        else:
            above_root = _hang(top, row, above_root, left, tree)
            tree.after[step] = top
            _close_column(cell % m, m, within, keys, lowest, bits)
    tree.parent[top], tree.dual[top] = NONE, 0.0  # the last cell's totals are equal: its column is left
    for step in range(n + m - 2, -1, -1):  # parents hung after their children
        _value_one(tree.after[step], cost, tree)
    _turn(n + m - 1, tree)


@compiled_freely
def _keys(cost: Floats, keys: Floats) -> int:
    """Costs less the means of row and column (up to a constant), with their cell written into the last bits.

    So the cell of a minimum is known without a search. The mask of those bits is returned.
    """
    n, m = cost.shape
    mean = np.zeros(m)
    for i in range(n):
        for j in range(m):
            mean[j] += cost[i, j] / n
    within = 1
    while within < n * m:
        within *= 2
    within -= 1
    bits = keys.view(np.int64)
    for i in range(n):
        total = 0.0
        for j in range(m):
            total += cost[i, j]
        for j in range(m):
            keys[i, j] = cost[i, j] - mean[j] - total / m
        for j in range(m):
            bits[i, j] = (bits[i, j] & ~within) | (i * m + j)
    return within


@compiled_freely
def _minimum(values: Floats) -> float:
    best = np.inf
    for k in range(len(values)):
        best = min(best, values[k])
    return best


@compiled
def _hang(node: int, parent: int, above_root: int, left: Ints, tree: Tree) -> int:
    """Give all that is left of a node to its new parent; returns the open node above the root."""
    tree.parent[node], tree.flow[node] = parent, left[node]
    left[parent] -= left[node]
    for w in range(tree.below.shape[1]):
        tree.below[parent, w] |= tree.below[node, w]
    return parent if above_root == node else above_root


@compiled
def _close_column(j: int, m: int, within: int, keys: Floats, lowest: Floats, bits: Ints) -> None:
    for i in range(len(lowest)):
        keys[i, j] = np.inf
        if bits[i] & within == i * m + j and lowest[i] < np.inf:
            lowest[i] = _minimum(keys[i])


@compiled
def _turn(root: int, tree: Tree) -> None:
    """Turn the path from a node to the top around: the node becomes the root."""
    node, above, flow_above = root, NONE, 0
    while node != NONE:
        parent, flow = tree.parent[node], tree.flow[node]
        tree.parent[node], tree.flow[node] = above, flow_above
        node, above, flow_above = parent, node, flow
    node = above  # the old top: what its new parent keeps is no longer below it
    while node != root:
        parent = tree.parent[node]
        for w in range(tree.below.shape[1]):
            whole = tree.below[node, w]
            tree.below[node, w] = whole & ~tree.below[parent, w]
            tree.below[parent, w] = whole
        node = parent


@compiled
def _value(cost: Floats, tree: Tree) -> None:
    """Duals from the tree: u + v = cost on each of its cells."""
    n_nodes, child, after = len(tree.parent), tree.child, tree.after
    child[:], after[n_nodes - 1] = NONE, NONE
    for node in range(n_nodes - 1):
        parent = tree.parent[node]
        after[node], child[parent] = child[parent], node
    node = n_nodes - 1
    tree.dual[node] = 0.0
    while True:  # parents before children
        if child[node] != NONE:
            node = child[node]
        else:
            while after[node] == NONE:
                node = tree.parent[node]
                if node == NONE:
                    return
            node = after[node]
        _value_one(node, cost, tree)


@compiled
def _value_one(node: int, cost: Floats, tree: Tree) -> None:
    n, parent = len(cost), tree.parent[node]
    cell = cost[node, parent - n] if node < n else cost[parent, node - n]
    tree.dual[node] = cell - tree.dual[parent]


@compiled
def _improve(cost: Floats, tree: Tree, best: Floats) -> bool:
    """Pivot until no cell is cheaper than its duals; False when that takes too many pivots."""
    n, m = cost.shape
    tolerance = _largest(cost) * (n + m) * np.finfo(np.float64).eps  # rounding of a sum along the tree
    is_fresh = True  # duals come from the tree, not from updates of them
    for _ in range(PIVOTS_PER_NODE * (n + m)):
        row, column, reduced = _entering(cost, tree.dual, best)
        if reduced < -tolerance:
            _pivot(row, column, reduced, tree)
            is_fresh = False
        elif not is_fresh:
            _value(cost, tree)
            is_fresh = True
        else:
            return True
    return False


@compiled_freely
def _largest(cost: Floats) -> float:
    best = 0.0
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            best = max(best, abs(cost[i, j]))
    return best


@compiled_freely
def _entering(cost: Floats, dual: Floats, best: Floats) -> tuple[int, int, float]:
    """Nodes and value of the most negative reduced cost, cost − u − v."""
    n, m = cost.shape
    best[:] = np.inf  # of each column, without its dual
    for i in range(0, n, 2):  # two rows at a time: half as many ways through memory
        after = min(i + 1, n - 1)
        one, other = dual[i], dual[after]
        for j in range(m):
            best[j] = min(best[j], min(cost[i, j] - one, cost[after, j] - other))
    low, column = np.inf, 0
    for j in range(m):
        if best[j] - dual[n + j] < low:
            low, column = best[j] - dual[n + j], j
    row = 0
    for i in range(n):
        if cost[i, column] - dual[i] <= best[column]:
            row = i
    return row, n + column, low


@compiled
def _pivot(row: int, column: int, reduced: float, tree: Tree) -> None:
    """Let a cell enter: push flow around its cycle until a cell is empty, and hang what that cuts off below it.

    Of several emptied cells the last one leaves, met from the top of the cycle in the direction of the flow.
    """
    pushed, leaving, is_above_row = np.int64(UNITS), NONE, True
    top = row
    while (tree.below[top, column >> 6] >> np.uint64(column & 63)) & np.uint64(1) == 0:
        if tree.side[top] > 0 and tree.flow[top] < pushed:
            pushed, leaving = tree.flow[top], top
        top = tree.parent[top]
    node = column
    while node != top:
        if tree.side[node] < 0 and tree.flow[node] <= pushed:
            pushed, leaving, is_above_row = tree.flow[node], node, False
        node = tree.parent[node]
    _push(row, top, pushed, tree)
    _push(column, top, -pushed, tree)
    node, parent = (row, column) if is_above_row else (column, row)
    _revalue(leaving, reduced * tree.side[node], tree)
    _move_sets(node, parent, leaving, top, tree)
    _rehang(node, parent, leaving, pushed, tree)


@compiled
def _push(node: int, top: int, pushed: int, tree: Tree) -> None:
    """Take flow from the cells of rows and add it to those of columns, from a node up to the top of the cycle."""
    while node != top:
        tree.flow[node] -= pushed if tree.side[node] > 0 else -pushed
        node = tree.parent[node]


@compiled
def _revalue(cut: int, step: float, tree: Tree) -> None:
    """Raise the rows and lower the columns below a node."""
    n_nodes = len(tree.dual)
    for w in range(tree.below.shape[1]):
        nodes, first = tree.below[cut, w], 64 * w
        for k in range(min(64, n_nodes - first)):
            if (nodes >> np.uint64(k)) & np.uint64(1) != 0:
                tree.dual[first + k] += step * tree.side[first + k]


@compiled
def _move_sets(node: int, parent: int, cut: int, top: int, tree: Tree) -> None:
    """What is below whom once ``node`` hangs below ``parent`` and the tree is cut above ``cut``."""
    for w in range(tree.below.shape[1]):
        moved = tree.below[cut, w]
        above = parent
        while above != top:
            tree.below[above, w] |= moved
            above = tree.parent[above]
        above = tree.parent[cut]
        while above != top:
            tree.below[above, w] &= ~moved
            above = tree.parent[above]
        kept, x = np.uint64(0), node
        while True:
            own = tree.below[x, w]
            tree.below[x, w] = moved & ~kept
            if x == cut:
                break
            kept, x = own, tree.parent[x]


@compiled
def _rehang(node: int, parent: int, cut: int, flow: int, tree: Tree) -> None:
    """Turn the path from a node up to ``cut`` around and hang the node below its new parent."""
    while True:
        old_parent, old_flow = tree.parent[node], tree.flow[node]
        tree.parent[node], tree.flow[node] = parent, flow
        if node == cut:
            return
        node, parent, flow = old_parent, node, old_flow


@compiled
def _read(tree: Tree, b: Floats, flow: Floats, u: Floats, v: Floats) -> None:
    """Flow and duals of the basis; a column without mass gives back the unit it was lent."""
    n = len(u)
    flow[:] = 0.0
    for node in range(len(tree.parent) - 1):
        parent = tree.parent[node]
        i, j = (node, parent - n) if node < n else (parent, node - n)
        if b[j] > 0:
            flow[i, j] = tree.flow[node] / UNITS
    u[:] = tree.dual[:n]
    v[:] = tree.dual[n:]
