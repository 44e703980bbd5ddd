"""Plans: a formula compiled on a grid, as a list of linear rows. Everything that runs or analyses a sampler reads a plan.

States z_0, z_1, … are numbered along sampling, z_0 at the noise end. With K = `plan.steps`, row m produces

    z_{K+m} = sum_{j=1..K} a[m, j-1] z_{K+m-j} + sum_{j=0..K} c[m, j] eps_bar(z_{K+m-j}, node of z_{K+m-j}).

A linear multistep formula has z_s = x_bar_{N-s}. Coupled methods (EDICT) interleave their two states.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Plan:
    """Rows of a march, in float64 numpy.

    Attributes:
        name: the formula's name.
        a: (M, K) weights of the states, column j-1 for the j-th newest.
        c: (M, K+1) weights of the slopes eps_bar, column j for the j-th newest; column 0 (the state being computed) is
            non-zero in implicit rows.
        node: (M+K,) sigma_bar at which the slope of each state is taken.
        position: (M+K,) sigma_bar at which each state approximates the solution.
        index: (M+K,) the grid node that each state is the image of, N at the noise end, 0 at the data end; -1 for the others
            (coupled methods have two states to a node, and some between nodes). Several states may be images of one node.
        first, last: where, in a window of K consecutive states, the image (or noise) of the method stands: `first` when
            the window is read at the noise end of a step, `last` at its data end.
    """

    name: str
    a: Array
    c: Array
    node: Array
    position: Array
    index: Array = None  # type: ignore[assignment]
    first: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        for field in ("a", "c", "node", "position"):
            values = np.ascontiguousarray(getattr(self, field), dtype=np.float64)
            values.setflags(write=False)
            object.__setattr__(self, field, values)
        rows, steps = self.a.shape
        states = (rows + steps,)
        index = np.full(states, -1) if self.index is None else np.array(self.index, dtype=np.int64)
        index.setflags(write=False)
        object.__setattr__(self, "index", index)
        if self.c.shape != (rows, steps + 1) or any(v.shape != states for v in (self.node, self.position, index)):
            raise ValueError("a, c, node, position and index do not have matching shapes")
        if not (np.all(np.isfinite(self.a)) and np.all(np.isfinite(self.c))):
            row = int(np.flatnonzero(~(np.isfinite(self.a).all(1) & np.isfinite(self.c).all(1)))[0])
            raise ValueError(f"{self.name}: row {row} of the plan has a coefficient that is not finite on this grid")

    # ---- where it stands -----------------------------------------------------------------------------------

    @property
    def rows_per_step(self) -> int:
        """Rows that take the march from the noise end to the next grid node."""
        images = np.flatnonzero(self.index >= 0)
        return int(images[1] - images[0]) if len(images) > 1 else self.rows

    def node_at(self, window: int, image: int) -> int:
        """The grid node that a window of K consecutive states stands at, the image being its entry `image`; -1 within a step."""
        return int(self.index[window + image])

    def window_at(self, node: int, sampling: bool) -> int:
        """The window with which a march in this direction arrives at a grid node. A start that is already past it counts.

        Windows are numbered along sampling, 0 … M. Where several states are images of the node, it is the last on the way.
        """
        if sampling:
            images = self.index[self.last : self.last + self.rows + 1]
            return int(np.flatnonzero((images >= 0) & (images >= node))[-1]) if np.any(images >= node) else 0
        images = self.index[self.first : self.first + self.rows + 1]
        return int(np.flatnonzero((images >= 0) & (images <= node))[0]) if np.any((images >= 0) & (images <= node)) else self.rows

    # ---- what the rows are ---------------------------------------------------------------------------------

    @property
    def rows(self) -> int:
        """M, the number of rows."""
        return self.a.shape[0]

    @property
    def steps(self) -> int:
        """K, how many states a row reads."""
        return self.a.shape[1]

    @property
    def explicit(self) -> bool:
        """No row needs the slope of the state that it computes."""
        return not np.any(self.c[:, 0])

    @property
    def backward_solvable(self) -> bool:
        """Every row can be solved for its oldest state (a_K != 0), perhaps implicitly."""
        return bool(np.all(self.a[:, -1] != 0.0))

    @property
    def backward_explicit(self) -> bool:
        """Every row can be solved for its oldest state without knowing that state's slope."""
        return self.backward_solvable and not np.any(self.c[:, -1])

    @property
    def bidirectionally_explicit(self) -> bool:
        """Explicit both ways: exactly invertible (BELM, proposition 2 of the paper)."""
        return self.explicit and self.backward_explicit

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the rows, the nodes and the layout: equal for equal formula and grid, different otherwise."""
        digest = hashlib.sha256(f"{self.name}|{self.first}|{self.last}".encode())
        digest.update(self.index.tobytes())
        for values in (self.a, self.c, self.node, self.position):
            digest.update(str(values.shape).encode())
            digest.update((values + 0.0).tobytes())  # + 0.0 turns -0.0 into 0.0
        return digest.hexdigest()

    # ---- other plans made of it ----------------------------------------------------------------------------

    def inverse(self) -> Plan:
        """The same relations solved for the oldest state: the plan that marches from data to noise.

            z_old = ( z_new - sum_{j<K} a_j z_j - sum_j c_j eps_bar_j ) / a_K

        States are numbered along inversion, w_n = z_{M+K-1-n}. Implicit when c_K != 0 (DDIM).

        Raises:
            ValueError: some a_K is zero, so that no row gives its oldest state.
        """
        if not self.backward_solvable:
            row = int(np.flatnonzero(self.a[:, -1] == 0.0)[0])
            raise ValueError(f"{self.name} cannot be solved for its oldest state: a_{self.steps} = 0 in row {row}")
        oldest = self.a[:, -1:]
        a = np.concatenate([-self.a[:, -2::-1] if self.steps > 1 else self.a[:, :0], np.ones_like(oldest)], axis=1) / oldest
        c = -self.c[:, ::-1] / oldest
        return Plan(
            self.name,
            a[::-1],
            c[::-1],
            self.node[::-1],
            self.position[::-1],
            self.index[::-1],
            first=self.steps - 1 - self.last,
            last=self.steps - 1 - self.first,
        )

    def adjoint(self) -> Plan:
        """The rows that carry derivatives back: the transposed relations, for explicit plans.

        With d_s the derivative of a number by state z_s, J_s that of eps_bar by z_s, and g_s the number's own part at z_s,

            d_s = g_s + sum_j a[s-K+j, j-1] d_{s+j} + J_s^T sum_j c[s-K+j, j] d_{s+j},   j = 1 … K,   0 <= s-K+j < M.

        States are numbered against the march, w_n = d_{M+K-1-n}, after K zeros: row n of `a` and `c` (its column 0 is zero) gives
        w_n. A slope is not taken at the states d but is linear in them: c gives what J_s^T is applied to.

        Raises:
            ValueError: implicit rows.
        """
        if not self.explicit:
            raise ValueError(f"{self.name} is implicit: its rows have no explicit adjoint")
        count, steps = self.rows + self.steps, self.steps
        a, c = np.zeros((count, steps)), np.zeros((count, steps + 1))
        for j in range(1, steps + 1):
            states = np.arange(self.rows) + steps - j  # that the rows read as the j-th newest
            a[count - 1 - states, j - 1] = self.a[:, j - 1]
            c[count - 1 - states, j] = self.c[:, j]

        def behind(values: Array) -> Array:
            return np.concatenate([np.full(steps, values[-1]), values[::-1]])

        return Plan(self.name, a, c, behind(self.node), behind(self.position), behind(self.index))

    def rescaled(self, scale: Array) -> Plan:
        """The same plan for the scaled states scale_s z_s (scale of shape (M+K,)), slopes unscaled.

        With scale = alpha this turns x_bar into x = alpha x_bar, the scale in which predictors work.
        """
        index = np.arange(self.rows)[:, None] + self.steps - np.arange(self.steps + 1)[None, :]
        new = scale[index[:, :1]]
        return Plan(
            self.name,
            self.a * new / scale[index[:, 1:]],
            self.c * new,
            self.node,
            self.position,
            self.index,
            self.first,
            self.last,
        )

    def between(self, start: int, stop: int) -> Plan:
        """Rows start … stop-1 alone, with the states that they touch."""
        states = slice(start, stop + self.steps)
        return Plan(
            self.name,
            self.a[start:stop],
            self.c[start:stop],
            self.node[states],
            self.position[states],
            self.index[states],
            self.first,
            self.last,
        )
