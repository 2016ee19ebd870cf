"""Deploying over ssh, against real sshd instances on loopback: one a host."""

from __future__ import annotations

import os
import platform
import pwd
import shlex
import shutil
import socket
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bn3d import __version__
from bn3d.opp import cli
from bn3d.opp import deploy as deployment
from bn3d.opp.cli import app
from bn3d.opp.deploy import deploy
from bn3d.opp.payload import InstallError, Package
from bn3d.opp.status import status

from .conftest import REPOSITORY, VERSION_INFO, environment, names

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
_NEEDS_SSHD = [
    pytest.mark.skipif(
        not SSHD or not shutil.which("ssh"), reason="no sshd: apt-get install openssh-server"
    ),
    pytest.mark.skipif(
        Path(pwd.getpwuid(os.geteuid()).pw_shell).name in ("nologin", "false"),
        reason="this user may not log in",
    ),
]


def needs_sshd(test: Callable) -> Callable:
    for mark in _NEEDS_SSHD:
        test = mark(test)
    return test


class Hosts:
    """Names that `ssh -F config` knows, each with a CANN of its own."""

    def __init__(self, directory: Path):
        self.directory = directory
        self.config = directory / "ssh_config"
        self.set_env = str(directory / "set env.sh")  # CANN's installer asks for a directory
        self.ssh = ("ssh", "-F", str(self.config))
        self._daemons: list[subprocess.Popen] = []
        for key in ("host_key", "user_key"):
            path = directory / key
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
            subprocess.run(generate, check=True)
        Path(self.set_env).write_text(
            "echo 'CANN greets'\n"
            'export ASCEND_HOME_PATH="$HOST_ROOT" ASCEND_OPP_PATH="$HOST_ROOT/opp"\n'
        )
        self.config.write_text(
            "Host *\n"
            f"  IdentityFile {directory}/user_key\n"
            "  IdentitiesOnly yes\n  StrictHostKeyChecking no\n  LogLevel ERROR\n"
            f"  UserKnownHostsFile {directory}/known_hosts\n  HostName 127.0.0.1\n"
        )

    def root(self, name: str) -> Path:
        return self.directory / name

    def start(self, name: str) -> None:
        root, port = self.root(name), self._name(name)
        (root / "opp" / "built-in").mkdir(parents=True)
        (root / "tmp").mkdir()
        (root / "compiler").mkdir()
        (root / "compiler" / "version.info").write_text(VERSION_INFO)
        config = self.directory / f"{name}.sshd"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.directory}/host_key\n"
            f"AuthorizedKeysFile {self.directory}/user_key.pub\nPidFile none\nStrictModes no\n"
            "PasswordAuthentication no\nUsePAM no\nPermitRootLogin yes\n"
            f"SetEnv HOST_ROOT={root} TMPDIR={root}/tmp PIP_NO_INDEX=1\n"
        )
        command = [str(SSHD), "-D", "-e", "-f", str(config)]
        log = (self.directory / f"{name}.log").open("w")
        self._daemons.append(subprocess.Popen(command, stderr=log))
        _wait_for(port, self.directory / f"{name}.log")

    def absent(self, name: str) -> None:
        """A host on which nothing listens."""
        self._name(name)

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait()

    def _name(self, name: str) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        # ssh takes the first value that it finds, so the particular goes before "Host *".
        text = f"Host {name}\n  Port {port}\n" + self.config.read_text()
        self.config.write_text(text)
        return port


def _wait_for(port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"sshd did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Good and second are sound; old has another CANN; absent does not answer."""
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where a root sshd separates its privileges
    made = Hosts(tmp_path_factory.mktemp("hosts"))
    try:
        for name in ("good", "second", "old", "shadowed"):
            made.start(name)
        made.absent("absent")
        (made.root("old") / "compiler" / "version.info").write_text(
            'Version=6.0\nrequired_opp_abi_version=">=5.0, <=6.0"\n'
        )
        yield made
    finally:
        made.stop()


@needs_sshd
def test_installs_on_all_and_one_bad_host_stops_no_other(
    hosts: Hosts, run_file: Path, parsed: Package
):
    arrived = []
    results = deploy(
        ["good", "absent", "old", "second", "good"],
        run_file,
        ssh=hosts.ssh,
        set_env=hosts.set_env,
        on_result=arrived.append,
    )
    assert [result.host for result in results] == ["good", "absent", "old", "second"]
    assert sorted(result.host for result in arrived) == ["absent", "good", "old", "second"]
    by_host = {result.host: result for result in results}
    for name in ("good", "second"):
        root = hosts.root(name)
        assert by_host[name].ok, by_host[name].message
        assert by_host[name].state["version"] == parsed.version
        assert by_host[name].state["location"] == str(root / "opp" / "vendors" / "bn3d")
        assert status(environment=environment(root))["active"]
    assert not by_host["absent"].ok and "refused" in by_host["absent"].message
    assert not by_host["old"].ok and "loads packages of >=5.0, <=6.0" in by_host["old"].message
    assert names(hosts.root("old") / "opp") == ["built-in"]
    for name in ("good", "second", "old"):
        assert names(hosts.root(name) / "tmp") == []


@needs_sshd
def test_installs_to_a_path_with_a_space(hosts: Hosts, run_file: Path):
    path = hosts.root("second") / "with space; echo"
    (result,) = deploy(["second"], run_file, path=str(path), ssh=hosts.ssh, set_env=hosts.set_env)
    assert result.ok, result.message
    assert (path / "vendors" / "bn3d" / "version.info").is_file()
    assert "CANN does not search there unless" in cli._table([result], None)


@needs_sshd
def test_a_shadowed_installation_is_a_failure(hosts: Hosts, run_file: Path):
    vendors = hosts.root("shadowed") / "opp" / "vendors"
    config = vendors / "first" / "op_impl" / "ai_core" / "tbe" / "config" / "ascend910"
    config.mkdir(parents=True)
    (config / "aic-ascend910-ops-info.json").write_text('{"Bn3dApply": {}}')
    (vendors / "config.ini").write_text("load_priority=first,bn3d\n")
    (result,) = deploy(["shadowed"], run_file, ssh=hosts.ssh, set_env=hosts.set_env)
    assert not result.ok
    assert result.message == f"shadowed by {vendors / 'first'}"


@needs_sshd
@pytest.mark.parametrize(("names", "code"), [(["good"], 0), (["good", "absent"], 1)])
def test_the_script_prints_a_table(hosts: Hosts, run_file: Path, names: list[str], code: int):
    command = [str(REPOSITORY / "scripts" / "deploy.sh"), *names, "--package", str(run_file)]
    options = ["--ssh", " ".join(hosts.ssh), "--set-env", hosts.set_env]
    done = subprocess.run(
        [*command, *options],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "20", "PYTHON": sys.executable},
    )
    assert done.returncode == code, done.stderr
    assert f"good{'  ' if code == 0 else '    '}ok      " in done.stdout
    assert f"{hosts.root('good')}/opp/vendors/bn3d\n" in done.stdout  # whole, whatever the width
    assert ("failed" in done.stdout) == (code == 1)


def wheel_of(directory: Path, tag: str, text: str = "", requires: str = "") -> Path:
    """A wheel of bn3d with no more than a module."""
    name = f"bn3d-{__version__}"
    path = directory / f"{name}-py3-none-{tag}.whl"
    needs = f"Requires-Dist: {requires}\n" if requires else ""
    files = {
        "bn3d/__init__.py": text,
        f"{name}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: bn3d\nVersion: {__version__}\n{needs}"
        ),
        f"{name}.dist-info/WHEEL": (
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-{tag}\n"
        ),
        f"{name}.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, content in files.items():
            archive.writestr(file, content)
    return path


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of a host, in a folder with a space."""
    folder = tmp_path_factory.mktemp("host") / "its venv"
    venv.create(folder, with_pip=True)
    return str(folder / "bin" / "python")


@needs_sshd
def test_the_wheel_travels_with_the_package(
    hosts: Hosts, run_file: Path, tmp_path: Path, interpreter: str
):
    """Also one of the same version with other contents."""
    options = ["--ssh", shlex.join(hosts.ssh), "--set-env", hosts.set_env]
    for text in ("first = 1", "second = 2"):
        wheel = wheel_of(tmp_path, f"linux_{platform.machine()}", text)
        command = ["deploy", "good", "--package", run_file, "--wheel", wheel, "--python"]
        done = CliRunner().invoke(app, [*map(str, command), interpreter, *options])
        assert done.exit_code == 0, done.output
        imported = [interpreter, "-c", "import bn3d; print(open(bn3d.__file__).read())"]
        said = subprocess.run(imported, cwd="/", env={}, capture_output=True, text=True, check=True)
        assert said.stdout.strip() == text
    assert names(hosts.root("good") / "tmp") == []


@needs_sshd
def test_what_pip_refuses_is_said_and_the_operators_stay_as_they_were(
    hosts: Hosts, run_file: Path, tmp_path: Path, interpreter: str
):
    place = tmp_path / "place"
    for requires, python, reason in (
        ("numpy==0.0.1", interpreter, "numpy==0.0.1"),
        ("", "no-such-python", "no-such-python: "),
    ):
        (result,) = deploy(
            ["second"],
            run_file,
            str(place),
            hosts.ssh,
            hosts.set_env,
            wheel=wheel_of(tmp_path, "any", requires=requires),
            python=python,
        )
        assert not result.ok and reason in result.message
        assert result.message.startswith(f"error: {python} cannot install the wheel: ")
    assert not place.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bn3d.whl", "is no wheel of bn3d"),
        (f"bn3d-{__version__}-py3-none-any.whl", "is no wheel of bn3d"),
        ("bn3d-0.0.1-py3-none-any.whl", "is of bn3d 0.0.1, the operator package of"),
        (f"bn3d-{__version__}-py3-none-linux_riscv64.whl", "is for linux_riscv64, the operator"),
    ],
)
def test_a_wheel_that_does_not_fit_goes_nowhere(
    name: str, reason: str, run_file: Path, tmp_path: Path
):
    wheel = tmp_path / name
    wheel.write_bytes(b"" if reason == "is no wheel of bn3d" else run_file.read_bytes())
    with pytest.raises(InstallError, match=reason):
        deploy(["host"], run_file, ssh=["false"], wheel=wheel)


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def run_script(script: Path, **variables: str) -> subprocess.CompletedProcess:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        [script, "host"], capture_output=True, text=True, check=False, env={**kept, **variables}
    )


def test_the_script_says_which_python_it_needs(tmp_path: Path):
    python = executable(tmp_path / "python", f'exec {sys.executable} -S "$@"')  # no site-packages
    done = run_script(REPOSITORY / "scripts" / "deploy.sh", PYTHON=str(python))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "with typer and rich" in line and "set PYTHON" in line and str(python) in line


def test_the_script_takes_the_virtual_environment_that_is_there(tmp_path: Path):
    script = tmp_path / "scripts" / "deploy.sh"
    script.parent.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "deploy.sh", script)
    executable(tmp_path / ".venv" / "bin" / "python", "echo asked the virtual environment")
    done = run_script(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert "asked the virtual environment" in done.stdout


@pytest.fixture
def here(tmp_path: Path) -> tuple[str]:
    """An ssh that runs the command on this machine."""
    return (str(executable(tmp_path / "ssh", 'for command; do :; done\nexec sh -c "$command"')),)


def test_the_first_set_env_that_is_there_is_sourced(
    here: tuple[str], node: Path, run_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """CANN 8.5 moved it; a host may have either."""
    files = [tmp_path / name for name in ("absent.sh", "set env.sh", "later.sh")]
    files[1].write_text(f"export ASCEND_HOME_PATH='{node}' ASCEND_OPP_PATH='{node}/opp'\n")
    files[2].write_text("exit 3\n")
    monkeypatch.setattr(deployment, "SET_ENV", [str(file) for file in files])
    (result,) = deploy(["host"], run_file, ssh=here)
    assert result.ok, result.message
    assert result.state["location"] == str(node / "opp" / "vendors" / "bn3d")


def test_a_named_set_env_that_is_not_there_is_a_failure(
    here: tuple[str], run_file: Path, tmp_path: Path
):
    file = tmp_path / "it's not.sh"
    (result,) = deploy(["host"], run_file, path=str(tmp_path), ssh=here, set_env=str(file))
    assert not result.ok and result.message == f"error: there is no {file}"
    assert not (tmp_path / "vendors").exists()


def test_a_host_that_does_not_answer_in_time_fails(run_file: Path, tmp_path: Path):
    slow = executable(tmp_path / "slow", "exec sleep 30")
    (result,) = deploy(["host"], run_file, ssh=[str(slow)], timeout=0.2)
    assert not result.ok and result.message == "no answer after 0.2 s"


def test_without_ssh_every_host_fails(run_file: Path):
    (result,) = deploy(["host"], run_file, ssh=["no-such-ssh"])
    assert not result.ok and "No such file" in result.message


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "3",
        '{"installed": true}',
        '{"installed": true, "location": 1}',
        '{"installed": true, "location": "/x", "version": "0", "damaged": [1], "searched": true, '
        '"active": true, "accepted": true}',
    ],
)
def test_an_answer_that_is_no_status_is_a_failure(answer: str, run_file: Path, tmp_path: Path):
    ssh = executable(tmp_path / "ssh", f"cat >/dev/null; echo '{answer}'")
    (result,) = deploy(["host"], run_file, ssh=[str(ssh)])
    assert not result.ok and "unexpected answer" in result.message


def test_what_a_host_says_cannot_move_the_cursor(run_file: Path, tmp_path: Path):
    said = "printf 'error: a\\033[2Jb [red]c[/nonsense]\\n' >&2"
    ssh = executable(tmp_path / "ssh", f"cat >/dev/null; {said}; exit 1")
    done = CliRunner().invoke(
        app, ["deploy", "host", "--package", str(run_file), "--ssh", str(ssh)]
    )
    assert done.exit_code == 1
    assert "host  failed  error: a?[2Jb [red]c[/nonsense]\n" in done.output


def test_a_nonsensical_answer_is_a_failure(run_file: Path):
    (result,) = deploy(["host"], run_file, ssh=["true"])
    assert not result.ok and "unexpected answer" in result.message


@pytest.mark.parametrize("file", ["build/opp/x-aarch64.run", "dist/x_aarch64.whl"])
def test_a_file_is_no_host(file: str, run_file: Path):
    """`--package build/opp*/*.run` where there are two."""
    with pytest.raises(InstallError, match=f"must be names, got the file {file}"):
        deploy(["host", file], run_file, ssh=["false"])


def test_a_damaged_package_goes_nowhere(tmp_path: Path):
    (tmp_path / "bad.run").write_bytes(b"nonsense")
    with pytest.raises(InstallError, match="not a readable package"):
        deploy(["host"], tmp_path / "bad.run", ssh=["false"])
    done = CliRunner().invoke(app, ["deploy", "host", "--package", str(tmp_path / "bad.run")])
    assert done.exit_code == 2
