"""What commands write: the umask's mode, through links, complete or not at all."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import bn3d
from bn3d import outputs

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes and links of POSIX")


@pytest.fixture(params=[0o077, 0o027, 0o002, 0o022], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_mode_is_that_of_any_new_file(umask, tmp_path):
    (tmp_path / "plain").write_text("")
    outputs.write_text(tmp_path / "ours", "new")
    assert mode(tmp_path / "ours") == mode(tmp_path / "plain") == 0o666 & ~umask


def test_a_writer_that_sets_a_mode_of_its_own_changes_nothing(umask, tmp_path):
    """MindSpore's checkpoints are 0400, what safetensors writes 0600."""
    with outputs.replacing(tmp_path / "ours", ".ckpt") as temporary:
        assert temporary.suffix == ".ckpt"
        temporary.unlink()
        temporary.write_text("new")
        temporary.chmod(0o400)
    assert mode(tmp_path / "ours") == 0o666 & ~umask


def test_a_file_that_was_there_keeps_its_mode(tmp_path):
    (tmp_path / "ours").touch(0o640)
    (tmp_path / "ours").chmod(0o640)
    outputs.write_text(tmp_path / "ours", "new")
    assert mode(tmp_path / "ours") == 0o640
    assert (tmp_path / "ours").read_text() == "new"


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing yet"])
def test_a_link_stays_and_its_target_is_written(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    if there:
        target.write_text("old")
    (tmp_path / "second").symlink_to("elsewhere/target")
    (tmp_path / "first").symlink_to("second")
    outputs.check(tmp_path / "first")
    assert target.exists() == there
    outputs.write_text(tmp_path / "first", "new")
    assert (tmp_path / "first").is_symlink() and (tmp_path / "second").is_symlink()
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_failure_leaves_what_was_there_and_nothing_beside_it(tmp_path):
    (tmp_path / "ours").write_text("old")

    def interrupted():
        with outputs.replacing(tmp_path / "ours") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "ours").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["ours"]


def test_a_pipe_is_written_into(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    got = []
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    outputs.check(pipe)  # without a reader
    reader.start()
    outputs.write_text(pipe, "new")
    reader.join(10)
    assert got == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1"])
def test_standard_output_and_nothing_are_no_files_to_replace(tmp_path, name):
    code = "from bn3d import outputs; outputs.write_text('/dev/null', 'x')\n"
    code += f"outputs.check({name!r}); outputs.write_text({name!r}, 'new')"
    log = tmp_path / "log"
    with log.open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True, timeout=60)
    assert log.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)  # noqa: PTH116


@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "log", "link"])
def test_what_else_is_printed_does_not_overwrite_it(tmp_path, name):
    code = f"from bn3d import outputs; print('before'); outputs.write_text({name!r}, 'new\\n')\n"
    code += f"print('after'); outputs.say_written({name!r})"
    (tmp_path / "link").symlink_to("/dev/stdout")
    log = tmp_path / "log"
    with log.open("w") as out:
        job = subprocess.run(
            [sys.executable, "-c", code],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
            cwd=tmp_path,
        )
    assert log.read_text() == "before\nnew\nafter\n"
    assert job.stderr.endswith(f"wrote {name}\n")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("folder", IsADirectoryError),
        ("nowhere/out", FileNotFoundError),
        ("file/out", NotADirectoryError),
        ("loop", OSError),
        ("/proc/out", OSError),
    ],
)
@pytest.mark.parametrize("call", [outputs.check, lambda path: outputs.write_text(path, "new")])
def test_what_cannot_be_written_is_an_error(tmp_path, name, error, call):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error):
        call(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "file").read_text() == "old"


WRITES = re.compile(r"\.write_(text|bytes)\(|\.savefig\((?!buffer)|open\([^)]*[\"'][wxa]b?[\"']")


def test_every_command_writes_this_way():
    """But the operator package: what installs it is to run without the rest of bn3d."""
    root = Path(bn3d.__file__).parent
    for path in root.rglob("*.py"):
        if path.name == "outputs.py" or path.parent.name == "opp":
            continue
        lines = [line for line in path.read_text().splitlines() if WRITES.search(line)]
        assert all("outputs.write_text(" in line or "(temporary" in line for line in lines), path


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full of Linux")
def test_what_could_not_be_written_has_its_name():
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        outputs.write_text("/dev/full", "text")
