"""`bn3d.networks.cells.forget_compiled`: graphs compile again, and their memory is given back."""

from __future__ import annotations

import copy
import gc
import inspect
import subprocess
import sys
import textwrap
import threading

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

import bn3d
from bn3d.mindspore_private import graphs
from bn3d.networks.cells import forget_compiled

api = inspect.getmodule(ms.ms_memory_recycle)


@pytest.fixture
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def volume(seed=0):
    return Tensor(np.random.default_rng(seed).normal(1, 2, (2, 3, 4, 5, 6)).astype(np.float32))


def network():
    return nn.SequentialCell(nn.Conv3d(3, 3, 1), nn.BatchNorm3d(3)).set_train()


def train_step(net):
    optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.9)
    return nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), optimizer)


def compiled():
    """The graphs that MindSpore holds for cells and for functions."""
    found = {phase for phases in api.cells_compile_cache.values() for phase in phases}
    found |= api.ms_compile_cache
    executors = api._cell_graph_executor._graph_executor, api.JitExecutor_.get_instance()
    return {phase for phase in found if any(each.has_compiled(phase) for each in executors)}


def is_held(phase):
    executors = api._cell_graph_executor._graph_executor, api.JitExecutor_.get_instance()
    return any(each.has_compiled(phase) for each in executors)


@pytest.mark.parametrize("change", [bn3d.swap, bn3d.freeze])
def test_graphs_of_cells_and_functions_are_released(graph_mode, change):
    net = network()
    step, gradient = train_step(net), ms.grad(net)

    @ms.jit
    def function(x):
        return net(x)

    def run():
        return [net(volume()), step(volume(), volume(1)), gradient(volume()), function(volume())]

    run()
    before = compiled()
    assert len(before) >= 4
    change(net)
    assert not any(map(is_held, before))
    run()
    again = compiled()
    (bn3d.restore if change is bn3d.swap else bn3d.unfreeze)(net)
    assert not any(map(is_held, again))
    run()


def test_releasing_twice_and_destroying_the_cell_are_safe(graph_mode):
    net = network()
    net(volume())
    phases = set(net.compile_cache)
    twin = copy.copy(net)
    forget_compiled(net)
    forget_compiled(net)
    api._cell_graph_executor.del_net_res(net, phases)
    net(volume())
    wanted = net(volume()).asnumpy()
    del net
    gc.collect()
    assert twin(volume()).shape == wanted.shape


def test_results_outlive_their_graph(graph_mode):
    net = network()
    wanted = net(volume()).asnumpy().copy()
    result = net(volume())
    forget_compiled(net)
    gc.collect()
    np.testing.assert_array_equal(result.asnumpy(), wanted)


def test_a_function_around_a_graph_from_a_file_goes_on(tmp_path):
    """MindSpore compiles it only once; other functions compile again."""
    net = nn.SequentialCell(nn.Conv3d(3, 3, 1)).set_train(False)
    ms.export(net, volume(), file_name=str(tmp_path / "net"), file_format="MINDIR")
    loaded = nn.GraphCell(ms.load(str(tmp_path / "net.mindir")))
    other = network()

    @ms.jit
    def around_loaded(x):
        return loaded(x) + 1

    @ms.jit
    def around_other(x):
        return other(x)

    wanted = around_loaded(volume()).asnumpy().copy()
    around_other(volume())
    bn3d.freeze(other)
    mean = other[1].bn2d.moving_mean.asnumpy().copy()
    np.testing.assert_array_equal(around_loaded(volume()).asnumpy(), wanted)
    around_other(volume())
    np.testing.assert_array_equal(other[1].bn2d.moving_mean.asnumpy(), mean)


def test_a_graph_kept_for_a_phase_of_inference_is_forgotten(graph_mode):
    """In these phases MindSpore runs what it finds by the phase's name, and asks no further."""
    net = network()
    net.phase = "prefill"
    net(volume())
    bn3d.freeze(net)
    net(volume(1))
    mean = net[1].bn2d.moving_mean.asnumpy().copy()
    net(volume(2))
    np.testing.assert_array_equal(net[1].bn2d.moving_mean.asnumpy(), mean)


def test_a_gradient_under_way_ends():
    net = network()

    @ms.jit
    def function(x):
        return net(x)

    def loss(x, change):
        y = function(x)
        if change:
            forget_compiled(net)
        return ops.sin(y).sum()

    wanted = ms.grad(loss)(volume(), False).asnumpy()
    for _ in range(3):
        np.testing.assert_allclose(ms.grad(loss)(volume(), True).asnumpy(), wanted, atol=1e-6)
    forget_compiled(net)
    assert not graphs._unreleased


def test_a_pull_back_made_before_is_right_after():
    net = network()

    @ms.jit
    def function(x):
        return net(x)

    _, pull_back = ms.vjp(function, volume())
    seed = volume(5)
    wanted = pull_back(seed)[0].asnumpy()
    _, pull_back = ms.vjp(function, volume())
    forget_compiled(net)
    np.testing.assert_allclose(pull_back(seed)[0].asnumpy(), wanted, atol=1e-6)


def test_what_another_thread_runs_is_released_later(graph_mode):
    """A thread within MindSpore's calls of graphs, here while it compiles."""
    inside, go_on = threading.Event(), threading.Event()

    @ops.constexpr
    def wait():
        inside.set()
        return go_on.wait(30)

    class Slow(nn.Cell):
        def construct(self, x):
            return ops.relu(x) if wait() else x

    slow = Slow()
    other = network()
    other(volume())
    phases = set(other.compile_cache)
    results = []
    thread = threading.Thread(target=lambda: results.append(slow(volume()).asnumpy()))
    thread.start()
    assert inside.wait(30)
    try:
        forget_compiled(other)
        assert all(map(is_held, phases))
    finally:
        go_on.set()
        thread.join()
    np.testing.assert_array_equal(results[0], np.maximum(volume().asnumpy(), 0))
    forget_compiled(other)
    assert not any(map(is_held, phases))


SCRIPT = """
    import sys, warnings
    import numpy as np, mindspore as ms
    from mindspore import nn
    import bn3d

    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.bn = nn.BatchNorm3d(3)
            self.relu = nn.ReLU()

        def construct(self, x):
            return self.relu(self.bn(x))

    act, by, folder = sys.argv[1:]
    if by == "context":
        ms.set_context(enable_compile_cache=True, compile_cache_path=folder)
    ms.set_context(mode=ms.GRAPH_MODE)
    net = Net().set_train()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if act != "none":
            getattr(bn3d, act)(net)
            bn3d.unfreeze(net)
    print(sum("compile cache" in str(each.message) for each in caught))
    net(ms.Tensor(np.ones((1, 3, 1, 1, 1), np.float32)))
    print(net.bn.bn2d.moving_variance.asnumpy()[0])
"""


@pytest.mark.parametrize("by", ["context", "variable"])
def test_a_cache_on_disk_does_not_bring_the_old_layers_back(by, tmp_path, child_environment):
    """Seen by what only bn3d does: one value a channel leaves the moving variance alone."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    if by == "variable":
        child_environment["MS_COMPILER_CACHE_ENABLE"] = "1"
        child_environment["MS_COMPILER_CACHE_PATH"] = str(tmp_path / "cache")

    def run(act):
        command = [sys.executable, str(script), act, by, str(tmp_path / "cache")]
        done = subprocess.run(
            command, cwd=tmp_path, env=child_environment, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    assert run("none") == ["0", "nan"]
    assert list((tmp_path / "cache").rglob("*.mindir"))
    assert run("swap") == ["1", "1.0"]
