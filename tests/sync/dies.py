"""Worker: rank 1 is killed between two steps; the others wait for it in a collective."""

import os
import signal

import mindspore as ms
from mindspore.communication import get_rank, init

import bn3d

ms.set_device("CPU")
init()
layer = bn3d.SyncBatchNorm3d(2).set_train()
x = ms.ops.ones((1, 2, 2, 2, 2))
for step in range(3):
    layer(x).asnumpy()
    print("step", step, flush=True)
    if step == 1 and get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
