"""The rooms of the package: each may import only what stands above it, and nothing goes round in a circle."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "vsvf"

# From top to bottom; rooms of one line stand side by side, and may not see each other.
ROOMS = [
    ["errors", "files"],
    ["schedule"],
    ["grid"],
    ["plan"],
    ["formula"],
    ["formulas"],
    ["starter"],
    ["fixed"],
    ["state"],
    ["stability"],
    ["symbolic"],
    ["scenes"],
    ["predictors"],
    ["engine"],
    ["solve"],
    ["convergence"],
    ["integrations"],
    ["apps"],
    ["commands"],
    ["cli"],
    ["__main__"],
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
WITHOUT_TORCH = ("errors", "files", "schedule", "grid", "plan", "formula", "formulas", "starter", "fixed", "stability", "symbolic")

# What stands lower and is named above it, each with its reason. No entry may be without use.
EXCEPTIONS = {
    ("fixed", "predictors"): "types alone: bits() takes a predictor's alpha",
    ("symbolic.command", "commands"): "a command that lives with what it prints",
    ("predictors.diffusers", "integrations"): "forwards an old name",
    ("predictors.scenes", "integrations"): "the embedded text-to-image model is a pipeline of diffusers, loaded on demand",
}


def modules():
    """Every module of the package: dotted name without the package's -> its path."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        found[".".join(parts)] = path
    return found


MODULES = modules()


def imports(path, inside_functions=True):
    """The modules of the package that a file imports, with the line; those under TYPE_CHECKING count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if inside_functions else outside(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} imports relatively"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = whole.removeprefix("vsvf.") in MODULES
                found.add((whole if is_module else node.module, node.lineno))
    ours = {(name, line) for name, line in found if name == "vsvf" or name.startswith("vsvf.")}
    return {(name.removeprefix("vsvf").removeprefix("."), line) for name, line in ours}


def outside(tree):
    """Nodes that run when a module is imported: not those in functions or under TYPE_CHECKING."""
    stack = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        stack += list(ast.iter_child_nodes(node))


def room(module):
    return module.split(".")[0]


def test_the_table_lists_every_room():
    rooms = {room(name) for name in MODULES if name} - {"assets"}
    assert rooms <= set(LEVEL), rooms - set(LEVEL)


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_import_arrows_point_down(module):
    for imported, line in imports(MODULES[module]):
        if not imported:  # the package itself: names that are looked up when they are used
            continue
        if room(imported) == room(module) or LEVEL[room(imported)] < LEVEL[room(module)]:
            continue
        allowed = any(module == name or room(module) == name for name, target in EXCEPTIONS if target == room(imported))
        assert allowed, f"vsvf.{module}:{line} imports vsvf.{imported}, which stands below it"


def test_no_exception_is_without_use():
    for name, target in EXCEPTIONS:
        users = [module for module in MODULES if module == name or room(module) == name]
        assert any(room(imported) == target for module in users for imported, _ in imports(MODULES[module]) if imported), (
            name,
            target,
        )


def test_nothing_goes_round_in_a_circle():
    """Among modules, imports inside functions included: a depth-first search that never meets its own path."""
    arrows = {name: {other for other, _ in imports(path) if other in MODULES and other != name} for name, path in MODULES.items()}
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py"}
    arrows = {name: {other for other in others if other not in packages} for name, others in arrows.items() if name not in packages}
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(arrows[name]):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(arrows):
        visit(name)


def test_everything_below_the_engine_works_without_torch():
    """torch blocked, and with it what needs it: a formula is planned, examined, derived, and its bits are planned."""
    names = [name for name in MODULES if room(name) in WITHOUT_TORCH]
    script = f"""
import sys
for name in ("torch", "safetensors.torch", "diffusers", "transformers"):
    sys.modules[name] = None
import importlib
for name in {names!r}:
    importlib.import_module("vsvf." + name)
import vsvf
grid = vsvf.Grid.from_schedule(vsvf.Schedule.linear(), 10)
assert vsvf.formulas.by_name("belm(2)").plan(grid).rows == 9
assert vsvf.stability(vsvf.formulas.belm(2), grid).k_sampling > 1.0
assert vsvf.bits("belm(2)", grid, vsvf.Schedule.linear()).needed <= 53
assert vsvf.symbolic.derive(steps=2).order == 2
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert run.returncode == 0, run.stderr
