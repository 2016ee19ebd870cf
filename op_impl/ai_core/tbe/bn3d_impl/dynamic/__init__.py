"""Entries of the operators for the unify scheduler.

The engine calls them for static shapes where dynamicCompileStatic is set (ascend910b,
ascend910_93), and for unknown dimensions. Its OpContext says which, and the sources one level
up obey it.
"""
