"""Every chapter runs from top to bottom at `full`: its own numbers of everything, small sizes.

What `full` has and `small` has not is a cell that never ran. It must not be the last of hours.
"""

import re

import pytest
import smoke

from benchmarks import gpu
from press import notebooks

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(smoke.TIME_LIMIT_S + 60)]

MINI = {"dataset": "fashion-mnist-mini", "num_validation": 300}
SIZES = {
    "clip": {
        "main_widths": [2, 4, 4], "short_widths": [2, 2, 4],
        "widths": [[2, 2, 2], [2, 2, 4], [2, 4, 4]], "text_width": 8, "output": 8, "merges": 100,
        "variants": 2, "batch": 16, "batches": [8, 16, 32], "live_steps": 4, "looks": 2, "draws": 2,
        "line_pairs": [96, 160, 240], "main_pairs": 320, "scale_seeds": 2,
    } | dict.fromkeys(
        ("tuning_pairs", "supervised_pairs", "short_pairs", "scale_pairs", "copies_pairs"), 160
    ),
    "fixmatch-saa": MINI | {
        "num_evaluated": 200, "model": "cnn-tiny", "batch_size": 4, "block": 2, "num_steps": 8,
        "saa_start": 4, "saa_interval": 2, "num_points": 2, "num_probed": 40, "more_pool": 500,
        "spreading_steps": 5, "fewer_draws": 2, "swept_seeds": 2, "pool_draws": 2,
    },
    "lls": {
        "num_unused": 55_000, "max_draws": 800, "model": "cnn-tiny", "num_steps": 6,
        "batch_size": 32, "num_points": 400,
        "num_worlds": 2, "hidden_units": 8,
    },
    "rs2": MINI | {
        "num_validation": 1000,
        "num_evaluated": 300, "model": "cnn-tiny", "batch_size": 10, "scoring_epochs": 1,
    },
    "simclrv2": MINI | {
        "num_tested": 300, "widths": [2, 4, 6, 8], "student_width": 4, "study_width": 4,
        "stages": 2, "blocks": 1, "output": 8, "pretraining_steps": 3, "pretraining_batch": 16,
        "batch": 8, "live": [[3, 0.8], [3, 0.1], [3, 0.1]], "probe_strengths": [0.1, 1.0],
        "complete": 2, "studied": 2, "sets_at": [2, 2, 2], "steps_pretrained": [2, 2, 2],
        "steps_scratch": [2, 2, 2], "steps_student": [2, 2, 2],
    },
}  # fmt: skip
CELL = """\
sizes = {sizes!r}
assert sizes.keys() <= SETTINGS.keys(), "other settings"
SETTINGS = {{name: (*r[:2], sizes.get(name, r[2]), *r[3:]) for name, r in SETTINGS.items()}}"""


@pytest.mark.parametrize("slug", SIZES)
def test_full_runs_from_top_to_bottom(slug, tmp_path, stored):
    cells = notebooks.read(notebooks.path(slug))["cells"]
    tables = [
        n for n, c in enumerate(cells, 1) if re.search("^SETTINGS ", c["source"], re.MULTILINE)
    ]
    cell = CELL.format(sizes=SIZES[slug] | {"num_seeds": 2})
    with smoke.once(slug, "full", __file__):
        record, _ = smoke.rehearse(slug, tmp_path, "full", cell, after=tables[-1])
        assert (record.profile, record.seeds) == ("full", [0, 1])


def test_every_chapter_with_a_full_profile_is_rehearsed():
    assert set(SIZES) == {slug for slug in notebooks.chapters() if gpu.has_full(slug, smoke.ROOT)}
