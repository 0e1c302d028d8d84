"""How `clip-emoji` was trained: what it saw, and what chose its settings."""

import json

import pytest
import torch

from labutils import clip_emoji
from studies import train_clip_emoji as study_of


@pytest.fixture(scope="module")
def study():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_of, "MERGES", 20)
        patch.setattr(study_of, "VARIANTS", 6)
        return study_of.Study()


def test_training_sees_three_styles_and_no_held_out_family(study):
    styles = {study.data.style_names[k] for k in study.data.style[study.indices].tolist()}
    assert styles == set(clip_emoji.STYLES)
    shown = study.data.concept[study.indices]
    assert not study.held_out[shown].any()
    assert torch.equal(study.seen.nonzero()[:, 0], shown.unique())
    families = {study.data.concepts[c].family for c in shown.tolist()}
    held_out = {study.data.concepts[c].family for c in study.held_out.nonzero()[:, 0].tolist()}
    assert not families & held_out


def test_a_third_of_the_captions_stands_in_a_template(study, monkeypatch):
    monkeypatch.setattr(study_of, "VARIANTS", 6)
    concepts = study.data.concepts[:200]
    found = study_of.captions(study.code, concepts, torch.Generator().manual_seed(0))
    for place, concept in enumerate(concepts):
        mine = found[6 * place : 6 * place + 6]
        assert mine[2] == mine[4] == concept.name != mine[0]
        assert concept.name in mine[0]
        dressed = {t.format("") for t in study.code.TEMPLATES}
        assert any(mine[0].replace(concept.name, "", 1) == words for words in dressed)


def test_training_starts_from_the_seed_and_changes_every_weight(study, monkeypatch):
    monkeypatch.setattr(study_of, "VARIANTS", 6)
    monkeypatch.setattr(study_of, "BATCH", 16)
    models = [study.train(48, 1e-2, study_of.GENTLE) for _ in range(2)]
    fresh = study.new_model(torch.Generator().manual_seed(study_of.SEED + 1))
    for (name, one), (_, two), (_, old) in zip(
        *(model.named_parameters() for model in (*models, fresh)), strict=True
    ):
        assert torch.equal(one, two), name
        assert not torch.equal(one, old), name
    assert not models[0].training


def test_short_runs_are_judged_by_the_judge_alone_and_the_best_comes_first(
    study, monkeypatch, tmp_path
):
    asked, rates = [], [rate for rate, _ in study_of.TRIED]
    monkeypatch.setattr(study, "train", lambda pairs, rate, how: (pairs, rate), raising=False)

    def scores(model, style):
        asked.append((model, style))
        return {"r5": 10 - abs(model[1] - rates[1])}

    monkeypatch.setattr(study, "scores", scores, raising=False)
    (tmp_path / "tried.json").write_text(
        json.dumps([{"rate": rates[0], "augmentation": {}, "r5": 1.0}])
    )
    found = study_of.choose(study, tmp_path)
    assert {style for _, style in asked} == {"emojione"}
    assert {pairs for (pairs, _), _ in asked} == {study_of.TRIED_PAIRS}
    assert len(asked) == len(study_of.TRIED) - 1, "what was scored before is not run again"
    assert found[0]["rate"] == rates[1]
    assert found[-1]["r5"] == 1.0


def test_the_styles_that_are_tested_choose_nothing():
    assert study_of.JUDGE == "emojione"
    assert study_of.JUDGE not in clip_emoji.STYLES
