"""NumPy stand-in for the parts of CANN's `tbe` package that bn3d's operators use.

It has the names, the rules and the rounding of the real front end, and no code generation: a
compute function makes a graph, `run.evaluate` gives the graph's numbers. A name that is not
here fails as it would on a node, with AttributeError or ImportError. The rules are those that
were measured on the real front end, in goldens/dsl_rules.json.
"""
