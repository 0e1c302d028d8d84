"""CLIP's recall and zero-shot classifier against loops and open_clip."""

import math

import open_clip
import pytest
import torch
import torch.nn.functional as F

from press import technique


@pytest.fixture(scope="module")
def clip():
    return technique.load("clip")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def slow_recall(scores, positive, k):
    hits = 0
    for row, right in zip(scores.tolist(), positive.tolist(), strict=True):
        best = max(s for s, r in zip(row, right, strict=True) if r)
        ahead = sum(1 for s, r in zip(row, right, strict=True) if not r and s >= best)
        hits += ahead < k
    return hits / len(scores)


@pytest.mark.parametrize("levels", [3, 10, 10_000])  # few levels: many ties
@pytest.mark.parametrize("several", [False, True])
def test_recall_equals_the_slow_loop(clip, levels, several):
    for seed in range(20):
        draw = seeded(seed)
        scores = torch.randint(levels, (9, 13), generator=draw).float() - levels / 2
        own = torch.randint(13, (9,), generator=draw)
        positive = F.one_hot(own, 13).bool()
        if several:
            positive |= torch.rand(9, 13, generator=draw) < 0.2
        for k in (1, 2, 5, 13):
            expected = slow_recall(scores, positive, k)
            assert clip.recall_at_k(scores, positive, k) == pytest.approx(expected, abs=1e-12)


def test_recall_agrees_with_the_rank_definition_where_there_are_no_ties(clip):
    scores = torch.randn(40, 40, generator=seeded(0), dtype=torch.float64)
    order = scores.argsort(1, descending=True)
    rank = (order == torch.arange(40)[:, None]).double().argmax(1)
    for k in (1, 5, 10):
        expected = (rank < k).double().mean().item()
        assert clip.recall_at_k(scores, torch.eye(40).bool(), k) == expected


def test_ties_are_misses(clip):
    collapsed = torch.zeros(6, 6)
    assert clip.recall_at_k(collapsed, torch.eye(6).bool(), 5) == 0
    assert clip.recall_at_k(collapsed, torch.eye(6).bool(), 6) == 1


def test_recall_of_random_scores_is_chance(clip):
    scores = torch.rand(4000, 50, generator=seeded(1))
    positive = torch.zeros(4000, 50, dtype=torch.bool)
    positive[:, :3] = True
    for k in (1, 5):
        chance = 1 - math.comb(47, k) / math.comb(50, k)
        assert clip.recall_at_k(scores, positive, k) == pytest.approx(chance, abs=0.03)


@pytest.mark.parametrize(
    ("scores", "positive", "k"),
    [
        (torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool), 1),
        (torch.ones(2, 3), torch.ones(2, 3), 1),
        (torch.ones(2, 3), torch.tensor([[True] * 3, [False] * 3]), 1),
        (torch.full((2, 3), torch.nan), torch.ones(2, 3, dtype=torch.bool), 1),
        (torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool), 0),
    ],
)
def test_recall_rejects_bad_input(clip, scores, positive, k):
    with pytest.raises(ValueError, match="recall_at_k expects"):
        clip.recall_at_k(scores, positive, k)


TEMPLATES = ("{}", "a photo of a {}.", "the {}")


def test_zero_shot_weights_equal_open_clips(clip):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.model.CLIP(
            16,
            {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32},
            {"context_length": 77, "vocab_size": 49_408, "width": 32, "heads": 2, "layers": 1},
        ).eval()
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    names = ["cat", "dog", "red bus"]
    theirs = open_clip.build_zero_shot_classifier(
        model, tokenizer, names, [lambda c, t=t: t.format(c) for t in TEMPLATES]
    )
    ours = clip.zero_shot_classifier(model.encode_text, tokenizer, names, TEMPLATES)
    torch.testing.assert_close(ours, theirs.T, atol=1e-6, rtol=1e-5)


def test_zero_shot_normalises_before_and_after_averaging(clip):
    table = {"a": [10.0, 0.0], "an a": [0.0, 1.0], "b": [3.0, 4.0], "an b": [3.0, 4.0]}

    def encode(texts):
        return torch.tensor([table[text] for text in texts])

    weights = clip.zero_shot_classifier(encode, list, ["a", "b"], ("{}", "an {}"))
    half = math.sqrt(0.5)
    torch.testing.assert_close(weights, torch.tensor([[half, half], [0.6, 0.8]]))
    assert not weights.requires_grad


def test_zero_shot_rejects_what_is_no_template(clip):
    for names, templates in (([], ("{}",)), (["a"], ()), (["a"], ("a photo",))):
        with pytest.raises(ValueError, match="zero_shot_classifier expects names"):
            clip.zero_shot_classifier(None, None, names, templates)
