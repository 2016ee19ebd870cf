"""TBE DSL sources of the four bn3d operators.

The engine appends the directory above this one to `sys.path` and imports an operator as
`bn3d_impl.bn3d_reduce` (ascend910) or `bn3d_impl.dynamic.bn3d_reduce` (ascend910b,
ascend910_93): always by its dotted name, so the modules of the package may import each other.
This file makes the package a regular one. A namespace package would merge two installed
versions of bn3d, and an operator of one could meet the layout of the other.

The sources run in the interpreter of the framework's process: any that CANN supports, from
Python 3.7 on.
"""
