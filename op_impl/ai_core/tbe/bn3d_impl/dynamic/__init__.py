"""Entries for SoCs whose static shapes the unify scheduler compiles (dynamicCompileStatic).

The engine calls them in an OpContext "static", which the sources one level up obey. Unknown
dimensions are rejected: `dynamicShapeSupport` is not for these operators.
"""
