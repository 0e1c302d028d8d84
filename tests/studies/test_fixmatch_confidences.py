"""The confidences behind the slider: counted into bins, early and late, from the chapter's loop."""

import pytest
import torch

from studies import fixmatch_confidences as study


def test_bins_count_what_passes_a_threshold():
    draw = torch.Generator().manual_seed(0)
    confidence = torch.rand(500, generator=draw)
    confidence[:3] = torch.tensor([0.0, 0.5, 1.0])
    right = torch.rand(500, generator=draw) < confidence
    found = study.histogram(confidence, right, bins=20)
    for k in range(20):
        passed = confidence >= k / 20
        assert sum(found["right"][k:]) == (passed & right).sum()
        assert sum(found["wrong"][k:]) == (passed & ~right).sum()


@pytest.mark.slow
def test_the_study_sees_every_image_without_a_label_twice():
    found = study.study(profile="smoke", early=5, num_steps=10)
    assert [moment["step"] for moment in found["moments"]] == [5, 10]
    counts = [sum(moment["right"] + moment["wrong"]) for moment in found["moments"]]
    assert counts[0] == counts[1] > 100
    assert found["moments"] == study.study(profile="smoke", early=5, num_steps=10)["moments"]
