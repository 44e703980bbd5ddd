"""A seeded slice of the fuzzer; `make fuzz` runs it for minutes."""

import pytest
from marches import run


@pytest.mark.parametrize("block", range(8))
def test_the_same_bits_or_a_named_error(block):
    cases = [run(1000 * block + n) for n in range(25)]
    assert sum(case.elements for case in cases) > 1000
