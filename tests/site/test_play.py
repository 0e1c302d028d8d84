"""Figures to play with: the numbers that the page computes against Python's."""

import json
import re

import numpy as np
import pytest
import torch
from building import ROOT

from labutils import clip_emoji
from labutils.data import emoji
from labutils.statistics import judge, mean_interval
from press import reader, technique

CLOSE = 1e-3
PAGES = {
    "nt-xent": "notebooks/pretraining/simclrv2.html",
    "rs2": "notebooks/choosing-data/rs2.html",
    "lls": "notebooks/shift/lls.html",
    "fixmatch": "notebooks/few-labels/fixmatch-saa.html",
    "emoji": "notebooks/image-text/clip.html",
    "margin": "book/themes/few-labels.html",
}
SET = """(input, value) => {
  if (input.type === "checkbox") input.checked = value; else input.value = value;
  input.dispatchEvent(new Event("input", {bubbles: true}));
}"""


@pytest.fixture(scope="module")
def figures(browser, site):
    """{name: figure}, each in a page that was opened from the disk, without a server."""
    tabs, found = [], {}
    for name, address in PAGES.items():
        tabs.append(browser.new_page(viewport={"width": 1200, "height": 900}))
        tabs[-1].goto((site / address).as_uri())
        if name == "margin":
            tabs[-1].locator("details.own-margin summary").click()
        found[name] = tabs[-1].locator(f"figure.play[data-play={name}]")
        if name == "emoji":
            found[name].get_by_role("button").click()
        found[name].locator(".play-controls").wait_for()
    yield found
    for tab in tabs:
        tab.close()


def said(figure, **values):
    """What a figure says after its controls were set."""
    for name, value in values.items():
        figure.locator(f"input[name={name}]").evaluate(SET, value)
    return figure.locator("p[role=status]").inner_text().replace("−", "-")


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.browser
@pytest.mark.parametrize("temperature", [-2.3, -1.0, 0.0, 1.0])
@pytest.mark.parametrize("alike", [0.0, 0.4, 1.0])
def test_the_loss_of_views_is_the_notebook_s(figures, temperature, alike):
    shown, guess = numbers(said(figures["nt-xent"], temperature=temperature, alike=alike))
    t = torch.arange(24, dtype=torch.float64).reshape(4, 6)
    first, second = t.sin(), alike * t.sin() + (1 - alike) * (0.7 * t).cos()
    tau = float(np.exp(figures["nt-xent"].locator("[name=temperature]").evaluate("e => +e.value")))
    loss = technique.load("simclrv2", ROOT).nt_xent_loss(first, second, tau)
    assert shown == pytest.approx(float(loss), abs=CLOSE)
    assert guess == pytest.approx(np.log(7), abs=CLOSE)


@pytest.mark.browser
@pytest.mark.parametrize(("ratio", "rounds"), [(10, 20), (35, 7), (60, 40), (2, 1), (13, 11)])
def test_examples_are_seen_as_the_notebook_s_sampler_shows_them(figures, ratio, rounds):
    m = round(ratio * 60 / 100)
    generator = torch.Generator().manual_seed(0)
    draws = technique.load("rs2", ROOT).rs2_rounds(60, m / 60, rounds, generator)
    seen = torch.cat([*draws]).bincount(minlength=60)
    text = said(figures["rs2"], ratio=ratio, rounds=rounds, again=False)
    shown, expected, epochs = numbers(text)
    assert shown == pytest.approx(100 * (seen > 0).double().mean().item(), abs=0.01)
    assert expected == shown
    assert epochs == pytest.approx(m * rounds / 60, abs=0.01)
    assert f"{seen.min()} to {seen.max()}" in text


@pytest.mark.browser
def test_with_replacement_the_share_that_is_seen_is_near_its_expectation(figures):
    shares = [
        numbers(said(figures["rs2"], ratio=10, rounds=12, again=True, seed=seed))[:2]
        for seed in range(1, 21)
    ]
    seen, expected = np.transpose(shares)
    assert set(expected) == {round(100 * (1 - 0.9**12), 2)}
    assert abs(seen.mean() - expected[0]) < 4 * seen.std() / 20**0.5
    assert len(set(seen)) > 3


@pytest.mark.browser
@pytest.mark.parametrize(("alpha", "unsure"), [(-2.0, 0.0), (0.0, 0.3), (1.0, 1.0)])
def test_corners_are_found_as_in_the_notebook(figures, alpha, unsure):
    figure, find = figures["lls"], technique.load("lls", ROOT).successive_projection
    for seed in (1, 2, 3):
        said(figure, alpha=alpha, unsure=unsure, seed=seed)
        points = np.array(json.loads(figure.get_attribute("data-points")))
        assert points.sum(1) == pytest.approx(1)
        found = points[json.loads(figure.get_attribute("data-found"))]
        assert found == pytest.approx(points[find(points, 3)], abs=CLOSE)


@pytest.mark.browser
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.95, 0.98, 0.995])
def test_coverage_and_purity_are_those_of_the_recorded_confidences(figures, threshold, early):
    recorded = json.loads((ROOT / "book/generated/fixmatch_confidences.json").read_text("utf-8"))
    moment = recorded["moments"][0 if early else 1]
    right, wrong = np.array(moment["right"]), np.array(moment["wrong"])
    passed = np.arange(len(right)) / len(right) > threshold - 1e-9
    coverage = (right + wrong)[passed].sum() / (right + wrong).sum()
    purity = right[passed].sum() / (right + wrong)[passed].sum()
    shown = numbers(said(figures["fixmatch"], threshold=threshold, early=early))
    assert shown == pytest.approx(
        [100 * coverage, 100 * purity, 100 * coverage * purity], abs=0.0051
    )


@pytest.fixture(scope="module")
def clip():
    """The network and the unit features of the pictures that the page searches."""
    return clip_emoji.load_clip(), clip_emoji.features("twemoji")


@pytest.mark.browser
@pytest.mark.parametrize(
    "words",
    [
        "music instrument", "I love you", "it's a “boat”, on the open_sea!! 42 ½ naïve façade",
        "rock &amp; roll <b>", "日本語 ☃ snow", "a " * 40,
    ],
)  # fmt: skip
def test_words_find_the_pictures_that_python_finds(figures, clip, words):
    model, pictures = clip
    figures["emoji"].locator("[name=words]").fill(words)
    shown = figures["emoji"].locator(".found-emoji .number").all_inner_texts()
    names = figures["emoji"].locator(".found-emoji li").all_inner_texts()
    scores = (model.encode_text(model.tokenizer([words])) @ pictures.u.T)[0]
    best = scores.topk(len(shown)).values
    assert len(shown) == 12
    assert [float(text) for text in shown] == pytest.approx(best.tolist(), abs=CLOSE)
    concepts = emoji.concepts_and_styles()[0]
    score_of = {concepts[k].name: s for k, s in zip(pictures.concept, scores.tolist(), strict=True)}
    for text, score in zip(names, shown, strict=True):
        name = text.split("\n")[0].removesuffix(" *")
        assert score_of[name] == pytest.approx(float(score), abs=CLOSE)


@pytest.mark.browser
def test_no_words_find_nothing(figures):
    figures["emoji"].locator("[name=words]").fill("  ")
    assert figures["emoji"].locator(".found-emoji li").count() == 0
    assert "Type" in figures["emoji"].locator("p[role=status]").inner_text()


@pytest.mark.browser
def test_the_network_is_loaded_on_demand_and_the_initial_page_stays_light(site, browser):
    page, asked = browser.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / PAGES["emoji"]).as_uri())
    assert not any("emoji-search" in address for address in asked)
    static = site / "_static"
    assert (static / "emoji-search.js").stat().st_size < 3_000_000
    assert (static / "emoji-search.webp").stat().st_size < 500_000
    button = page.locator("figure.play[data-play=emoji] button")
    button.focus()
    page.keyboard.press("Enter")
    page.locator(".found-emoji li").first.wait_for()
    page.keyboard.type("x")  # the field has the focus
    assert page.locator("[name=words]").input_value().endswith("x")
    assert all(address.startswith(("file:", "data:")) for address in asked)
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(("margin", "confidence"), [(0, 95), (1.25, 90), (5, 99.5)])
def test_a_margin_of_one_s_own_judges_as_the_record_does(figures, margin, confidence, monkeypatch):
    monkeypatch.setattr("labutils.statistics.LEVEL", 1 - confidence / 100)
    said(figures["margin"], margin=margin, confidence=confidence)
    rows = figures["margin"].locator("tr").all_inner_texts()
    shown = dict(zip([row.split("\t")[0] for row in rows], rows, strict=True))
    checked = 0
    for file in (ROOT / "results/few-labels").glob("*.small.json"):
        for claim in reader.read(file).claims:
            row = [text for name, text in shown.items() if name.endswith(f": {claim.statement}")]
            if not row:
                continue
            _, interval, verdict = row[0].replace("−", "-").split("\t")
            found = mean_interval(claim.differences, confidence / 100)
            assert numbers(interval) == pytest.approx(
                [found.mean, found.low, found.high], abs=CLOSE
            )
            assert verdict == judge(claim.differences, claim.direction, margin).verdict
            checked += 1
    assert checked > 10


@pytest.mark.browser
def test_a_figure_can_be_played_by_keyboard(figures):
    figure = figures["nt-xent"]
    before = said(figure, temperature=-1, alike=0.5)
    figure.locator("[name=temperature]").focus()
    figure.page.keyboard.press("ArrowRight")
    assert figure.locator("p[role=status]").inner_text() != before
