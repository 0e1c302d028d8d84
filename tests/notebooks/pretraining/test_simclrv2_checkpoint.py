"""The shipped pretrained networks: whole, small, recorded, and better than untrained ones."""

import hashlib
import json
import sys
import types

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from labutils import data, shipped
from studies import pretrain_simclr as script

FILE = script.ASSETS / f"{script.NAME}.npz"


@pytest.fixture(scope="module")
def code():
    return script.experiment()


def test_record_fits_the_file(code):
    record = json.loads(FILE.with_suffix(".json").read_text())
    content = FILE.read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content) < 5_000_000
    assert record["settings"] == {name: getattr(code.S, name) for name in script.RECORDED}
    assert {*record["cpu_seconds"]} == {*code.PRETRAININGS}
    assert code.S.shipped == len(script.SEEDS) == len(record["cpu_seconds"]["head of 2"])
    assert code.S.shipped == shipped.NUM_SIMCLR
    assert record["seeds"]["choosing rates"] == script.TUNING_SEED == code.TUNING_SEED
    assert (FILE.parent / f"{script.NAME}.LICENSE.txt").is_file()


def test_all_rates_and_penalties_of_the_settings_were_tried(code):
    record = json.loads(FILE.with_suffix(".json").read_text())
    assert record["tried"] == {name: getattr(code.S, name) for name in script.TRIED}
    tried = shipped.simclr_scores()
    assert [*tried] == code.S.labels
    for count, arms in tried.items():
        own = {arm for arm in code.arms_at(count) if code.SHARED.get(arm, arm) == arm}
        assert {*arms} == own
        for arm, scores in arms.items():
            assert [*scores] == pytest.approx(code.grid_of(arm))
            assert all(len(row) == code.S.tuning_draws for row in scores.values())
            assert all(5 < score < 100 for row in scores.values() for score in row)


def test_networks_of_the_file_are_those_that_the_chapter_asks_for(code):
    with np.load(FILE) as arrays:
        kept = {tuple(name.split("/")[:2]) for name in arrays.files}
    seeds = (*script.SEEDS, script.TUNING_SEED)
    assert kept == {(str(seed), name) for seed in seeds for name in script.names(code, seed)}


@pytest.mark.parametrize("seed", [*script.SEEDS, script.TUNING_SEED])
def test_pretrained_features_classify_better_than_untrained_ones(code, seed):
    mini = data.load("fashion-mnist-mini", num_validation=0, generator=torch.Generator())
    state = {
        **dict(nn.ModuleList(code.fresh_pair(0, "width 16", (1, 10))).state_dict()),
        **shipped.simclr_weights(f"{seed}/width 16/"),
    }
    scores = []
    for pair in (
        code.fresh_pair(seed, "width 16", (1, 10)),
        code.pretrained_pair(state, "width 16", (1, 10)),
    ):
        bank, test = (code.features_of(pair, s.images, 0) for s in (mini.train, mini.test))
        neighbours = KNeighborsClassifier(20, metric="cosine").fit(bank, mini.train.labels)
        scores.append(100 * neighbours.score(test, mini.test.labels))
    assert scores[1] > scores[0] + 3
    assert scores[1] > 74


def test_a_stopped_pretraining_goes_on_and_is_packed(tmp_path, monkeypatch, capsys):
    asked = []

    def pretrain(seed, name, num_steps):
        asked.append((seed, name, num_steps))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"0.conv1.weight": torch.full((1,), seed), "0.classifier.bias": torch.ones(1)}

    code = types.SimpleNamespace(
        pretrainings_of=lambda place: ["width 2", "width 4", "crop only"][: 3 if place else 2],
        pretrain=pretrain, try_values=lambda states: {"1": {"arm": {"0.1": [len(states)]}}},
        S=types.SimpleNamespace(**dict.fromkeys((*script.RECORDED, *script.TRIED), 1)),
    )  # fmt: skip
    monkeypatch.setattr(script, "experiment", lambda root: code)
    monkeypatch.setattr(script, "ASSETS", tmp_path)
    monkeypatch.setattr(script, "SEEDS", (5,))
    monkeypatch.setattr("sys.argv", ["pretrain_simclr", "--folder", str(tmp_path / "parts")])
    with pytest.raises(KeyboardInterrupt):
        script.main()
    monkeypatch.setattr("sys.argv", [*sys.argv, "--seeds", "5"])
    script.main()
    assert "2 of 5 networks are still to come" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["pretrain_simclr", "--folder", str(tmp_path / "parts")])
    script.main()
    seeds = [(5, "width 2"), (5, "width 4"), (5, "crop only"), (5, "crop only")]
    assert [job[:2] for job in asked] == [*seeds, (1000, "width 2"), (1000, "width 4")]
    with np.load(tmp_path / f"{script.NAME}.npz") as arrays:
        assert len(arrays.files) == 5  # no classifier
        assert arrays["5/crop only/0.conv1.weight"].dtype == np.float16
    record = json.loads((tmp_path / f"{script.NAME}.json").read_text())
    assert record["scores"] == {"1": {"arm": {"0.1": [2]}}}
