"""Operators that fail for a shape: as one that does not compile, and as one that does not run."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops
from typer.testing import CliRunner

import bn3d
from backends import standin
from bn3d import BatchNorm3d, reference
from bn3d.backends import fallback, split
from bn3d.backends.backend import Operators
from bn3d.commands import info
from bn3d.commands.cli import app
from bn3d.operators import OPERATORS

REFUSED = (2, 3, 4, 5, 6)
TAKEN = (2, 3, 4, 5, 7)
NAMES = [operator.type for operator in OPERATORS]

FAILS = """
#include <cstdint>
extern "C" int Fails(int, void **, int *, int64_t **, const char **, void *, void *) { return 1; }
"""


class Refusing(nn.Cell):
    """An operator that fails for volumes of one shape."""

    def __init__(self, operator, failing):
        super().__init__(auto_prefix=False)
        self.operator = operator
        self.failing = failing

    def construct(self, *inputs):
        if inputs[0].shape == REFUSED:
            return self.failing(*inputs)
        return self.operator(*inputs)


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("fails")
    (folder / "fails.cc").write_text(FAILS)
    command = ["g++", "-shared", "-fPIC", "-o", folder / "fails.so", folder / "fails.cc"]
    subprocess.run(command, check=True)
    return str(folder / "fails.so")


@pytest.fixture
def failing(request, library):
    """Given an operator, one that fails when it is compiled, or with the parameter "run" then."""
    when = getattr(request, "param", "compile")

    def make(operator):
        volume = len(operator.outputs) == 1

        def shapes(*inputs):
            if when == "compile":
                raise RuntimeError("E90003: no schedule")
            return inputs[0] if volume else (inputs[-1], inputs[-1])

        def dtypes(*inputs):
            return inputs[0] if volume else (ms.float32, ms.float32)

        return ops.Custom(f"{library}:Fails", shapes, dtypes, func_type="aot")

    return make


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(fallback, "FALLBACKS", {})


def operators_of(ascend, failing, wrong) -> Operators:
    return Operators(
        *(
            Refusing(mine, failing(operator)) if operator.type == wrong else mine
            for mine, operator in zip(ascend.operators, OPERATORS, strict=True)
        )
    )


@pytest.fixture
def use(ascend, failing, monkeypatch):
    """Compute with the Ascend backend, one of whose operators fails."""

    def use(wrong):
        operators = operators_of(ascend, failing, wrong)
        functions = split.build(operators, compiled=ms.jit, dtypes=ascend.dtypes, probed=True)
        backend = dataclasses.replace(
            ascend, operators=operators, dtypes=("float32",), **functions._asdict()
        )
        standin.use(backend, monkeypatch)
        return backend

    return use


def volumes(shape):
    random = np.random.default_rng(1)
    return [random.normal(0.5, 1, shape).astype(np.float32) for _ in range(2)]


def check(layer, shape):
    """A step in training against the judge."""
    x, dy = volumes(shape)
    y, ((dx,), (dgamma, dbeta)) = standin.Gradient(layer)(ms.Tensor(x), ms.Tensor(dy))
    one, zero = np.ones(3), np.zeros(3)
    want = reference.forward_training(x, one, zero, zero, one)
    gradients = reference.gradient_training(dy, x, one, want.mean, want.variance)
    np.testing.assert_allclose(y.asnumpy(), want.y, rtol=3e-6, atol=3e-6)
    for got, expected in zip((dx, dgamma, dbeta), gradients, strict=True):
        np.testing.assert_allclose(got.asnumpy(), expected, rtol=1e-5, atol=1e-5)


def warnings(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "bn3d"]


@pytest.mark.parametrize(
    ("wrong", "failing"),
    [*((name, "compile") for name in NAMES), ("Bn3dGradApply", "run")],
    indirect=["failing"],
)
def test_a_step_goes_on_without_an_operator_that_fails(use, wrong, caplog):
    """Also where the first call of a layer is already part of a gradient."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    use(wrong)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            check(BatchNorm3d(3).set_train(), REFUSED)
        check(BatchNorm3d(3).set_train(), TAKEN)
    (warning,) = warnings(caplog)
    assert f"volumes {REFUSED} of float32 with MindSpore's own operators" in warning
    assert f"{wrong}: " in warning
    assert list(fallback.FALLBACKS) == [(REFUSED, "float32")]


def test_inference_goes_on(use):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    use("Bn3dApply")
    x, _ = volumes(REFUSED)
    y = BatchNorm3d(3).set_train(False)(ms.Tensor(x))
    np.testing.assert_allclose(y.asnumpy(), x / np.sqrt(1 + 1e-5), rtol=1e-6)


class Step(nn.Cell):
    """A step of training, as a user writes it: the layer behind a product, and an optimizer."""

    def __init__(self):
        super().__init__()
        self.scale = ms.Parameter(ms.Tensor(np.ones((1, 3, 1, 1, 1), np.float32)), name="scale")
        self.norm = BatchNorm3d(3).set_train()
        self.optimizer = nn.SGD(self.trainable_params(), 0.01)
        self.gradient = ms.value_and_grad(self.loss, None, self.optimizer.parameters)

    def loss(self, x, dy):
        return ops.reduce_sum(self.norm(x * self.scale) * dy)

    def construct(self, x, dy):
        loss, gradients = self.gradient(x, dy)
        return ops.depend(loss, self.optimizer(gradients))


def as_a_graph(step):
    ms.set_context(mode=ms.GRAPH_MODE)
    return step


def as_a_function(step):
    return ms.jit(step.construct)


def with_a_function_inside(step):
    """What PyNative mode takes the gradient of is compiled."""
    step.gradient = ms.value_and_grad(ms.jit(step.loss), None, step.optimizer.parameters)
    return step


def trained(shape, compiled=lambda step: step):
    """All parameters after one step."""
    step = Step()
    compiled(step)(*map(ms.Tensor, volumes(shape)))
    return {name: value.asnumpy() for name, value in step.parameters_dict().items()}


@pytest.mark.parametrize("compiled", [as_a_graph, as_a_function, with_a_function_inside])
@pytest.mark.parametrize(
    ("wrong", "failing"),
    [("Bn3dReduce", "compile"), ("Bn3dGradApply", "run")],
    indirect=["failing"],
)
def test_a_graph_goes_on_without_an_operator_that_fails(ascend, use, wrong, compiled, caplog):
    """Whether it fails when it is compiled or as it runs; nothing ran twice, or half."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with pytest.MonkeyPatch.context() as patch:
        standin.use(ascend, patch)
        expected = trained(REFUSED)
    use(wrong)
    with caplog.at_level(logging.WARNING):
        found = [trained(REFUSED, compiled) for _ in range(2)]
        trained(TAKEN, compiled)
    (warning,) = warnings(caplog)
    assert f"volumes {REFUSED} of float32" in warning and f"{wrong}: " in warning
    assert list(fallback.FALLBACKS) == [(REFUSED, "float32")]
    for parameters in found:
        assert parameters.keys() == expected.keys()
        for name, value in parameters.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


class Group:
    """Of one device; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def statistics(self, shift, first, second, count):
        self.asked.append("statistics")
        return shift, first, second, ms.Tensor([count], ms.float32)

    def sums(self, first, second):
        self.asked.append("sums")
        return first, second

    def channel_mean(self, x):
        raise NotImplementedError


def test_a_device_that_falls_back_takes_part_in_the_group(ascend, failing):
    """Or the others would wait for ever."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    group, operators = Group(), operators_of(ascend, failing, "Bn3dGradReduce")
    functions = split.build(operators, group, probed=True)
    one = ms.Tensor(np.ones(3, np.float32))
    moving = [ms.Parameter(one * value, name=f"value{value}") for value in (0, 1)]

    def loss(x):
        return ops.square(functions.forward_training(x, one, one, *moving, (1e-5, 0.9, 2))[0]).sum()

    ms.grad(loss)(ms.Tensor(volumes(REFUSED)[0]))
    assert group.asked == ["statistics", "sums"]
    assert list(fallback.FALLBACKS) == [(REFUSED, "float32")]


def test_probe_is_a_bool():
    with pytest.raises(TypeError, match=r"'probe' must be a bool, got 1 \(int\)"):
        bn3d.info(probe=1)


def test_info_tells_what_fails_and_what_was_computed_otherwise(use, monkeypatch):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    use("Bn3dGradApply")
    BatchNorm3d(3).set_train()(ms.Tensor(volumes(REFUSED)[0]))
    found = bn3d.info(probe=True)
    assert found.ok  # the volume that it takes is another one
    assert found.probe == {f"{name} float32": "runs" for name in NAMES}
    assert [name for name, _ in found.rows()].count("not by bn3d (1)") == 1
    assert found.fallbacks[0].startswith(f"{REFUSED} float32: Bn3dGradApply: ")

    monkeypatch.setattr(info, "_PROBED", REFUSED)
    done = CliRunner().invoke(app, ["info", "--probe", "--json", "-"])
    assert done.exit_code == 1
    probe = json.loads(done.stdout)["probe"]
    assert [name for name, said in probe.items() if said != "runs"] == ["Bn3dGradApply float32"]
    assert CliRunner().invoke(app, ["info", "--json", "-"]).exit_code == 0
