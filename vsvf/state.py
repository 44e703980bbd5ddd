"""States: the k newest states of a march, where they stand, and how they came there. The latent of a k-step method."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.errors import StateFileError
from vsvf.files import write_atomically
from vsvf.fixed import unit
from vsvf.plan import Plan

if TYPE_CHECKING:
    import torch

    from vsvf.formula import Formula
    from vsvf.grid import Grid

FORMAT = "vsvf-state-3"


@dataclass(frozen=True)
class Scales:
    """What the integers of a fixed-point state mean.

    Attributes:
        fraction_bits, data_range: as asked for (`vsvf.Fixed`), so that the same scales are planned again.
        exponents: of the k states; their reals are z 2^-e.
        key: SHA-256 of the rows and scales of the whole run (`vsvf.fixed.BitPlan`).
    """

    fraction_bits: int | None
    data_range: float
    exponents: tuple[float, ...]
    key: str


@dataclass(frozen=True)
class Record:
    """What is known of a state besides its numbers.

    Attributes:
        formula, fingerprint: name and SHA-256 of the plan that it belongs to.
        schedule: fingerprint of the predictor's schedule, "" where no predictor made it.
        window: index of the oldest state (in sampling order) among the plan's states; 0 at the noise end.
        node: index of the grid node reached, N at the noise end, 0 at the data end.
        sigma_bar: of that node.
        direction: "sampling" or "inversion", how it was reached.
        image: which of the k states is the image (or noise).
        arithmetic: the numbers used, as in `sample(arithmetic=…)`.
        starter: the starter used, "" when the march went on from a state.
        nfe: evaluations of eps in the march that made it.
        residual: of an iterative inverse, the last relative change; 0 for explicit marches.
        scales: of fixed-point numbers, else None.
        notes: the caller's own, kept in the file: anything that JSON can hold.
    """

    formula: str
    fingerprint: str
    window: int
    node: int
    sigma_bar: float
    direction: str
    image: int
    arithmetic: str
    schedule: str = ""
    starter: str = ""
    nfe: int = 0
    residual: float = 0.0
    scales: Scales | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Plan, window: int, direction: str, arithmetic: str, **more: Any) -> Record:
        """The record of the K states that begin at `window` of a plan.

        Raises:
            ValueError: the window stands within a step of a coupled method.
        """
        image = plan.last if direction == "sampling" else plan.first
        node = plan.node_at(window, image)
        if node < 0:
            raise ValueError(f"{plan.name} stands within a step (row {window}): take the rows up to the next node")
        position = float(plan.position[window + image])
        return cls(plan.name, plan.fingerprint, window, node, position, direction, image, arithmetic, **more)


@dataclass(frozen=True)
class State:
    """k consecutive states of a march, (k, B, …), oldest first in sampling order, in the predictor's scale x = alpha x_bar.

    `sample` and `invert` go on from a state as if they had never stopped; a bidirectionally explicit method returns from it
    exactly (to rounding). In fixed-point arithmetic the values are int64, and the tape holds the bits set aside (`vsvf.fixed`).

    Attributes:
        values: the states. record: where they stand and how they came there. tape: row -> bits set aside.
        graph: of a fixed-point state that was asked for a gradient, its values as float64 with their graph: integers have none.
            A file does not keep it.
    """

    values: torch.Tensor
    record: Record
    tape: dict[int, torch.Tensor] = field(default_factory=dict)
    graph: torch.Tensor | None = None

    @classmethod
    def at(cls, end: str, values: torch.Tensor, formula: Formula | str, grid: Grid) -> State:
        """A state of k values that the caller has: exact ones, another solver's, or states that were changed on purpose.

        Args:
            end: "noise" or "data", where the values stand.
            values: (k, B, …) floating, in the predictor's scale x = alpha x_bar, oldest first in sampling order: at the k first
                or the k last of `formula.plan(grid).position` (nodes N, N-1, … or …, 1, 0 for a linear multistep formula).
            formula, grid: with which `sample` and `invert` will go on.

        Raises:
            ValueError: another `end`, values that are not floating, or not k of them.
        """
        from vsvf import formulas

        if end not in ("noise", "data"):
            raise ValueError(f"end must be 'noise' or 'data', got {end!r}")
        plan = (formulas.by_name(formula) if isinstance(formula, str) else formula).plan(grid)
        if len(values) != plan.steps or values.ndim < 3 or not values.is_floating_point():
            raise ValueError(
                f"values must be {plan.steps} floating states (k, B, …) for {plan.name}, got {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        window, direction = (0, "inversion") if end == "noise" else (plan.rows, "sampling")
        return cls(values, Record.of(plan, window, direction, str(values.dtype).removeprefix("torch."), starter="given"))

    @property
    def x(self) -> torch.Tensor:
        """The image (or the noise), (B, …); float64 where the state is fixed-point."""
        if self.record.scales is not None and self.graph is None:
            return self.values[self.record.image].double() * unit(self.record.scales.exponents[self.record.image])
        return self.reals[self.record.image]

    @property
    def reals(self) -> torch.Tensor:
        """The k states as real numbers, (k, B, …): `values`, or their float64 where these are integers."""
        import torch

        if self.graph is not None:
            return self.graph
        if self.record.scales is None:
            return self.values
        return torch.stack([z.double() * unit(e) for z, e in zip(self.values, self.record.scales.exponents)])

    def leaf(self) -> State:
        """The same state with `reals` a leaf of a graph: `backward()` from a march with `gradient=…` leaves its gradient there."""
        reals = self.reals.detach().clone().requires_grad_()
        return replace(self, values=reals) if self.record.scales is None else replace(self, graph=reals)

    @property
    def nfe(self) -> int:
        """Number of function evaluations of the march that made this state."""
        return self.record.nfe

    def __repr__(self) -> str:
        r = self.record
        shape = tuple(self.values.shape[1:])
        return f"State({r.formula}, {r.direction} to node {r.node}, x {shape} {r.arithmetic}, nfe {r.nfe})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file with a checksum; an old file stays whole until the new one is complete.

        Equal states give equal bytes (one entry of metadata: several would stand in any order).
        """
        from safetensors.torch import save as serialize

        tensors = {"values": self.values, **{f"tape.{row}": cell for row, cell in self.tape.items()}}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = json.dumps(asdict(self.record), sort_keys=True)
        about = {"format": FORMAT, "record": header, "sha256": _digest(tensors, header)}
        write_atomically(path, serialize(tensors, {"state": json.dumps(about, sort_keys=True)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> State:
        """Read a file that `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            StateFileError: not a state file, cut short, or changed since it was written.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"no state file at {path}")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, ValueError) as error:
            raise StateFileError(f"{path} is not a readable state file: {error}") from None
        about = _about(metadata)
        if about.get("format") != FORMAT:
            older = f" but {metadata['format']}, written by another version" if "format" in metadata else ""
            raise StateFileError(f"{path} is a safetensors file, but not a {FORMAT} file{older}")
        if about.get("sha256") != _digest(tensors, str(about.get("record", ""))):
            raise StateFileError(f"{path} is damaged: its checksum does not fit its content")
        tape = {int(name.removeprefix("tape.")): tensor for name, tensor in tensors.items() if name.startswith("tape.")}
        try:
            fields = json.loads(about["record"])
            if fields["scales"] is not None:
                fields["scales"] = Scales(**{**fields["scales"], "exponents": tuple(fields["scales"]["exponents"])})
            record = Record(**fields)
            scales = record.scales
            known = len(tensors["values"]) if scales is None else len(scales.exponents)
            if (scales is not None) != (record.arithmetic == "fixed") or known != len(tensors["values"]):
                raise KeyError("scales")
            return cls(tensors["values"], record, tape)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise StateFileError(f"{path} lacks what a state needs: {error}") from None


def _about(metadata: dict[str, str]) -> dict[str, Any]:
    """What a file says of itself; nothing where it is no state file."""
    try:
        about = json.loads(metadata.get("state", "{}"))
    except json.JSONDecodeError:
        return {}
    return about if isinstance(about, dict) else {}


def _digest(tensors: dict[str, torch.Tensor], header: str) -> str:
    import torch

    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
