"""Notebooks of version 0.1 that readers have kept go on working."""

import subprocess
import sys

KEPT = """
from labutils.chapter import start
from labutils import augment, data, emoji, models, plots, randaugment, views
from labutils.formats import mean_sd
from labutils.ledger import mean_interval, paired_interval
from labutils.semisupervised import MovingAverage, few_labels
from labutils.training import accuracy, cosine_schedule, predict, train

SETTINGS = {p: {"rate": k, "num_seeds": 3} for k, p in enumerate(("smoke", "small", "full"))}
lab = start("04-rs2", settings=SETTINGS, profile="small", seeds=None)
assert lab.settings.rate == 1
values = {"a": [1.0, 2.0, 3.0], "b": [0.0, 1.1, 2.0]}
lab.ledger.claim("higher", "It is higher", where="Table 1", values=values, direction="greater")
assert plots.COLOURS["RS2"] == plots.COLOURS["RS2"] != plots.COLOURS["EL2N"]
lab.ledger.table()
print(lab.save().name)
"""


def test_the_former_names_and_the_former_call_work(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KEPT], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "04-rs2.small.json"
