"""`bn3d verify`: every operator and the layer of a device against the judge, `bn3d.reference`.

check.py      one comparison
operators.py  the four operators by themselves
layer.py      the layer: training, inference and their gradients
session.py    all of it over shapes, dtypes and modes
command.py    the command line: a table, JSON for a bug report, an exit code
"""
