"""TBE DSL sources of the four bn3d operators.

The engine puts the directory above this one on `sys.path` and imports an operator as
`bn3d_impl.bn3d_reduce` (ascend910) or `bn3d_impl.dynamic.bn3d_reduce` (ascend910b,
ascend910_93), so modules of the package may import each other. The package is a regular one,
with this file, so that all its modules come from one place: a namespace package would merge
two installed copies of bn3d.
"""
