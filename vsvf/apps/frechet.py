"""The Fréchet distance between two sets of pictures, from the mean and covariance of their features.

    d^2 = |mu_1 - mu_2|^2 + tr(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2})

the squared 2-Wasserstein distance of two Gaussians (Dowson & Landau 1982); with the Inception network's features it is called
FID (Heusel et al. 2017), with any other features it is not. The last trace is the sum of the singular values of
S_1^{1/2} S_2^{1/2}: an eigenvalue that is zero but for rounding then costs 1e-16 of the largest, not its square root.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsvf.files import write_atomically

Array = np.ndarray


@dataclass(frozen=True)
class Moments:
    """Of n feature vectors of length d, in float64.

    Attributes:
        n: how many. mean: (d,). scatter: (d, d), sum of (x - mean)(x - mean)^T.
        features: name and digest of the features, "" if unknown.
    """

    n: int
    mean: Array
    scatter: Array
    features: str = ""

    @classmethod
    def of(cls, vectors: Array, features: str = "") -> Moments:
        """Of vectors (n, d)."""
        x = np.asarray(vectors, dtype=np.float64)
        if x.ndim != 2 or not len(x):
            raise ValueError(f"features must be (n, d) with n >= 1, got {x.shape}")
        mean = x.mean(axis=0)
        return cls(len(x), mean, (x - mean).T @ (x - mean), features)

    @property
    def covariance(self) -> Array:
        """scatter / (n - 1).

        Raises:
            ValueError: fewer than two vectors.
        """
        if self.n < 2:
            raise ValueError("a covariance needs at least 2 pictures")
        return self.scatter / (self.n - 1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file; equal moments give equal bytes (one entry of metadata: several would stand in any order)."""
        from safetensors.numpy import save

        arrays = {"mean": self.mean, "scatter": self.scatter}
        write_atomically(path, save(arrays, {"moments": json.dumps({"n": self.n, "features": self.features})}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Moments:
        """Read what `save` wrote, or an .npz with mu and sigma (n is then taken as infinite: sigma is the covariance).

        Raises:
            FileNotFoundError, ValueError: no such file, or one of another kind.
        """
        from safetensors import SafetensorError, safe_open

        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"no such file: {source}")
        try:
            if source.suffix == ".npz":
                with np.load(source, allow_pickle=False) as arrays:
                    mean, covariance = arrays["mu"].astype(np.float64), arrays["sigma"].astype(np.float64)
                return _checked(cls(2, mean, covariance), source)
            with safe_open(str(source), framework="numpy") as file:
                about = json.loads((file.metadata() or {})["moments"])
                found = cls(about["n"], file.get_tensor("mean"), file.get_tensor("scatter"), about["features"])
            return _checked(found, source)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise ValueError(f"{source} holds no mean and covariance: {error}") from None


def _checked(moments: Moments, source: Path) -> Moments:
    d = len(moments.mean)
    if moments.mean.shape != (d,) or moments.scatter.shape != (d, d) or not np.isfinite(moments.scatter).all():
        raise ValueError(f"{source}: shapes {moments.mean.shape} and {moments.scatter.shape}, or values that are not finite")
    return moments


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all vectors together (Chan, Golub & LeVeque 1979)."""
    n = sum(part.n for part in parts)
    mean = sum(part.n / n * part.mean for part in parts)
    scatter = sum(part.scatter + part.n * np.outer(part.mean - mean, part.mean - mean) for part in parts)
    return Moments(n, np.asarray(mean), np.asarray(scatter), parts[0].features)


def frechet(first: Moments, second: Moments) -> float:
    """d^2 as above.

    Raises:
        ValueError: features of different kinds or lengths.
    """
    if len(first.mean) != len(second.mean):
        raise ValueError(f"features of length {len(first.mean)} and {len(second.mean)} cannot be compared")
    if first.features and second.features and first.features != second.features:
        raise ValueError(f"the moments belong to different features: {first.features} and {second.features}")
    a, b = first.covariance, second.covariance
    cross = np.linalg.svd(_root(a) @ _root(b), compute_uv=False).sum()
    shift = first.mean - second.mean
    return max(0.0, float(shift @ shift + np.trace(a) + np.trace(b) - 2.0 * cross))


def _root(matrix: Array) -> Array:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2.0)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


@dataclass(frozen=True)
class Distance:
    """A Fréchet distance with its uncertainty.

    Attributes:
        value: d^2 of all n pictures.
        without: d^2 with each block of seeds left out in turn.
        halves: d^2 between the first half of the pictures and the second: what remains between two samples of one distribution.
    """

    value: float
    n: int
    without: list[float]
    halves: float

    @property
    def error(self) -> float:
        """Standard error over blocks of seeds (delete-a-group jackknife, Efron 1982)."""
        return jackknife(np.array(self.without))


def jackknife(without: Array) -> float:
    """sqrt((G - 1) / G sum_g (theta_g - mean)^2), theta_g the statistic without group g."""
    count = len(without)
    return float(np.sqrt((count - 1) / count * np.square(without - without.mean()).sum()))


def distance(vectors: Array, reference: Moments, groups: int = 10) -> Distance:
    """The distance of feature vectors (n, d), in the order of their seeds, from a reference.

    Raises:
        ValueError: fewer than two vectors per group.
    """
    n = len(vectors)
    if n < 2 * groups:
        raise ValueError(f"{n} pictures are too few: an error bar from {groups} blocks of seeds needs at least {2 * groups}")
    blocks = [Moments.of(block, reference.features) for block in np.array_split(vectors, groups)]
    whole = merged(blocks)
    without = [frechet(merged(blocks[:g] + blocks[g + 1 :]), reference) for g in range(groups)]
    halves = frechet(Moments.of(vectors[: n // 2]), Moments.of(vectors[n // 2 :]))
    return Distance(frechet(whole, reference), n, without, halves)
