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


# Files, or tests of a file, that take more than a few seconds: `make quick` leaves them out. What runs a trained network for many
# steps, measures orders, builds diffusers models, trains, draws or starts processes belongs here.
SLOW = (
    "analysis/",
    "apps/",
    "benchmarks/",
    "cli/test_budget_command.py",
    "cli/test_edit_command.py",
    "cli/test_fid_command.py",
    "cli/test_interpolate_command.py",
    "cli/test_model_option.py",
    "cli/test_numbers.py",
    "cli/test_pictures.py",
    "cli/test_reconstruct_command.py",
    "convergence/",
    "engine/test_gradient.py::test_fixed_point_gives_the_bits",
    "engine/test_gradient.py::test_reversible_equals",
    "engine/test_integers.py::test_digits",
    "engine/test_integers.py::test_every_method",
    "engine/test_integers.py::test_the_digits",
    "engine/test_integers.py::test_up_to_a_thousand",
    "engine/test_integers.py::test_zero_bits",
    "fuzz/",
    "integrations/",
    "predictors/test_digits.py",
    "predictors/test_scenes.py",
    "scenes/",
    "stability/test_bound.py",
    "stability/test_regions.py",
    "stability/test_roundoff.py",
    "stability/test_search.py",
    "symbolic/test_symbolic_derive.py",
    "symbolic/test_symbolic_fitted.py",
    "symbolic/test_symbolic_numbers.py",
    "symbolic/test_symbolic_render.py",
    "test_documents.py",
    "test_release.py",
    "test_rooms.py::test_everything_below_the_engine",
    "test_sample_invert.py",
    "test_site.py",
    "test_state.py::test_equal_states_are_equal_files",
)


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: left out by `make quick`")
    # many tests march formulas that amplify, on purpose; the warning has a test of its own
    config.addinivalue_line("filterwarnings", "ignore::vsvf.ZeroStabilityWarning")


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if f"{item.path.relative_to(here)}::{item.name}".startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20240731)
