"""Several networks, threads and processes at once; interruption while a checkpoint is written."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import mindspore as ms
import numpy as np
import pytest

import bn3d
from support import c_interface

SHAPE = (2, 3, 9, 30, 41)  # large enough for the pool of threads


def layer_bytes(seed):
    """Forward and gradient of one layer through the C interface."""
    layer = c_interface.Layer(np.random.default_rng(seed).standard_normal(SHAPE), seed=seed)
    outputs = [layer.forward_training(), *layer.gradient_training(), layer.moving_mean]
    return b"".join(output.tobytes() for output in outputs)


def test_threads_get_what_one_alone_gets():
    wanted = [layer_bytes(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            assert list(threads.map(layer_bytes, range(6))) == wanted


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_started_after_the_first_use(start):
    wanted = layer_bytes(1)
    with multiprocessing.get_context(start).Pool(2) as processes:
        assert processes.map_async(layer_bytes, [1, 1, 1]).get(timeout=120) == [wanted] * 3
    assert layer_bytes(1) == wanted


def test_networks_in_turns():
    x = ms.Tensor(np.random.default_rng(3).standard_normal(SHAPE), ms.float32)

    def trained(steps, others):
        net = bn3d.BatchNorm3d(3).set_train()
        for _ in range(steps):
            net(x)
            for other in others:
                other(x * 7)
        return net.bn2d.moving_mean.asnumpy().tolist()

    others = [bn3d.BatchNorm3d(3).set_train(), bn3d.BatchNorm3d(3).set_train(False)]
    assert trained(4, others) == trained(4, [])


TRAINING = """
import sys, os
import mindspore as ms, numpy as np
import bn3d
net = bn3d.BatchNorm3d(3).set_train()
x = ms.Tensor(np.ones((2, 3, 9, 30, 41), np.float32))
step = 0
while True:
    net(x)
    step += 1
    ms.save_checkpoint(net, sys.argv[1] + f"/{step}.ckpt")
    print(step, flush=True)
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_checkpoints_that_load(tmp_path, signal_number):
    command = [sys.executable, "-c", TRAINING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        for _ in range(3):
            assert process.stdout.readline()
        time.sleep(0.01)
        os.kill(process.pid, signal_number)
        finished = len(process.stdout.read().split()) + 3
        assert process.wait(timeout=60) != 0
    for step in range(1, finished + 1):
        net = bn3d.BatchNorm3d(3)
        left_out, _ = ms.load_param_into_net(net, ms.load_checkpoint(f"{tmp_path}/{step}.ckpt"))
        assert left_out == []
        assert net.bn2d.moving_mean.asnumpy() == pytest.approx(1 - 0.9**step, rel=1e-5)
