"""Worker: rank 0 unpickles a layer of a group while the others wait for it elsewhere."""

import pickle

import mindspore as ms
from mindspore import ops
from mindspore.communication import get_rank, init

import bn3d

ms.set_device("CPU")
init()
together = ops.AllReduce(ops.ReduceOp.SUM)
layer = bn3d.SyncBatchNorm3d(2)
layer.process_groups = [[0, 1]]  # a group that does not exist yet, as in another process
data = pickle.dumps(layer)
if get_rank() == 1:
    together(ms.ops.ones(1)).asnumpy()
twin = pickle.loads(data)
x = ms.ops.ones((1, 2, 2, 2, 2)) * get_rank()
twin(x)
if get_rank() == 0:
    together(ms.ops.ones(1)).asnumpy()
twin.set_train()(x)
print("moving mean", twin.bn2d.moving_mean.asnumpy(), flush=True)
