"""Installs the package on many hosts over ssh, at the same time, and checks each.

One connection a host: it sends the package, installs it there and returns the status. Nothing is
left on the host but the installation. A host that fails stops no other.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from . import cann
from .payload import Package
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
cat > "$directory/bn3d.run"
for file in {set_env}; do
  if [ -f "$file" ]; then set +eu; . "$file"; set -eu; break; fi
done
command -v python3 > /dev/null || {{ echo "error: python3 was not found" >&2; exit 1; }}
python3 "$directory/bn3d.run" install {path} > /dev/null
python3 "$directory/bn3d.run" status --json - {path} || true
"""


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

    Raises:
        InstallError: `package` is damaged; no host was touched.
    """
    version = Package.open(package).version
    content = package.read_bytes()
    script = _REMOTE.format(
        required=_required(set_env) if set_env else "",
        set_env=shlex.join([set_env] if set_env else SET_ENV),
        path=f"--path {shlex.quote(path)}" if path else "",
    )

    def run(host: str) -> Result:
        result = _on_host(host, ssh, script, content, timeout)
        return _judge(result, version, path) if result.ok else result

    unique = list(dict.fromkeys(hosts))
    with ThreadPoolExecutor(max_workers=max(1, min(jobs, len(unique)))) as pool:
        results = {}
        for future in as_completed([pool.submit(run, host) for host in unique]):
            results[future.result().host] = future.result()
            on_result(future.result())
    return [results[host] for host in unique]


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
