"""The Ascend operator package: op-info, build, install, deploy. Needs neither MindSpore nor NumPy.

`cann`, `payload`, `record`, `vendors`, `installer`, `status` and `__main__` also run inside the
built package, on nodes whose python3 is as old as CANN allows: they use the standard library of
Python 3.7 only.
"""
