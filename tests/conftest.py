import os
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("default", deadline=None, max_examples=40, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


# Files that take more than a few seconds each: `make quick` leaves them out. A file that runs the trained network for many steps,
# measures orders, builds diffusers models, trains or draws belongs here.
SLOW = (
    "analysis/",
    "apps/",
    "benchmarks/",
    "cli/test_budget_command.py",
    "cli/test_pictures.py",
    "convergence/",
    "fuzz/",
    "integrations/",
    "predictors/test_digits.py",
    "scenes/",
    "stability/test_regions.py",
    "stability/test_search.py",
    "symbolic/test_symbolic_derive.py",
    "symbolic/test_symbolic_numbers.py",
    "symbolic/test_symbolic_render.py",
    "test_documents.py",
    "test_sample_invert.py",
)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out by `make quick`")
    # many tests march formulas that amplify, on purpose; the warning has a test of its own
    config.addinivalue_line("filterwarnings", "ignore::vsvf.ZeroStabilityWarning")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if str(item.path.relative_to(here)).startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20240731)
