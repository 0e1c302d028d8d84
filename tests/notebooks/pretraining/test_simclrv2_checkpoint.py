"""The shipped pretrained networks: whole, small, recorded, and better than untrained ones."""

import hashlib
import json

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from labutils import data, evaluation, models
from press import technique
from studies import pretrain_simclr as script

FILE = script.ASSETS / f"{script.NAME}.npz"


def network(seed, step, dtype=np.float32):
    code = technique.load("simclrv2")
    encoder = models.build(script.SETTINGS["model"], 1, 10, torch.Generator().manual_seed(seed))
    head = code.ProjectionHead(64, script.SETTINGS["head"]["output"])
    both = torch.nn.ModuleDict({"encoder": encoder, "head": head})
    if step:
        with np.load(FILE, allow_pickle=False) as arrays:
            state = {
                name: torch.from_numpy(arrays[f"{seed}/{step}/{name}"].astype(dtype))
                for name in both.state_dict()
                if f"{seed}/{step}/{name}" in arrays
            }
        report = both.load_state_dict(state, strict=False)
        odd = [n for n in report.missing_keys if not n.endswith("num_batches_tracked")]
        assert odd == ["encoder.classifier.weight", "encoder.classifier.bias"]
    return both


def test_record_fits_the_file():
    record = json.loads(FILE.with_suffix(".json").read_text())
    content = FILE.read_bytes()
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content) < 5_000_000
    assert record["settings"] == script.SETTINGS
    assert record["snapshots"] == list(script.SNAPSHOTS)
    assert [run["seed"] for run in record["runs"]] == list(script.SEEDS)
    for run in record["runs"]:
        assert run["losses"][-1] < run["losses"][0] - 1
    assert (FILE.parent / f"{script.NAME}.LICENSE.txt").is_file()


@pytest.mark.parametrize("seed", script.SEEDS)
def test_pretrained_features_classify_better_than_untrained_ones(seed):
    dataset = data.load("fashion-mnist-mini", num_validation=0, generator=torch.Generator())
    scores = []
    for step in (0, script.SNAPSHOTS[-1]):
        encoder = network(seed, step)["encoder"]
        bank, test = (
            evaluation.frozen_features(
                encoder, split.images.float() / 255, function=encoder.features
            )
            for split in (dataset.train, dataset.test)
        )
        neighbours = KNeighborsClassifier(20, metric="cosine").fit(bank, dataset.train.labels)
        scores.append(100 * neighbours.score(test, dataset.test.labels))
    assert scores[1] > scores[0] + 3
    assert scores[1] > 74


def test_a_short_pretraining_writes_and_packs_its_snapshots(tmp_path, monkeypatch):
    short = dict(script.SETTINGS, steps=4, batch_size=16)
    monkeypatch.setattr(script, "SETTINGS", short)
    monkeypatch.setattr(script, "SNAPSHOTS", (2, 4))
    monkeypatch.setattr(script, "SEEDS", (0,))
    monkeypatch.setattr(script, "ASSETS", tmp_path)
    mini = data.load("fashion-mnist-mini", num_validation=0, generator=torch.Generator())
    monkeypatch.setattr(script.data, "load", lambda *a, **k: mini)
    script.pretrain(0, tmp_path)
    record = script.pack(tmp_path)
    assert record["snapshots"] == [2, 4]
    with np.load(tmp_path / f"{script.NAME}.npz") as arrays:
        first, second = (arrays[f"0/{step}/encoder.conv1.weight"] for step in (2, 4))
    assert first.dtype == np.float16
    assert not np.array_equal(first, second)
