"""What can be known of a callable that hides its network: a closure, a partial, a method, a wrapper.

`lambda x, t: unet(x, t, text)` is how most networks come. The modules that such a callable uses say in which precision it wants
x, and whether it was left in training mode.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import nn

DEPTH, WIDTH = 4, 100  # of wrappers around wrappers, and of lists that are looked through

# the layers of torch that give other numbers in training mode
RANDOM_OR_LEARNING: tuple[type[nn.Module], ...] = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
)
DTYPE_WORDS = re.compile(r"\b(dtype|double|float|half|bfloat16|scalar type)\b", re.IGNORECASE)


def modules_of(network: Any) -> list[nn.Module]:
    """The modules that a callable is, holds or refers to, each once.

    Looked through are attributes, arguments bound by `functools.partial`, defaults, closure cells, and the globals that a
    function's code names.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    layer = [network]
    for _ in range(DEPTH):
        following: list[Any] = []
        for thing in layer:
            if id(thing) in seen:
                continue
            seen.add(id(thing))
            if isinstance(thing, nn.Module):
                found.append(thing)
            else:
                following += _parts(thing)
        layer = following
    return found


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, FunctionType):
        yield from (getattr(cell, "cell_contents", None) for cell in thing.__closure__ or () if not _is_empty(cell))
        yield from (*(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values())
        yield from (thing.__globals__[name] for name in thing.__code__.co_names if name in thing.__globals__)
        if (wrapped := getattr(thing, "__wrapped__", None)) is not None:
            yield wrapped
    elif isinstance(thing, (list, tuple)):
        yield from thing[:WIDTH]
    elif isinstance(thing, dict):
        yield from thing.values()
    elif not isinstance(thing, (type, torch.Tensor)) and type(thing).__module__ != "builtins":
        yield from getattr(thing, "__dict__", {}).values()


def _is_empty(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def parameter_dtype(modules: list[nn.Module]) -> torch.dtype | None:
    """The one dtype of all floating parameters, None where there are none or several."""
    dtypes = {p.dtype for module in modules for p in module.parameters() if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


def first_dtype(module: nn.Module) -> torch.dtype | None:
    """The dtype of a module's first floating parameter."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), None)


def training_layers(modules: list[nn.Module]) -> list[str]:
    """Names of the layers that are in training mode and compute something else there, as in "net.3 (Dropout)"."""
    names = []
    for module in modules:
        for name, layer in module.named_modules():
            idle = getattr(layer, "p", 1.0) == 0.0 or not getattr(layer, "track_running_stats", True)
            if layer.training and isinstance(layer, RANDOM_OR_LEARNING) and not idle:
                names.append(f"{name or 'the network'} ({type(layer).__name__})")
    return names


def is_about_dtypes(error: Exception) -> bool:
    """Whether an error of torch speaks of dtypes that do not fit ("mat1 and mat2 must have the same dtype, …")."""
    return isinstance(error, RuntimeError) and DTYPE_WORDS.search(str(error)) is not None
