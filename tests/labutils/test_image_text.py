"""Noisy pools know their noise; the small CLIP is CLIP, and learns; ties are misses."""

import math
from collections import Counter

import no_wait
import numpy as np
import pytest
import torch

from labutils import image_text as it
from labutils.evaluation import predict
from press import technique

CHAPTER = technique.load("clip")


@pytest.fixture(scope="module")
def data():
    return it.pictures()[0]


@pytest.fixture(scope="module")
def noto(data):
    return (data.style == data.style_names.index("noto")).nonzero()[:, 0]


def pool(noto, seed=0, size=5000, right=0.35, worthless=0.15, tail=None):
    return it.noisy_pool(seed, noto, size, right, worthless, tail)


def words(text):
    return it.WORDS.findall(text.lower())


# The pool


def test_pictures_are_ink_on_white_paper(data):
    ink = it.pictures()[1]
    assert ink.dtype == torch.uint8
    assert ink.shape == (len(data), 3, 32, 32)
    empty = data.rgba[:, 3] == 0
    assert (ink.permute(0, 2, 3, 1)[empty] == 0).all()


def test_the_kinds_of_captions_are_as_frequent_as_asked(noto):
    found = pool(noto).kind.bincount(minlength=3)
    for count, share in zip(found.tolist(), (0.35, 0.5, 0.15), strict=True):
        assert abs(count - 5000 * share) < 4 * math.sqrt(5000 * share * (1 - share))


def test_captions_are_of_the_kind_that_the_pool_says(data, noto):
    pairs = pool(noto)
    family = {}  # of every right caption
    for concept in data.concepts:
        for text in (concept.name, *concept.keywords):
            family.setdefault(text, set()).add(concept.family)
    by_chance = 0
    for c, kind, text in zip(pairs.concept.tolist(), pairs.kind, pairs.caption, strict=True):
        concept = data.concepts[c]
        parts = [text] if text in family else text.split(", ")
        if kind == it.RIGHT:
            assert text == concept.name or set(parts) <= set(concept.keywords)
        elif kind == it.WORTHLESS:
            stamp, number = text.rsplit(" ", 1)
            assert stamp in it.STAMPS
            assert int(number) < it.NUMBERS
        else:
            by_chance += all(concept.family in family[part] for part in parts)
    assert by_chance < 0.02 * 2500


def test_half_of_the_right_captions_are_names(data, noto):
    pairs = pool(noto, right=1.0, worthless=0.0)
    names = [data.concepts[c].name for c in pairs.concept.tolist()]
    named = np.mean([name == text for name, text in zip(names, pairs.caption, strict=True)])
    assert 0.45 < named < 0.6  # some keyword is the name


def test_the_pool_holds_the_given_pictures_equally_often_and_no_other(noto):
    pairs = pool(noto[100:400], size=950)
    count = pairs.picture.bincount()
    assert set(count.nonzero()[:, 0].tolist()) == set(noto[100:400].tolist())
    assert {*count[noto[100:400]].tolist()} == {3, 4}


def test_the_same_seed_gives_the_same_pool_and_another_seed_another(noto):
    one, two, other = pool(noto), pool(noto), pool(noto, seed=1)
    assert one.caption == two.caption
    for a, b in zip(one, two, strict=True):
        assert a == b if isinstance(a, tuple) else torch.equal(a, b)
    assert one.caption != other.caption


def test_more_right_captions_spoil_fewer_of_the_same(noto):
    few, many = pool(noto, right=0.3), pool(noto, right=0.7)
    assert torch.equal(few.picture, many.picture)
    kept = (few.kind == it.RIGHT).tolist()
    assert all(a == b for a, b, same in zip(few.caption, many.caption, kept, strict=True) if same)
    assert (many.kind[few.kind == it.RIGHT] == it.RIGHT).all()
    assert (few.kind[many.kind == it.WORTHLESS] == it.WORTHLESS).all()


def test_a_long_tail_follows_its_law_and_repeated_pictures_get_new_captions(noto):
    pairs = pool(noto, size=24_000, right=0.6, worthless=0.4, tail=3)
    count = pairs.concept.bincount().sort(descending=True).values[:20]
    weight = 1 / (torch.arange(len(noto)) + 3)
    expected = 24_000 * weight / weight.sum()
    assert (count - expected[:20]).abs().max() < 6 * expected[0].sqrt()
    most = pairs.concept.bincount().argmax()
    assert len({t for t, c in zip(pairs.caption, pairs.concept, strict=True) if c == most}) > 20
    assert not (pairs.kind == it.WRONG).any()


def test_a_pool_refuses_shares_that_are_none_and_pictures_of_one_family(noto):
    for right, worthless in ((-0.1, 0), (0.8, 0.3)):
        with pytest.raises(ValueError, match="sum to at most 1"):
            pool(noto, right=right, worthless=worthless)
    with pytest.raises(ValueError, match="two families"):
        pool(noto[:1])


# Tokens


def test_tokens_are_the_words_in_order_filled_up_with_zeros():
    known = it.vocabulary()
    assert it.tokenise(["Red HEART, zzyzx"]).tolist() == [[known["red"], known["heart"]] + [0] * 10]
    assert it.tokenise([""]).tolist() == [[0] * 12]
    assert it.tokenise(["heart " * 20]).tolist() == [[known["heart"]] * 12]
    assert sorted(known.values()) == list(range(1, len(known) + 1))


def test_every_word_of_a_pool_is_known(noto):
    pairs = pool(noto)
    assert all(word in it.vocabulary() for text in pairs.caption for word in words(text))
    assert torch.equal(pairs.tokens, it.tokenise(pairs.caption))


# The network


def test_features_are_unit_rows_and_padding_and_order_do_not_matter():
    model = it.SmallClip(torch.Generator().manual_seed(0)).eval()
    tokens = it.tokenise(["red heart", "heart red"])
    v = predict(model.encode_text, tokens)
    assert torch.allclose(v.norm(dim=1), torch.ones(2))
    assert torch.allclose(v[0], v[1], atol=1e-6)
    assert torch.allclose(v, predict(model.encode_text, tokens[:, :2]), atol=1e-6)
    u = predict(model.encode_image, it.pictures()[1][:5])
    assert u.shape == (5, 64)
    assert torch.allclose(u.norm(dim=1), torch.ones(5))


def test_the_text_tower_is_a_mean_of_word_vectors_and_a_layer():
    model = it.SmallClip(torch.Generator().manual_seed(0))
    tokens = it.tokenise(["cat", "red heart suit"])
    bag = torch.nn.EmbeddingBag.from_pretrained(model.word.weight, mode="mean", padding_idx=0)
    expected = torch.nn.functional.normalize(model.text(bag(tokens)), dim=1)
    assert torch.allclose(model.encode_text(tokens), expected, atol=1e-6)


def test_the_loss_is_that_of_the_chapter_and_repeated_captions_give_it_a_floor(noto):
    draw = torch.Generator().manual_seed(0)
    u, v = torch.nn.functional.normalize(torch.randn(2, 64, 8, generator=draw), dim=2)
    assert torch.isclose(it.clip_loss(u, v, 20.0), CHAPTER.clip_loss(u, v, 20.0))
    text = pool(noto[:30], size=64).caption
    label = torch.tensor([text.index(t) for t in text])
    assert max(Counter(text).values()) > 1
    ideal = torch.eye(64, dtype=torch.float64)[label]
    floor = CHAPTER.duplicate_floor(label)
    assert floor > 0
    assert it.clip_loss(ideal, ideal, 100.0) == pytest.approx(floor, abs=1e-9)
    assert it.clip_loss(u, v[label], 20.0) > floor


def test_training_learns_the_pairs_is_repeatable_and_leaves_the_global_generator_alone(noto):
    pairs = pool(noto[:150], size=150, right=1.0, worthless=0.0)
    images = it.pictures()[1][pairs.picture]
    torch.manual_seed(5)
    one = it.train_small_clip(images, pairs.tokens, 60, seed=0, batch=64)
    untouched = torch.rand(1, generator=torch.Generator().manual_seed(5))
    assert torch.equal(torch.rand(1), untouched)
    two = it.train_small_clip(images, pairs.tokens, 60, seed=0, batch=64)
    other = it.train_small_clip(images, pairs.tokens, 60, seed=1, batch=64)
    assert not one.training
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    )
    assert not torch.equal(one.text.weight, other.text.weight)
    scores = predict(one.encode_image, images) @ predict(one.encode_text, pairs.tokens).T
    assert it.recall_at_k(scores, torch.arange(150), 5) > 30


def test_rows_say_which_pairs_each_step_takes(noto):
    pairs = pool(noto[:60], size=60, right=1.0, worthless=0.0)
    images = it.pictures()[1][pairs.picture]
    rows = torch.arange(30).repeat(5, 1)
    spoiled = images.clone()
    spoiled[30:] = 77
    one = it.train_small_clip(images, pairs.tokens, 5, seed=0, rows=rows)
    two = it.train_small_clip(spoiled, pairs.tokens, 5, seed=0, rows=rows)
    assert torch.equal(one.text.weight, two.text.weight)


def test_with_fewer_pairs_than_a_batch_each_step_takes_all(noto, monkeypatch):
    handed = {}
    monkeypatch.setattr(it, "train", lambda *a, inputs, **b: handed.update(rows=inputs[0]))
    pairs = pool(noto[:20], size=20)
    it.train_small_clip(it.pictures()[1][pairs.picture], pairs.tokens, 3, seed=0)
    assert handed["rows"].sort(1).values.tolist() == [list(range(20))] * 3


def test_a_step_never_waits_for_the_host(noto, monkeypatch):
    handed = {}

    def caught(model, step_loss, steps, optimizer, schedule, inputs, generators):
        handed.update(step_loss=step_loss, optimizer=optimizer, row=inputs[0][0])

    monkeypatch.setattr(it, "train", caught)
    pairs = pool(noto, size=200)
    it.train_small_clip(it.pictures()[1][pairs.picture], pairs.tokens, 3, seed=0, batch=32)

    def step():
        handed["optimizer"].zero_grad()
        handed["step_loss"](handed["row"]).backward()
        handed["optimizer"].step()

    no_wait.check(step)


# Recall


def test_recall_is_that_of_the_chapter_and_ties_are_misses():
    scores = torch.randint(0, 20, (50, 12), generator=torch.Generator().manual_seed(0)).float()
    target = torch.arange(50) % 12
    positive = target[:, None] == torch.arange(12)
    for k in (1, 3, 12):
        expected = 100 * CHAPTER.recall_at_k(scores, positive, k)
        assert it.recall_at_k(scores, target, k) == pytest.approx(expected)
    assert it.recall_at_k(torch.ones(3, 5), torch.arange(3), 1) == 0
