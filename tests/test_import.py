import subprocess
import sys

import pytest
import torch

from vsvf.apps.classifier import load_digits_classifier
from vsvf.predictors import digits


def modules_after(code):
    """Names of all modules loaded by a fresh interpreter that runs `code`."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split())


@pytest.fixture(scope="module")
def loaded():
    use = "import torch\nimport vsvf\nvsvf.sample, vsvf.invert, vsvf.Grid, vsvf.formulas.belm(2), vsvf.predictors.Predictor"
    return modules_after(use) - modules_after("import torch")


@pytest.mark.parametrize("name", ["scipy", "sympy", "matplotlib", "diffusers", "transformers", "PIL", "hypothesis", "pytest"])
def test_importing_the_package_leaves_heavy_ones_alone(loaded, name):
    assert "vsvf.solve" in loaded
    assert name not in loaded


def test_importing_the_package_sets_no_seed_and_no_threads():
    code = "import torch\na = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()\nimport vsvf\n"
    code += "b = torch.random.get_rng_state(), torch.get_num_threads(), torch.get_default_dtype()\n"
    modules_after(code + "assert torch.equal(a[0], b[0]) and a[1:] == b[1:]")


def test_the_entry_points_exist():
    import vsvf
    from vsvf import formulas, predictors

    for name in vsvf.__all__:
        assert hasattr(vsvf, name)
    for name in ("sample", "invert", "order", "Schedule", "Grid", "State"):
        assert name in vsvf.__all__
    for name in formulas.__all__:
        assert hasattr(formulas, name)
    for name in predictors.__all__:
        assert hasattr(predictors, name)
    for name in ("Predictor", "digits", "ideal_denoiser"):
        assert name in predictors.__all__


@pytest.mark.parametrize("make", [lambda: digits(3, 2.0), load_digits_classifier], ids=["digits", "classifier"])
def test_loading_the_networks_draws_no_random_numbers(make):
    before = torch.random.get_rng_state()
    make()
    assert torch.equal(torch.random.get_rng_state(), before)
