"""Installs the package on many hosts over ssh, at the same time, and checks each.

One connection a host: it sends the package, and the Python wheel where there is one, installs them
there and returns the status. Nothing is left on the host but the installation. A host that fails
stops no other.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from . import cann
from .payload import InstallError, Package
from .status import is_state

__all__ = ["SET_ENV", "Result", "deploy"]

# The first that is there counts.
SET_ENV = tuple(f"{place}/set_env.sh" for place in cann.DEFAULT_PLACES)

# A command over ssh runs without the login's environment, hence set_env.sh. The answer is the
# last line; CANN's scripts may print before it.
_REMOTE = """
set -eu
directory=$(mktemp -d "${{TMPDIR:-/tmp}}/bn3d.XXXXXX")
trap 'rm -rf "$directory"' EXIT
{required}
head -c {size} > "$directory/bn3d.run"
{receive_wheel}
for file in {set_env}; do
  if [ -f "$file" ]; then set +eu; . "$file"; set -eu; break; fi
done
command -v python3 > /dev/null || {{ echo "error: python3 was not found" >&2; exit 1; }}
{install_wheel}
sh "$directory/bn3d.run" install {path} > /dev/null
sh "$directory/bn3d.run" status --json - {path} || true
"""

# Twice: the first brings what the wheel needs, but keeps another bn3d of the same version.
_INSTALL_WHEEL = """
for options in "" "--no-deps --force-reinstall"; do
  said=$({python} -m pip install --quiet --disable-pip-version-check $options \
    "$directory"/{wheel} 2>&1) || {{
    reason=$(printf '%s\\n' "$said" | grep -m 1 -i '^error' || printf '%s\\n' "$said" | tail -n 1)
    printf 'error: %s cannot install the wheel: %s\\n' {python} "$reason" >&2
    exit 1
  }}
done
"""

# name-version-python-abi-platform, as the binary distribution format has it.
_WHEEL_NAME = re.compile(
    r"bn3d-(?P<version>[0-9][0-9A-Za-z.+!_]*)(-[^-]+){2}-(?P<platform>[^-/]+)\.whl"
)


@dataclass(frozen=True)
class Result:
    """How it went on one host.

    Attributes:
        host: as given.
        ok: installed, undamaged, and CANN uses it (or would, where `path` is set).
        state: what `bn3d.opp.status.status` says there; empty if it did not get so far.
        message: why not ok.
    """

    host: str
    ok: bool
    state: dict
    message: str


def deploy(
    hosts: Sequence[str],
    package: Path,
    path: str | None = None,
    ssh: Sequence[str] = ("ssh",),
    set_env: str | None = None,
    timeout: float = 300.0,
    jobs: int = 16,
    on_result: Callable[[Result], None] = lambda result: None,
    wheel: Path | None = None,
    python: str = "python3",
) -> list[Result]:
    """Install `package` on all hosts; returns their results in the order given.

    Args:
        hosts: as ssh takes them, "user@name" or a name in ~/.ssh/config.
        package: the .run file.
        path: the directory on the hosts; default is by their environment.
        ssh: the command and its options, such as ("ssh", "-p", "2222").
        set_env: CANN's set_env.sh on the hosts; default is the first of SET_ENV, if any is there.
        timeout: seconds a host may take.
        jobs: hosts at the same time.
        on_result: called with each result as it arrives.
        wheel: of bn3d, which pip installs on the hosts, too, with what it needs.
        python: the interpreter on the hosts to install the wheel into.

    Raises:
        InstallError: `package` or `wheel` is damaged, or one is not for the other; a host is a
            file; or `path` names no directory. No host was touched.
    """
    if path is not None and (not path or path.startswith("~")):  # quoted, ~ is a name like others
        raise InstallError(f"path must name a directory on the hosts in full, got {path!r}")
    for host in hosts:
        if host.endswith((".run", ".whl")):  # a pattern that had more matches than one
            raise InstallError(
                f"the hosts must be names, got the file {host}: --package and --wheel take one each"
            )
    opened = Package.open(package)
    if wheel is not None:
        _check_wheel(wheel, opened)
    version, contents = opened.version, [package.read_bytes()]
    names = {"python": shlex.quote(python), "wheel": shlex.quote(wheel.name if wheel else "")}
    if wheel is not None:
        contents.append(wheel.read_bytes())
    script = _REMOTE.format(
        required=_required(set_env) if set_env else "",
        size=len(contents[0]),
        receive_wheel='cat > "$directory"/{wheel}'.format(**names) if wheel else "",
        install_wheel=_INSTALL_WHEEL.format(**names) if wheel else "",
        set_env=shlex.join([set_env] if set_env else SET_ENV),
        path="" if path is None else f"--path {shlex.quote(path)}",
    )
    content = b"".join(contents)

    def run(host: str) -> Result:
        result = _on_host(host, ssh, script, content, timeout)
        return _judge(result, version, path) if result.ok else result

    unique = list(dict.fromkeys(hosts))
    pool = ThreadPoolExecutor(max_workers=max(1, min(jobs, len(unique))))
    results = {}
    try:
        for future in as_completed([pool.submit(run, host) for host in unique]):
            results[future.result().host] = future.result()
            on_result(future.result())
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C no host is waited for
    return [results[host] for host in unique]


def _check_wheel(wheel: Path, package: Package) -> None:
    """Raise InstallError unless pip could install this wheel beside this package."""
    name = _WHEEL_NAME.fullmatch(wheel.name)
    if name is None or not zipfile.is_zipfile(wheel):
        raise InstallError(f"{wheel} is no wheel of bn3d")
    if name["version"] != package.version:
        raise InstallError(
            f"{wheel} is of bn3d {name['version']}, the operator package of {package.version}: "
            "they work with each other only"
        )
    arch = package.info["bn3d_arch"]
    if not name["platform"].endswith((arch, "any")):
        raise InstallError(f"{wheel} is for {name['platform']}, the operator package for {arch}")


def _required(file: str) -> str:
    """The command that ends a host's script with an error if `file` is not there."""
    missing = shlex.quote(f"error: there is no {file}")
    return f"[ -f {shlex.quote(file)} ] || {{ echo {missing} >&2; exit 1; }}"


def _on_host(host: str, ssh: Sequence[str], script: str, content: bytes, timeout: float) -> Result:
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]  # never wait for a password
    command = [*ssh, *options, "--", host, f"sh -c {shlex.quote(script)}"]
    try:
        done = subprocess.run(
            command, input=content, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Result(host, False, {}, f"no answer after {timeout:g} s")
    except OSError as error:
        return Result(host, False, {}, f"{ssh[0]}: {error.strerror}")
    said = done.stderr.decode(errors="replace").strip().splitlines()
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode != 0:
        errors = [line for line in said if line.startswith("error: ")] or said[-1:]
        return Result(host, False, {}, errors[0] if errors else f"exit code {done.returncode}")
    try:
        state = json.loads(lines[-1])
    except (IndexError, ValueError):
        state = None
    if not is_state(state):
        return Result(host, False, {}, f"unexpected answer {lines[-1:]}")
    return Result(host, True, state, "")


def _judge(result: Result, version: str, path: str | None) -> Result:
    state = result.state
    problem = ""
    if not state.get("installed") or state.get("version") != version:
        problem = f"has version {state.get('version')} instead of {version}"
    elif state["damaged"]:
        problem = f"damaged: {', '.join(state['damaged'])}"
    elif state["shadowed_by"]:
        problem = f"shadowed by {state['shadowed_by']}"
    elif not state["active"] and path is None:
        problem = f"CANN does not search there: source {state['location']}/bin/set_env.bash"
    return Result(result.host, not problem, state, problem)
