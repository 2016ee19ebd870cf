"""Subnormal numbers count in a block, whatever the thread is set to, which then is as before."""

import numpy as np
import pytest

from bn3d.float_environment import standard_floats
from support.c_interface import environment

TINY = np.array([2.0**-1040])


@standard_floats()
def half(values):
    return values / 2


@pytest.mark.parametrize("flushing", [True, False])
def test_subnormal_numbers(flushing):
    outside = 0 if flushing else 2.0**-1041
    with environment(flushing):
        assert outside == TINY / 2
        with standard_floats():
            assert TINY / 2 == 2.0**-1041
        assert half(TINY) == 2.0**-1041
        with pytest.raises(ZeroDivisionError), standard_floats():
            raise ZeroDivisionError
        assert outside == TINY / 2
