import runpy
import warnings
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_runs(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        assert runpy.run_path(str(path))
