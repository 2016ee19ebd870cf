"""The commands of docs/ascend.md are there, and those of the Dockerfile run; without either."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from bn3d.commands.cli import app
from bn3d.opp.node import _PYTHON_PACKAGES
from bn3d.opp.payload import Package
from opp.conftest import cann, environment  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "ascend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines()]
DOCKERFILE = ROOT / "scripts" / "opp.Dockerfile"


def parse(words: list[str]) -> None:
    """Raise the command line's error unless these are arguments of `bn3d`."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        name, *words = words
        command = command.commands[name]
    command.make_parser(typer.Context(command)).parse_args(words)


def test_there_are_ten_commands():
    assert len(COMMANDS) == 10
    for block in BLOCKS:
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] == "bn3d"], ids=lambda c: c[1])
def test_bn3d_has_the_commands_and_options(words):
    parse(words[1:])


@pytest.mark.parametrize(
    "words", [c for c in COMMANDS if c[0].startswith("scripts/")], ids=lambda c: Path(c[0]).name
)
def test_the_scripts_are_there(words):
    assert os.access(ROOT / words[0], os.X_OK)
    if words[0] == "scripts/deploy.sh":
        parse(["opp", "deploy", *words[1:]])


def test_an_option_that_is_not_there_is_found():
    with pytest.raises(Exception) as error:
        parse(["opp", "deploy", "node1", "--wheels", "file"])
    assert type(error.value).__name__ == "NoSuchOption"  # typer keeps the class to itself


def test_the_nodes_get_what_the_compiler_of_operators_needs():
    install = next(" ".join(c) for c in COMMANDS if c[0] == "for")
    assert set(_PYTHON_PACKAGES.values()) <= set(re.findall(r"[a-z]+", install))


def test_the_dockerfile_builds_the_package(cann, tmp_path):  # noqa: F811
    """Its instructions by hand: on a copy of what it copies, with the headers of the tests."""
    place, built = tmp_path / "image", []
    for line in DOCKERFILE.read_text().splitlines():
        instruction, _, rest = line.partition(" ")
        if not line or instruction in ("#", "ARG", "FROM", "WORKDIR"):
            continue
        if instruction == "RUN":
            variables = {**os.environ, **environment(cann)}
            subprocess.run(["sh", "-ec", rest], cwd=place / "bn3d", env=variables, check=True)
            continue
        assert instruction == "COPY"
        *sources, target = rest.split()
        if sources[0] == "--from=build":
            built += place.glob(sources[1].lstrip("/"))
            continue
        for source in sources:
            destination = place / target.lstrip("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, destination)
            else:
                destination.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, destination)
    (package,) = built
    assert Package.open(package).info["custom_opp_compiler_version"]
