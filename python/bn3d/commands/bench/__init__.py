"""`bn3d bench`: bn3d, stock MindSpore, PyTorch and the memory limit side by side.

cases.py             what is measured: shapes, dtypes, modes, steps
timing.py            how: blocks of calls taking turns, quantiles
layers.py            the layers of bn3d, MindSpore and PyTorch as calls that wait for their results
mindspore_steps.py   forward + backward in MindSpore, and waiting for it
copying.py           the limit: one read and one write of the tensor
kernels.py           the C functions of the CPU backend without a framework around them
session.py           a row of results, each mode in a process of its own
report.py            tables and ratios
picture.py           bench.svg
device.py            the same on an accelerator, without PyTorch
run.py               all rows, then the tables and files
command.py           the command line
"""
