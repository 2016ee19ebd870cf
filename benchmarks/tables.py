"""The tables of measured numbers in the documents, made from the files in data/.

python benchmarks/tables.py          # writes them
python benchmarks/tables.py --check  # exit code 1 where a document says something else

A table stands between the comments `<!-- table: NAME -->` and `<!-- end -->`; without its
file in data/ it stays as it is.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from bn3d.commands.bench.timing import BUSY

ROOT = Path(__file__).parent.parent
DATA = Path(__file__).parent / "data"
DOCUMENTS = (ROOT / "README.md", ROOT / "README_CN.md", ROOT / "docs" / "fast_cpu.md")


def network_lines(result: dict) -> list[str]:
    """A row for each network and mode; times are medians (20 %..80 %) of differences in a turn."""
    lines = [
        "| network | mode | stock, ms a step | its norm layers | bn3d's norm layers | bn3d saves |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["networks"]:
        times = row["differences"]
        saved = _spread(times["saved"])
        if row["other_load_cores"] > BUSY:
            saved = f"not measured: the machine was busy ({row['other_load_cores']} cores)"
        elif not row["distinguishable"]:
            saved += f", not distinguishable here (noise {_spread(times['noise'])})"
        cells = (
            f"{row['network']} {_shape(row['shape'])}",
            row["mode"],
            _spread(row["milliseconds"]["stock"]),
            _spread(times["stock's norm layers"]),
            _spread(times["bn3d's norm layers"]),
            saved,
        )
        lines.append(f"| {' | '.join(cells)} |")
    busiest = max(row["other_load_cores"] for row in result["networks"])
    return [*lines, "", _made_by(result, busiest)]


def step_lines(result: dict) -> list[str]:
    """A row for each network: median steps, stock's and bn3d's, in each mode."""
    modes = list(dict.fromkeys(row["mode"] for row in result["networks"]))
    networks: dict[str, list[str]] = {}
    for row in result["networks"]:
        stock, ours = (row["milliseconds"][name]["p50"] for name in ("stock", "bn3d"))
        steps = networks.setdefault(f"{row['network']} {_shape(row['shape'])}", [])
        steps.append(f"{stock:.0f} → {ours:.0f}" + ("" if row["distinguishable"] else " (noise)"))
    lines = [f"| network | {' | '.join(modes)} |", f"|---|{'---|' * len(modes)}"]
    return [*lines, *(f"| {' | '.join([name, *steps])} |" for name, steps in networks.items())]


def fast_cpu_lines(result: dict) -> list[str]:
    """A row for each operator: forward and forward + backward, and the same of what to write."""
    lines = []
    for kind in dict.fromkeys(row["kind"] for row in result["rows"]):
        lines += [
            *([""] if lines else []),
            f"**{kind}**",
            "",
            "| written | x | forward, ms | and gradients | instead | forward | and gradients |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in (row for row in result["rows"] if row["kind"] == kind):
            times = row["milliseconds"]
            instead = ["", "", ""]
            if row["instead"]:
                found = [times["instead, forward"], times["instead, with gradients"]]
                instead = [f"`{row['instead']}`", *map(_spread, found)]
                if found[1]["p80"] >= times["with gradients"]["p20"]:
                    instead[0] += ": no faster here"
                elif row["at_zero"]:
                    instead[0] += f"; gradient where x is 0: {row['at_zero']}"
            cells = (
                f"`{row['written']}`",
                _shape(row["shape"]),
                _spread(times["forward"]),
                _spread(times["with gradients"]),
                *instead,
            )
            lines.append(f"| {' | '.join(cells)} |")
    busiest = max(row["other_load_cores"] for row in result["rows"])
    return [*lines, "", _made_by(result, busiest)]


# Name of a table -> the file in data/ that it is made from, and how.
TABLES: dict[str, tuple[str, Callable[[dict], list[str]]]] = {
    "networks": ("networks", network_lines),
    "steps": ("networks", step_lines),
    "fast_cpu": ("fast_cpu", fast_cpu_lines),
}


def filled(text: str, results: dict[str, dict]) -> str:
    """A document with the tables of these results."""
    for name, (source, lines) in TABLES.items():
        if source not in results:
            continue
        table = "\n".join(lines(results[source]))
        text = re.sub(
            rf"(<!-- table: {name} -->\n).*?(<!-- end -->)",
            lambda found, table=table: f"{found[1]}{table}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def results() -> dict[str, dict]:
    """What was measured, by the name of its file."""
    sources = dict.fromkeys(source for source, _ in TABLES.values())
    return {
        source: json.loads((DATA / f"{source}.json").read_text(encoding="utf-8"))
        for source in sources
        if (DATA / f"{source}.json").exists()
    }


def _shape(sizes: list[int]) -> str:
    return f"({','.join(map(str, sizes))})"


def _spread(time: dict) -> str:
    return f"{time['p50']:.1f} ({time['p20']:.1f}..{time['p80']:.1f})"


def _made_by(result: dict, busiest: float) -> str:
    return (
        f"`{result['command']}`, {result['date'][:10]}: {result['cpu']}, {result['threads']} "
        f"threads, MindSpore {result['versions']['mindspore']}; other work kept at most "
        f"{busiest} cores busy."
    )


def main(check: bool) -> int:
    found, wrong = results(), []
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        new = filled(text, found)
        if new != text:
            wrong.append(path)
            if not check:
                path.write_text(new, encoding="utf-8")
    for path in wrong:
        print(f"{'other numbers than in data/' if check else 'written'}: {path.relative_to(ROOT)}")
    return 1 if wrong and check else 0


if __name__ == "__main__":
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    sys.exit(main(check=bool(sys.argv[1:])))
