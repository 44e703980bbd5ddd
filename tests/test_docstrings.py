"""Every public name is documented, by griffe's reading of the source: a docstring, for functions and classes with the parameters
named in it, also for every public method, and a place in the site's reference."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

import pytest

griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "vsvf", "vsvf.formulas", "vsvf.predictors", "vsvf.stability", "vsvf.symbolic", "vsvf.integrations.diffusers",
    "vsvf.integrations.kdiffusion",
)  # fmt: skip
OWN = {"vsvf.integrations.kdiffusion": ("Denoiser", "grid_of", "inverter", "names", "sampler")}
DATA = {"CONSTRUCTORS", "METHODS"}  # described on the page of formulas
SUBPACKAGES = {"formulas", "predictors", "symbolic", "patterns"}


@lru_cache
def _source() -> griffe.Module:
    return griffe.load("vsvf", search_paths=[str(ROOT)], resolve_aliases=True)


def _names() -> list[tuple[str, str]]:
    found = []
    for package in PACKAGES:
        module = _source() if package == "vsvf" else _source()[package.removeprefix("vsvf.")]
        for name in OWN.get(package) or [str(getattr(export, "name", export)) for export in module.exports]:
            if name not in DATA | SUBPACKAGES:
                found.append((package, name))
    return found


def _object(package: str, name: str) -> griffe.Object:
    found = _source()[".".join([*package.split(".")[1:], name])]
    if found.is_alias:
        found = found.final_target
    return found["stability"] if found.is_module and name == "stability" else found  # the package is called as its function


@pytest.mark.parametrize(("package", "name"), _names())
def test_a_public_name_is_documented_with_its_parameters_and_has_its_place(package: str, name: str) -> None:
    found = _object(package, name)
    assert found.docstring is not None and len(found.docstring.value) > 20, f"{found.path} has no docstring"
    functions = [found] if found.is_function else []
    texts = {found.path: found.docstring.value}
    if found.is_class:
        for member in found.members.values():
            if member.is_function and (not member.name.startswith("_") or member.name == "__init__"):
                functions += [member] if member.name == "__init__" else []
                own = member.docstring.value if member.docstring else ""
                assert own or member.name == "__init__" or _inherited(found, member.name), f"{member.path} has no docstring"
                texts[member.path] = own + (found.docstring.value if member.name == "__init__" else "")
    for function in functions:
        for parameter in function.parameters:
            if parameter.name in ("self", "cls", "message") or str(parameter.kind).startswith("variadic"):
                continue
            word = rf"\b{re.escape(parameter.name)}\b"
            assert re.search(word, texts[function.path]), f"{function.path}: parameter {parameter.name} is not in its docstring"
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    module = found.module.path
    shown = re.search(rf"::: {re.escape(module)}\n(?:    .*\n)*", pages + "\n")
    assert shown, f"{module} is on no page of docs/reference"
    listed = re.search(r"members: \[(.*)\]", shown[0])
    assert listed is None or name in listed[1].split(", "), f"{found.path} is not among the members listed in docs/reference"


def _inherited(found: griffe.Class, name: str) -> str:
    """The docstring of the method that this one overrides, from this package or as one of another package's."""
    for base in found.bases:
        target = found.resolve(str(getattr(base, "name", base))) if base else ""
        if target.startswith("vsvf"):
            parent = _source()[target.removeprefix("vsvf.")]
            if name in parent.members and parent.members[name].docstring:
                return str(parent.members[name].docstring.value)
    return ""
