import os

import hypothesis
import pytest
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("default", deadline=None, max_examples=40, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=40, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_configure(config):
    # many tests march formulas that amplify, on purpose; the warning has a test of its own
    config.addinivalue_line("filterwarnings", "ignore::vsvf.ZeroStabilityWarning")


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20240731)
