"""What the demo says of a result, and its page: on made-up runs, without training."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest

pytest.importorskip("nilearn")
pytest.importorskip("jinja2")

from bn3d.commands.demo import judging, pictures, report
from bn3d.commands.demo.training import Result, Run
from bn3d.commands.demo.volume import TISSUES, Brain
from support.printing import printed, words

STEPS = 60


def run(milliseconds: float, noise: float, dice: float, seed: int) -> Run:
    random = np.random.default_rng(seed)
    made = Run(None, None)
    made.seconds = list((milliseconds + noise * random.standard_normal(STEPS)) / 1e3)
    made.losses = list(1 / np.arange(1, STEPS + 1) + 1e-4 * random.random(STEPS))
    made.dice = dict.fromkeys(TISSUES, dice)
    made.prediction = random.integers(0, 3, (6, 4, 5))
    return made


def result(bn3d: float = 80.0, noise: float = 1.0, dice: float = 0.81, **changes) -> Result:
    """Steps of 90 ms with stock layers, of which 12 ms are theirs."""
    made = Result(
        run(90.0, noise, 0.81, 1),
        run(bn3d, noise, dice, 2),
        run(90.0, noise, 0.812, 3),
        run(78.0, noise, 0.5, 4),
        replaced=20,
        other_load=0.05,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.setattr(Result, "weight_difference", lambda *_: 1e-3)


def test_the_verdict_is_accuracy_and_what_the_norm_layers_take():
    assert re.fullmatch(
        r"Same accuracy within the control; "
        r"the norm layers take 2 ms instead of 12 of a step of 90 ms\.",
        judging.verdict(result()),
    )


@pytest.mark.parametrize("bn3d, noise", [(90.0, 1.0), (88.0, 10.0)])
def test_what_overlaps_with_the_control_is_not_distinguishable(bn3d, noise):
    made = result(bn3d=bn3d, noise=noise)
    assert not made.distinguishable
    assert "not distinguishable here" in judging.verdict(made)
    assert any("not distinguishable here" in row[0] for row in report.rows(made))
    assert "not distinguishable here" in pictures.curves(made)[0].caption


@pytest.mark.parametrize(
    "dice, said",
    [
        (0.811, "within the control"),
        (0.806, "within 0.01"),
        (0.71, "differs by 0.10, in the control by 0.00"),
    ],
)
def test_accuracy_is_held_against_the_control(dice, said):
    assert said in judging.accuracy(result(dice=dice))


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"quick": True}, "quick"),
        ({"stopped": True}, "stopped"),
        ({"other_load": 0.21}, "busy"),
        ({"other_load": float("nan")}, "busy"),
    ],
)
def test_no_verdict_from_a_quick_run_or_a_busy_machine(changes, said, capsys, monkeypatch):
    made = result(**changes)
    assert judging.verdict(made) == "No verdict from this run."
    (doubt,) = judging.doubts(made)
    assert said in doubt
    report.show(made)
    assert "Warning: " in capsys.readouterr().out


@pytest.mark.parametrize("columns", [None, 60, 80, 120])
def test_what_is_printed_is_whole_at_any_width(columns, monkeypatch):
    made = result()
    lines = printed(lambda: report.show(made), monkeypatch, columns)
    assert lines[0].startswith("Same accuracy within the control;")
    assert words(printed(lambda: report.show(made), monkeypatch, None)) <= words(lines)
    assert all(len(line) <= columns for line in lines) if columns else max(map(len, lines)) > 120


def test_a_difference_is_taken_within_a_step():
    """A slow moment of the machine that hits all of a step leaves the difference."""
    made = result(noise=0.0)
    slow = np.where(np.arange(STEPS) % 3, 0.0, 0.5)
    for each in (made.stock, made.swapped, made.control, made.baseline):
        each.seconds = list(np.add(each.seconds, slow))
    saved = made.saved(made.swapped)
    assert (saved.p20, saved.p50, saved.p80) == pytest.approx((10.0, 10.0, 10.0))
    assert made.step(made.stock).p80 > 500


def test_dice_of_one_seed_has_two_digits():
    cells = [cell for row in report.rows(result()) if "Dice" in row[0] for cell in row[1:]]
    assert cells and all(re.fullmatch(r"\d\.\d\d", cell) for cell in cells)


class Page(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def every(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def page(tmp_path) -> tuple[str, Page]:
    volume = np.random.default_rng(0).random((6, 9, 5)).astype(np.float32)
    labels = np.ones(volume.shape, np.int32)
    brain = Brain(volume, labels, volume > 0, slice(2, 6))
    text = report.write(result(), brain, tmp_path).read_text()
    return text, Page(text)


def test_the_page_says_its_verdict_first_and_has_a_control_in_every_picture(page):
    text, parsed = page
    assert text.index("Same accuracy") < text.index("<figure") < text.index("<table")
    assert len(parsed.every("img")) == 6 and all(img["alt"] for img in parsed.every("img"))
    assert len(parsed.every("svg")) == 3
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert "control" in svg and 'role="img"' in svg and "currentColor" in svg
        assert pictures.INK not in svg


def test_the_page_says_where_it_was_measured_and_on_what(page):
    text, parsed = page
    for part in ("threads", "Other work on the machine meanwhile: 0.1 cores", "UTC", "NeuroImage"):
        assert part in text
    assert "Montreal Neurological Institute" in text
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in parsed.every(
        "meta"
    )
    assert "prefers-color-scheme: dark" in text
