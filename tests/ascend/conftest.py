"""Puts the operators and the stand-in for CANN's `tbe` on the path, as the engine would."""

import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
sys.path[:0] = [str(_HERE / "standin"), str(_ROOT / "op_impl/ai_core/tbe")]
sys.path.append(str(_ROOT / "python"))  # last: an installed bn3d comes first
