"""The choice of a backend, and the composed one against the judge."""

import importlib
import logging
import platform
import subprocess
import sys

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, ops

from bn3d import backends, reference
from bn3d.backends import composed, library, native
from support.cpu_backends import CPU_BACKENDS

SHAPES = [(2, 3, 4, 5, 6), (1, 3, 1, 1, 1), (0, 3, 2, 2, 2)]


@pytest.fixture
def fresh_choice():
    backends._choose.cache_clear()
    yield
    backends._choose.cache_clear()


def test_native_on_a_cpu(fresh_choice, monkeypatch):
    monkeypatch.delenv("BN3D_BACKEND", raising=False)
    choice = backends.choose()
    assert (choice.name, choice.backend, choice.passed_over) == ("native", native.BACKEND, {})


@pytest.mark.parametrize("value", ["", "auto"])
def test_auto_is_the_default(fresh_choice, monkeypatch, value):
    monkeypatch.setenv("BN3D_BACKEND", value)
    assert backends.choose().name == "native"


def test_composed_by_wish(fresh_choice, monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "composed")
    assert backends.choose().backend is composed.BACKEND


def test_a_name_that_is_none(fresh_choice, monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "cuda")
    with pytest.raises(ValueError, match=r"must be one of auto, .*composed, numpy, got 'cuda'"):
        backends.choose()


def test_other_devices_compose(fresh_choice, monkeypatch):
    monkeypatch.delenv("BN3D_BACKEND", raising=False)
    assert backends.choose("GPU").name == "composed"


@pytest.mark.skipif(not hasattr(ms, "DeviceCtx"), reason="this MindSpore has no DeviceCtx")
def test_on_meta_it_says_once_that_it_composes(fresh_choice, monkeypatch, caplog):
    monkeypatch.delenv("BN3D_BACKEND", raising=False)
    with ms.DeviceCtx("meta"):
        assert [backends.choose().name for _ in range(2)] == ["composed"] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert 'DeviceCtx("meta")' in caplog.text


def test_a_wish_for_native_on_another_device_raises(fresh_choice, monkeypatch):
    monkeypatch.setenv("BN3D_BACKEND", "native")
    with pytest.raises(RuntimeError, match="needs the device target CPU, this one is GPU"):
        backends.choose("GPU")


def test_other_platforms_compose(fresh_choice, monkeypatch):
    monkeypatch.delenv("BN3D_BACKEND", raising=False)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    choice = backends.choose()
    assert choice.name == "composed"
    assert "Linux only, this is Darwin" in choice.passed_over["native"]


@pytest.fixture
def without_library(child_environment):
    """Run a script, given as text, where the library's file does not exist."""

    def run(script, backend):
        hidden = "import bn3d.backends.library; bn3d.backends.library.LIBRARY_NAME = 'none.so'\n"
        return subprocess.run(
            [sys.executable, "-c", hidden + script],
            capture_output=True,
            text=True,
            env={**child_environment, "BN3D_BACKEND": backend},
            check=False,
        )

    return run


def test_without_a_library_one_warning_says_what_to_do(without_library):
    run = without_library(
        "import bn3d\nbn3d.BatchNorm3d(3); bn3d.BatchNorm3d(3)\nprint(bn3d.info().backend)", "auto"
    )
    assert run.stdout.strip() == "composed", run.stderr
    assert run.stderr.count("bn3d computes with its composed backend") == 1
    assert "install g++ or clang++ and reinstall bn3d" in run.stderr


def test_a_wish_for_native_without_a_library_raises(without_library):
    run = without_library("import bn3d; bn3d.BatchNorm3d(3)", "native")
    assert run.returncode == 1
    assert "RuntimeError: BN3D_BACKEND=native, but this backend does not work here" in run.stderr


def test_a_library_of_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("bn3d.__version__", "9.9")
    library.load.cache_clear()
    try:
        with pytest.raises(library.LibraryError, match=r"this package is 9\.9; reinstall"):
            library.load()
    finally:
        library.load.cache_clear()


def test_a_file_that_is_no_library_is_refused(monkeypatch, tmp_path):
    (tmp_path / library.LIBRARY_NAME).write_bytes(b"\x7fELF not really")
    monkeypatch.setattr("bn3d.__path__", [str(tmp_path)])
    library.load.cache_clear()
    try:
        with pytest.raises(library.LibraryError, match=r"cannot be loaded .*reinstall bn3d"):
            library.load()
    finally:
        library.load.cache_clear()


@pytest.fixture(params=CPU_BACKENDS)
def backend(request):
    return importlib.import_module(f"bn3d.backends.{request.param}").BACKEND


def parameters(channels=3):
    """gamma, beta, moving_mean, moving_variance."""
    values = np.random.default_rng(5).uniform(0.5, 1.5, (4, channels)).astype(np.float32)
    return [Parameter(Tensor(v), requires_grad=False) for v in values]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_training_is_the_judges(rng, mode, backend, shape):
    x = rng.normal(1000, 1, shape).astype(np.float32)
    tensors = parameters()
    before = [t.asnumpy().copy() for t in tensors]
    y = backend.forward_training(Tensor(x), *tensors, backend.settings(1e-3, 0.8))[0]
    wanted = reference.forward_training(x, *before, 1e-3, 0.8)
    np.testing.assert_allclose(y.asnumpy(), wanted.y, rtol=0, atol=2e-6)
    np.testing.assert_allclose(tensors[2].asnumpy(), wanted.moving_mean, rtol=1e-6)
    np.testing.assert_allclose(tensors[3].asnumpy(), wanted.moving_variance, rtol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_inference_is_the_judges(rng, mode, backend, shape):
    x = rng.normal(1, 1, shape).astype(np.float32)
    tensors = parameters()
    y = backend.forward_inference(Tensor(x), *tensors, backend.settings(1e-3, 0.8))
    wanted = reference.forward_inference(x, *[t.asnumpy() for t in tensors], 1e-3)
    np.testing.assert_allclose(y.asnumpy(), wanted, rtol=0, atol=2e-6)


@pytest.mark.parametrize("training", [True, False])
def test_gradients_are_the_judges(rng, mode, backend, training):
    x, dy = rng.normal(2, 1, (2, 2, 3, 4, 5, 6)).astype(np.float32)
    gamma, beta, mean, variance = parameters()
    gamma, beta = Tensor(gamma.asnumpy()), Tensor(beta.asnumpy())
    before = mean.asnumpy().copy(), variance.asnumpy().copy()
    settings = backend.settings(1e-3, 0.8)

    def loss(x, gamma, beta):
        if training:
            y = backend.forward_training(x, gamma, beta, mean, variance, settings)[0]
        else:
            y = backend.forward_inference(x, gamma, beta, mean, variance, settings)
        return (y * Tensor(dy)).sum()

    got = ops.grad(loss, (0, 1, 2))(Tensor(x), gamma, beta)
    if training:
        batch = reference.batch_statistics(x)
        wanted = reference.gradient_training(dy, x, gamma.asnumpy(), *batch, 1e-3)
    else:
        wanted = reference.gradient_inference(dy, x, gamma.asnumpy(), *before, 1e-3)
    for g, w in zip(got, wanted, strict=True):
        np.testing.assert_allclose(g.asnumpy(), w, rtol=0, atol=2e-6 * np.abs(w).max())


def test_a_bad_call_is_an_error_with_the_reason(mode):
    """Straight to the operator, past the checks of the layer."""
    gamma, beta, mean, variance = parameters(4)
    x = Tensor(np.ones((2, 3, 1, 1, 2), np.float32))
    with pytest.raises(RuntimeError, match=r"'gamma' must have shape \(3,\), got float32 \(4,\)"):
        native.forward_inference(
            x, gamma, beta, mean, variance, native.BACKEND.settings(1e-3, 0.8)
        ).asnumpy()


def test_a_compiler_that_takes_too_long_is_an_obstacle(monkeypatch):
    """MindSpore gives it 30 seconds, as the Ascend backend registers its operators."""

    def import_module(name):
        raise subprocess.TimeoutExpired(["g++", "-shared"], 30)

    with monkeypatch.context() as importing:
        importing.setattr(importlib, "import_module", import_module)
        said = backends._failure("ascend")
    assert said.startswith("MindSpore gave g++ 30 seconds")
    assert said.endswith("start again when this machine is less busy")


def test_the_logger_is_bn3ds(fresh_choice, monkeypatch, caplog):
    monkeypatch.delenv("BN3D_BACKEND", raising=False)
    monkeypatch.setattr(backends, "_obstacle", lambda name, _: "no" if name == "native" else None)
    with caplog.at_level(logging.WARNING, logger="bn3d"):
        backends.choose()
    assert [r.name for r in caplog.records] == ["bn3d"]


@pytest.mark.parametrize(
    "name, volumes, vectors",
    [("reduce", 1, 1), ("apply", 1, 3), ("grad_reduce", 2, 1), ("grad_apply", 2, 4)],
)
def test_the_four_operators_are_the_judges(rng, mode, name, volumes, vectors):
    arguments = [rng.normal(size=(2, 3, 4, 5, 6)).astype(np.float32) for _ in range(volumes)]
    arguments += [rng.normal(size=3).astype(np.float32) for _ in range(vectors)]
    got = getattr(native.BACKEND.operators, name)(*[Tensor(a) for a in arguments])
    wanted = getattr(reference, name)(*arguments)
    if not isinstance(wanted, tuple):
        got, wanted = (got,), (wanted,)
    for g, w in zip(got, wanted, strict=True):
        assert g.dtype == ms.float32
        np.testing.assert_allclose(g.asnumpy(), w, rtol=0, atol=1e-6 * np.abs(w).max())
