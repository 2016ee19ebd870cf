"""Puts the operators and the stand-in for CANN's `tbe` on the path, as the engine would."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [
    str(p) for p in (_HERE / "standin", _ROOT / "op_impl/ai_core/tbe", _ROOT / "python")
]
