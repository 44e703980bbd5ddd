"""States: the k newest states of a march, where they stand, and how they came there. The latent of a k-step method."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsvf.errors import StateFileError
from vsvf.files import write_atomically

if TYPE_CHECKING:
    import torch

FORMAT = "vsvf-state-1"


@dataclass(frozen=True)
class Record:
    """What is known of a state besides its numbers.

    Attributes:
        formula, fingerprint: name and SHA-256 of the plan that it belongs to.
        window: index of the oldest state (in sampling order) among the plan's states; 0 at the noise end.
        node: index of the grid node reached, N at the noise end, 0 at the data end.
        sigma_bar: of that node.
        direction: "sampling" or "inversion", how it was reached.
        image: which of the k states is the image (or noise).
        arithmetic: the numbers used, as in `sample(arithmetic=…)`.
        starter: the starter used, "" when the march went on from a state.
        nfe: evaluations of eps in the march that made it.
        residual: of an iterative inverse, the last relative change; 0 for explicit marches.
    """

    formula: str
    fingerprint: str
    window: int
    node: int
    sigma_bar: float
    direction: str
    image: int
    arithmetic: str
    starter: str = ""
    nfe: int = 0
    residual: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """k consecutive states of a march, (k, B, …), oldest first in sampling order, in the predictor's scale x = alpha x_bar.

    `sample` and `invert` go on from a state as if they had never stopped; a bidirectionally explicit method returns from it
    exactly (to rounding). In fixed-point arithmetic the values are int64, and the tape holds the bits set aside (`vsvf.fixed`).
    """

    values: torch.Tensor
    record: Record
    tape: dict[int, torch.Tensor] = field(default_factory=dict)

    @property
    def x(self) -> torch.Tensor:
        """The image (or the noise), (B, …); float64 where the state is fixed-point."""
        image = self.values[self.record.image]
        if self.record.arithmetic == "fixed":
            return image.double() * 2.0 ** -self.record.extra["exponents"][self.record.image]
        return image

    @property
    def nfe(self) -> int:
        """Number of function evaluations of the march that made this state."""
        return self.record.nfe

    def __repr__(self) -> str:
        r = self.record
        shape = tuple(self.values.shape[1:])
        return f"State({r.formula}, {r.direction} to node {r.node}, x {shape} {r.arithmetic}, nfe {r.nfe})"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file with a checksum; an old file stays whole until the new one is complete."""
        from safetensors.torch import save as serialize

        tensors = {"values": self.values, **{f"tape.{row}": cell for row, cell in self.tape.items()}}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = json.dumps(asdict(self.record), sort_keys=True)
        metadata = {"format": FORMAT, "record": header, "sha256": _digest(tensors, header)}
        write_atomically(path, serialize(tensors, metadata))

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
        if metadata.get("format") != FORMAT:
            raise StateFileError(f"{path} is a safetensors file, but not a {FORMAT} file")
        if metadata.get("sha256") != _digest(tensors, metadata.get("record", "")):
            raise StateFileError(f"{path} is damaged: its checksum does not fit its content")
        tape = {int(name.removeprefix("tape.")): tensor for name, tensor in tensors.items() if name.startswith("tape.")}
        try:
            record = Record(**json.loads(metadata["record"]))
            if record.arithmetic == "fixed" and len(record.extra["exponents"]) != len(tensors["values"]):
                raise KeyError("exponents")
            return cls(tensors["values"], record, tape)
        except (TypeError, KeyError, json.JSONDecodeError) as error:
            raise StateFileError(f"{path} lacks what a state needs: {error}") from None


def _digest(tensors: dict[str, torch.Tensor], header: str) -> str:
    import torch

    digest = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
