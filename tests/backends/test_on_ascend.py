"""What only a device can show. Skipped where there is none; `pytest -m ascend` runs it alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ascend


def run_python(environment, *arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def device(child_environment):
    """Asked in a process of its own: a process has one device target for good."""
    script = "from bn3d.commands.verify.session import set_device; print(set_device('Ascend').name)"
    asked = run_python(child_environment, "-c", script)
    if "DeviceError: " in asked.stderr:
        pytest.skip(asked.stderr.rpartition("DeviceError: ")[2].strip())
    assert asked.returncode == 0, asked.stderr


def test_verify_passes(device, child_environment, tmp_path):
    file = tmp_path / "verify.json"
    verify = ("-m", "bn3d.commands.cli", "verify", "--device", "Ascend", "--json", file)
    done = run_python(child_environment, *verify)
    wrong = [check for check in json.loads(file.read_text())["checks"] if not check["ok"]]
    assert done.returncode == 0, wrong


def test_the_backend_is_ours(device, child_environment):
    script = (
        "import mindspore as ms; ms.set_device('Ascend')\n"
        "from bn3d import backends; print(backends.choose().name)"
    )
    done = run_python(child_environment, "-c", script)
    done.check_returncode()
    assert done.stdout.splitlines()[-1] == "ascend"
