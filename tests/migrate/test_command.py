"""`bn3d convert`."""

from __future__ import annotations

import mindspore as ms
import pytest
import torch
from typer.testing import CliRunner

from bn3d.cli import app
from migrate.resnets import ResNet, torch_resnet

NET = ["--net", "migrate.resnets:build"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        return CliRunner().invoke(app, ["convert", *map(str, arguments)])

    return run


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.pt"
    torch.save(torch_resnet().state_dict(), path)
    return path


def test_there_and_back(run, source, tmp_path):
    checkpoint, back = tmp_path / "net.ckpt", tmp_path / "back.pth"
    there = run(source, checkpoint, *NET)
    assert there.exit_code == 0, there.output
    assert "bn1.bn2d.gamma" in there.output
    assert "0 missing, 0 unexpected, 0 mismatched, 10 dropped" in there.output
    ms.load_checkpoint(str(checkpoint), ResNet(), strict_load=True)

    assert run(checkpoint, back, *NET).exit_code == 0
    state = torch.load(back, weights_only=True)
    for name, tensor in torch_resnet().state_dict().items():
        assert torch.equal(state[name], tensor)


def test_a_key_of_a_checkpoint_of_mindspore_is_refused(run, source, tmp_path):
    checkpoint, back = tmp_path / "net.ckpt", tmp_path / "back.pth"
    run(source, checkpoint, *NET)
    result = run(checkpoint, back, *NET, "--key", "state_dict")
    assert result.exit_code == 2
    assert "--key is for files of PyTorch" in result.output
    assert not back.exists()


def test_what_is_not_accounted_for_is_shown_and_nothing_written(run, source, tmp_path):
    state = torch.load(source, weights_only=True)
    state["head.weight"], state["bn1.bias"] = state.pop("fc.weight"), torch.zeros(5)
    torch.save({"model": state}, source)
    output = tmp_path / "net.ckpt"

    result = run(source, output, *NET, "--key", "model")
    assert result.exit_code == 1
    for text in ("missing     fc.weight", "unexpected  head.weight", "mismatched  bn1.bias"):
        assert text in result.output
    assert not output.exists()

    renamed = run(source, output, *NET, "--key", "model", "--rename", "^head=fc")
    assert renamed.exit_code == 1
    assert "fc.weight (3, 8)" in renamed.output
    assert (
        run(source, output, *NET, "--key", "model", "--rename", "^head=fc", "--partial").exit_code
        == 0
    )
    assert output.exists()


def test_a_checkpoint_of_data_parallel(run, source, tmp_path):
    """As the documents show it: with an optimizer beside it, and a prefix to take off."""
    module = torch.nn.DataParallel(torch_resnet())
    optimizer = torch.optim.Adam(module.parameters())
    saved = {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    torch.save(saved, source)
    output = tmp_path / "net.ckpt"
    result = run(source, output, *NET, "--key", "state_dict", "--rename", "^module[.]=")
    assert result.exit_code == 0, result.output
    weight = ms.load_checkpoint(str(output))["fc.weight"].asnumpy()
    assert (weight == module.module.fc.weight.detach().numpy()).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--net", "migrate.resnets"], "--net must be package.module:function"),
        (["--net", "no_such_module:build"], "no_such_module cannot be imported"),
        (["--net", "migrate.resnets:nothing"], "has no function nothing"),
        (["--net", "migrate.resnets:torch_resnet"], "must return a mindspore.nn.Cell"),
        ([*NET, "--rename", "abc"], "--rename must be PATTERN=REPLACEMENT"),
        ([*NET, "--rename", "(=abc"], "is no regular expression"),
    ],
)
def test_bad_arguments_are_named(run, source, tmp_path, arguments, message):
    result = run(source, tmp_path / "net.ckpt", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "net.ckpt").exists()


def test_a_truncated_file(run, source, tmp_path):
    source.write_bytes(source.read_bytes()[:1000])
    result = run(source, tmp_path / "net.ckpt", *NET)
    assert result.exit_code == 2
    assert "in.pt is damaged" in result.output
