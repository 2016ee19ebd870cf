"""`bn3d convert`."""

from __future__ import annotations

import shlex
import sys

import mindspore as ms
import pytest
import torch
from typer.testing import CliRunner

from bn3d.commands.cli import app
from migrate.resnets import ResNet, torch_resnet, torch_small

NET = ["--net", "migrate.resnets:build"]
SMALL = ["--net", "migrate.resnets:build_small"]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")  # no name is cut for it

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
    wrote = f"wrote {checkpoint}: 52 mapped, 0 missing, 0 unexpected, 0 mismatched, 10 dropped"
    assert there.output.splitlines() == [wrote]
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
    for text in ("missing: fc.weight", "unexpected: head.weight", "mismatched: bn1.bias"):
        assert text in result.output
    assert not output.exists()

    renamed = run(source, output, *NET, "--key", "model", "--rename", "^head=fc", "--verbose")
    assert renamed.exit_code == 1
    assert "mapped: head.weight: to fc.weight (3, 8) float32\n" in renamed.output
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
        (["--net", "no_such_module:build"], "Error: No module named 'no_such_module'\n"),
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


def files_of(path, code):
    for name, text in code.items():
        (path / name).write_text(text)


LAZY = """
import sys
sys.path.append("/of the user")
def build():
    from lazy_part import Net
    return Net()
"""
PART = "from migrate.resnets import ResNet as Net\n"


def test_a_network_whose_function_imports_and_adds_to_the_path(run, source, tmp_path, monkeypatch):
    files_of(tmp_path, {"lazy_nets.py": LAZY, "lazy_part.py": PART})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = list(sys.path)
    result = run(source, tmp_path / "net.ckpt", "--net", "lazy_nets:build")
    assert result.exit_code == 0, result.output
    assert sys.path == [*before, "/of the user"]


def test_a_network_that_fails_is_named(run, source, tmp_path, monkeypatch):
    files_of(
        tmp_path,
        {"bad_module.py": "1 / 0\n", "bad_function.py": "def build():\n    import nothing_there\n"},
    )
    monkeypatch.chdir(tmp_path)
    for module, says in (
        ("bad_module", "bad_module cannot be imported: ZeroDivisionError"),
        ("bad_function", "bad_function:build failed: ModuleNotFoundError"),
    ):
        result = run(source, "net.ckpt", "--net", f"{module}:build")
        assert result.exit_code == 2
        assert says in result.output and f"{module}.py:" in result.output


def test_a_pattern_may_hold_an_equals_sign(run, source, tmp_path):
    state = torch.load(source, weights_only=True)
    torch.save({f"old={name}": tensor for name, tensor in state.items()}, source)
    for pattern in ("^old=(?=[a-z])=", "^(?!new)old==", "^old(?:=)="):
        result = run(source, tmp_path / "net.ckpt", *NET, "--rename", pattern)
        assert result.exit_code == 0, result.output


WRAPPED = {
    "module.": "--rename '^module[.]='",
    "_orig_mod.": "--rename '_orig_mod[.]='",
    "module._orig_mod.": "--rename '^module[.]=' --rename '_orig_mod[.]='",
    "model.module.": "--rename '^model[.]=' --rename '^module[.]='",
    "net-1.": r"--rename '^net\-1[.]='",
}


@pytest.mark.parametrize(("prefix", "options"), WRAPPED.items(), ids=WRAPPED)
@pytest.mark.parametrize("partial", [[], ["--partial"]], ids=["whole", "partial"])
def test_a_prefix_gives_a_hint_that_works_in_place_of_a_list(
    run, tmp_path, prefix, options, partial
):
    source, output = tmp_path / "in.pt", tmp_path / "net.ckpt"
    state = torch_small().state_dict()
    torch.save({prefix + name: tensor for name, tensor in state.items()}, source)
    result = run(source, output, *SMALL, *partial)
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 2
    assert f"5 of 5 names fit with {options} (" in result.output
    assert not output.exists()
    assert run(source, output, *SMALL, *shlex.split(options)).exit_code == 0


def test_lightning(run, tmp_path):
    """Named as MindSpore's files, with counters beside the state under its key."""
    state = {f"model.{name}": tensor for name, tensor in torch_small().state_dict().items()}
    source, output = tmp_path / "last.ckpt", tmp_path / "net.ckpt"
    saved = {"epoch": 3, "pytorch-lightning_version": "2.4", "state_dict": state}
    torch.save({**saved, "optimizer_states": [{"state": {0: {"step": torch.tensor(1)}}}]}, source)
    result = run(source, output, *SMALL)
    assert result.exit_code == 2
    assert "name the state dict as 'key' (--key state_dict)" in result.output
    result = run(source, output, *SMALL, "--key", "state_dict")
    assert result.exit_code == 1
    assert "5 of 5 names fit with --rename '^model[.]='" in result.output
    result = run(source, output, *SMALL, "--key", "state_dict", "--rename", "^model[.]=")
    assert result.exit_code == 0, result.output


def test_the_file_to_convert_is_not_written_over(run, tmp_path):
    source, link = tmp_path / "in.ckpt", tmp_path / "link.ckpt"
    torch.save(torch_resnet().state_dict(), source)
    link.symlink_to(source)
    before = source.read_bytes()
    for output in (source, link):
        result = run(source, output, *NET)
        assert result.exit_code == 2
        assert "is the file to convert" in result.output
    assert source.read_bytes() == before


def test_safetensors_of_mindspore_go_back(run, tmp_path):
    source, output = tmp_path / "net.safetensors", tmp_path / "out.pt"
    ms.save_checkpoint(ResNet(), str(source), format="safetensors")
    result = run(source, output, *NET)
    assert result.exit_code == 0, result.output
    assert "fc.weight" in torch.load(output, weights_only=True)


def test_no_name_is_cut(run, tmp_path):
    """Whatever the width of the terminal."""
    name = ".".join(["a_part_of_a_network_with_a_long_name"] * 8)
    source = tmp_path / "in.pt"
    torch.save({**torch_resnet().state_dict(), name: torch.ones(1)}, source)
    result = run(source, tmp_path / "net.ckpt", *NET)
    assert f"unexpected: {name}: nothing takes it" in result.output.splitlines()
