"""The backends that a CPU runs."""

from bn3d.backends import BACKENDS

CPU_BACKENDS = [name for name, target in BACKENDS.items() if target in ("CPU", None)]
