"""What a card is measured by: each script runs in seconds on a CPU, and its page says where."""

import importlib.util
import json
import sys

import pytest
import torch

from benchmarks import card, card_views, step_rate

CPU = torch.device("cpu")


def test_a_measurement_writes_its_result_and_its_table(tmp_path, monkeypatch):
    def measure(device, smoke):
        return {"width": 2, "smoke": smoke}

    def render(result):
        return f"{result['width']} cm\n\n{card.origin(result)}\n"

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["x", "--output", str(tmp_path), "--smoke"])
    card.main("wide", measure, render)
    stored = json.loads((tmp_path / "benchmarks/wide.json").read_text("utf-8"))
    assert (stored["width"], stored["smoke"], stored["torch"]) == (2, True, torch.__version__)
    page = tmp_path / "book/generated/wide.md"
    assert page.read_text("utf-8") == render(stored)
    assert f"Measured on a CPU, torch {torch.__version__}, {stored['date']}. Sizes are tiny" in (
        page.read_text("utf-8")
    )
    page.unlink()
    monkeypatch.setattr(sys, "argv", ["x", "--output", str(tmp_path), "--page"])
    card.main("wide", None, render)
    assert page.is_file()
    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit, match="torch sees none here"):
        card.main("wide", measure, render)


def test_what_no_card_has_measured_says_so():
    assert "No card has measured this yet" in card_views.render(
        {"batch": 512, "images": {}, "device": None}
    )


def test_rates_of_steps_come_from_loops_that_do_the_same():
    weights = []
    for run in (step_rate.eager, card.trained):
        made = step_rate.case("cnn-tiny", 8, 3, CPU, 50)
        assert run(*made) > 0
        weights.append([float(parameter.detach().sum()) for parameter in made[0].parameters()])
    assert weights[0] == pytest.approx(weights[1])
    found = step_rate.measure(CPU, smoke=True)
    assert found["networks"]["cnn-tiny, batch 8"].keys() == {"eager", "training.train"}
    assert list(found["at_once"]) == ["1", "8"]
    assert min(found["at_once"].values()) > 0


def test_all_sides_make_two_views_of_every_image():
    images, _ = card.pictures(CPU, 6)
    for side, (package, _, make) in card_views.SIDES.items():
        if package == "kornia" and not importlib.util.find_spec(package):
            continue  # it is not among the requirements
        views = make(CPU)(images)
        assert [view.shape for view in views] == [(6, 3, 32, 32)] * 2, side
        assert all(view.dtype == torch.float32 for view in views), side
        assert all(view.min() >= -1e-3 and view.max() <= 1.001 for view in views), side
        assert (views[0] - views[1]).abs().mean() > 0.01, side
