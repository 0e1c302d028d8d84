"""The longer FixMatch runs: chosen on validation images, resumable, shown as they are stored."""

import json

import numpy as np
import pytest

from studies import fixmatch_longer as benchmark

TINY = {"num_steps": 30, "saa_start": 20, "num_points": 1}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setenv("LABUTILS_HEADLESS", "1")
    monkeypatch.setenv("LABUTILS_PROFILE", "smoke")
    monkeypatch.delenv("LABUTILS_CHECKPOINTS", raising=False)


@pytest.mark.slow
def test_a_stopped_study_goes_on_and_gives_the_same(monkeypatch):
    options = {"profile": "smoke", "settings": TINY, "tuning": (1000,), "draws": (0, 1)}
    kept = []
    whole = benchmark.study(**options, keep=lambda r: kept.append(json.loads(json.dumps(r))))
    assert len(kept) == 3 * 2 + 3 * 2  # settings tried, then draws, of three arms
    for arm, choices in benchmark.CHOICES.items():
        best = choices[int(np.argmax(whole["tuning"][arm]))]
        assert whole["chosen"][arm] == best

    ran, run = [], benchmark.run
    monkeypatch.setattr(benchmark.joblib, "Parallel", lambda **_: lambda jobs: (
        ran.append(job) or run(*job[1]) for job in jobs
    ))  # fmt: skip
    resumed = benchmark.study(**options, stored=kept[8])
    assert len(ran) == 3
    assert resumed["accuracy"] == whole["accuracy"]
    other = kept[4] | {"code": "other"}
    assert len(benchmark.study(**options, stored=other)["runs"]) == 12
    assert len(ran) == 3 + 12  # results of other code are not taken up
