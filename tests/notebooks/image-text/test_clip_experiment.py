"""The CLIP chapter's experiment: disjoint parts, honest choices, the pictures that it says.

Tests that take the experiment's module as their argument are also handed modules with a mistake in
them, by test_clip_mutations.py.
"""

import math
import types

import no_wait
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labutils import evaluation, training
from labutils.data import emoji
from labutils.start import Lab
from press import technique

TAGS = ("technique", "experiment")
DATA = emoji.load()
WHITE = emoji.on_background(DATA.rgba, torch.tensor([255, 255, 255]))
FAMILY = torch.tensor([concept.family for concept in DATA.concepts])
LAB = types.SimpleNamespace(
    device=torch.device("cpu"), seeds=(0, 1), streams=lambda seed: Lab.streams(LAB, seed)
)
MADE = ("TOKENIZER", "CAPTIONS", "IN_TEMPLATES", "NAMES", "KIND", "LOG_PRIOR", "choices")


def settings(**changes):
    """Those of `smoke` with numbers that differ from each other where a mix-up could hide."""
    s = types.SimpleNamespace(**technique.settings("clip", "smoke"))
    s.main_pairs, s.supervised_pairs, s.short_pairs, s.scale_pairs = 256, 128, 96, 224
    s.copies_pairs, s.tuning_pairs, s.line_pairs = 64, 192, [32, 64]
    s.rates, s.strengths, s.scales, s.batches = [1e-3, 2e-3], [0.01, 0.1], [10.0, 25.0], [32, 64]
    s.main_widths, s.unseen_share = [4, 8, 12], 0.04
    s.variants, s.draws, s.shots, s.shares = 4, 2, [1, 3], [0.25, 0.5, 1.0]
    vars(s).update(changes)
    return s


def given(**changes):
    names = {"lab": LAB, "S": settings(**changes), "DATA": DATA, "WHITE": WHITE}
    return names | {"CONCEPTS": DATA.concepts, "FAMILY": FAMILY} | dict.fromkeys(MADE)


def finish(clip):
    """What the untagged cells make: texts, kinds, and choices as if validation had made them."""
    words = [" ".join([c.name, *c.keywords]) for c in DATA.concepts[::20]]
    clip.TOKENIZER = clip.Tokenizer(clip.learn_merges(words, 30), clip.S.context)
    drawn = clip.draw_captions(DATA.concepts, torch.Generator().manual_seed(0))
    clip.CAPTIONS, clip.IN_TEMPLATES = (clip.TOKENIZER(texts) for texts in drawn)
    clip.NAMES = clip.TOKENIZER([c.name for c in DATA.concepts])
    clip.KIND = clip.kinds_of(DATA.concepts)
    clip.LOG_PRIOR = torch.linspace(-9, -3, clip.TOKENIZER.vocab_size)
    clip.choices = clip.Choices(Tuned(clip))
    return clip


class Tuned(dict):
    """Choices for every arm: each its own rate by its name, rule and penalties by turn."""

    def __init__(self, clip):
        for place, arm in enumerate(clip.tuned_arms()):
            for rate in clip.S.rates:
                score = 50.0 + (rate == clip.S.rates[place % 2])
                found = {rule: score - k for k, rule in enumerate(clip.RULES)}
                for shots in (*clip.S.shots, clip.ALL):
                    found |= {(shots, c): float((c > 0.05) == (shots == 1)) for c in (0.01, 0.1)}
                self[arm, rate] = found


@pytest.fixture(scope="module")
def texts():
    return finish(technique.load("clip", tags=TAGS, given=given()))


@pytest.fixture
def clip(texts):
    """A fresh module, so that a test may change it; texts are made once."""
    module = technique.load("clip", tags=TAGS, given=given())
    vars(module).update({name: getattr(texts, name) for name in MADE})
    module.choices = module.Choices(texts.choices.tuned)
    return module


def watch(clip):
    """Replace `fit` by one that trains nothing and notes what it was asked for."""
    calls = []

    def fit(model, seed, indices, pairs, rate, loss, *, looks=1, look=None, **options):
        calls.append({"model": model, "seed": seed, "indices": indices, "pairs": pairs,
                      "rate": rate, "loss": loss, "looks": looks, **options})  # fmt: skip
        model.eval()
        return torch.zeros(20), {pairs: look()} if look else {}

    clip.fit = fit
    return calls


def style_of(indices):
    return {DATA.style_names[s] for s in DATA.style[indices].unique().tolist()}


# --- parts ---------------------------------------------------------------------------------------


def test_parts_are_disjoint_and_hold_what_they_say(clip):
    for seed, final in ((0, True), (1, False)):
        parts = clip.split_of(seed, final)
        fields = {name: set(x.tolist()) for name, x in vars(parts).items() if name != "twins"}
        assert sum(map(len, fields.values())) == len(set().union(*fields.values()))
        training = set(emoji.CORE) - {"twemoji"} - ({"emojione"} if not final else set())
        assert style_of(parts.train) == training
        assert style_of(parts.cells) | style_of(parts.new) <= training
        assert style_of(parts.shift) == style_of(parts.new_shift) == {"twemoji"}
        assert style_of(parts.validation) == ({"emojione"} if not final else set())
        seen = set(DATA.concept[parts.train].tolist())
        for name in ("validation", "shift", "cells", "twins"):
            assert set(DATA.concept[getattr(parts, name)].tolist()) <= seen
        for name in ("new", "new_shift"):
            assert not set(DATA.concept[getattr(parts, name)].tolist()) & seen
        assert 0.02 < len(parts.new) / len(parts.train) < 0.08
        assert 0.1 < len(parts.cells) / len(parts.train) < 0.25


def test_no_family_and_no_picture_leaks(clip):
    parts = clip.split_of(2)
    family = FAMILY[DATA.concept]
    assert not set(family[parts.train].tolist()) & set(family[parts.new].tolist())
    cell = family * 10 + DATA.style
    assert not set(cell[parts.train].tolist()) & set(cell[parts.cells].tolist())
    pictures = {DATA.rgba[i].numpy().tobytes() for i in parts.train}
    for indices in (parts.new, parts.cells):
        assert not pictures & {DATA.rgba[i].numpy().tobytes() for i in indices}


def test_twins_show_the_concepts_of_the_cells_by_the_held_out_artist(clip):
    parts = clip.split_of(0)
    assert style_of(parts.twins) == {"twemoji"}
    concepts = set(DATA.concept[parts.cells].tolist())
    drawn = set(DATA.concept[DATA.style == DATA.style_names.index("twemoji")].tolist())
    assert set(DATA.concept[parts.twins].tolist()) == concepts & drawn


def test_the_same_concepts_are_held_out_with_and_without_the_validation_style(clip):
    first, final = clip.split_of(3, final=False), clip.split_of(3)
    held = set(DATA.concept[first.new].tolist())
    assert held
    assert not held & set(DATA.concept[final.train].tolist())
    assert not torch.equal(first.new, clip.split_of(4, final=False).new)
    assert torch.equal(final.train, clip.split_of(3).train)


def test_the_held_out_artist_goes_round_with_the_seed(clip):
    clip.S.held_out = ["noto", "twemoji"]
    assert [style_of(clip.split_of(seed).shift) for seed in (4, 5)] == [{"noto"}, {"twemoji"}]


# --- captions and batches ------------------------------------------------------------------------


def test_captions_belong_to_their_concept(clip):
    plain, dressed = clip.draw_captions(DATA.concepts, torch.Generator().manual_seed(1))
    V, changed = clip.S.variants, []
    assert len(plain) == len(dressed) == V * len(DATA.concepts)
    for k, (text, other) in enumerate(zip(plain, dressed, strict=True)):
        concept = DATA.concepts[k // V]
        words = {concept.name} if k % V % 2 == 0 else {*concept.keywords, concept.name}
        assert all(part in words for part in ([text] if text in words else text.split(", "))), text
        assert other in {text, *(t.format(text) for t in clip.TEMPLATES)}
        changed.append(text != other)
    for kind in (0, 1):  # names and keywords, half of each
        assert np.mean(changed[kind::2]) == pytest.approx(0.5, abs=0.01)
    assert any(len(text.split(", ")) == 2 for text in plain[1::2])


def test_batches_hold_distinct_concepts_and_every_picture_can_come(clip):
    indices = clip.split_of(0).train
    batches = clip.draw_batches(indices, 40, 512, torch.Generator().manual_seed(0))
    assert batches.shape == (40, 512)
    assert all(len(DATA.concept[row].unique()) == 512 for row in batches)
    assert set(batches.flatten().tolist()) <= set(indices.tolist())
    assert len(batches.unique()) > 0.9 * len(indices)
    assert not torch.equal(batches[0], batches[1])
    again = clip.draw_batches(indices, 40, 512, torch.Generator().manual_seed(0))
    assert torch.equal(batches, again)


def test_copies_are_different_pictures_of_one_concept_side_by_side(clip):
    indices = clip.pool_of(("copies", "none"), clip.split_of(0), 0)
    batches = clip.draw_batches(indices, 5, 32, torch.Generator().manual_seed(0), copies=4)
    for row in batches:
        concept = DATA.concept[row].view(8, 4)
        assert (concept == concept[:, :1]).all()
        assert len(concept[:, 0].unique()) == 8
        assert all(len(four.unique()) == 4 for four in row.view(8, 4))


def test_no_batch_is_smaller_than_asked(clip):
    indices = clip.split_of(0).train
    few = indices[torch.isin(DATA.concept[indices], DATA.concept[indices].unique()[:20])]
    draw = torch.Generator().manual_seed(0)
    assert clip.draw_batches(few, 1, 20, draw).shape == (1, 20)
    for batch, copies in ((21, 1), (30, 4), (20 * 4, 4)):
        with pytest.raises(ValueError, match="expected a batch"):
            clip.draw_batches(few, 1, batch, draw, copies)


def test_copies_share_a_caption_or_have_their_own(clip):
    draw = torch.Generator().manual_seed(0)
    shared = clip.draw_variants(50, 32, draw, copies=4).view(50, 8, 4)
    own = clip.draw_variants(50, 32, draw, copies=4, shared=False).view(50, 8, 4)
    assert (shared == shared[..., :1]).all()
    assert (own == own[..., :1]).all(-1).double().mean() < 0.1
    for drawn in (shared, own):
        assert set(drawn.unique().tolist()) == set(range(clip.S.variants))


# --- training ------------------------------------------------------------------------------------


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))


def fitted(clip, **options):
    """What reaches the loss in a run of `fit`, step by step, without augmentation."""
    seen = []

    def loss(model, images, tokens, concepts):
        seen.append((images, tokens, concepts))
        return model.weight.square().sum()

    clip.views = types.SimpleNamespace(random_view=lambda images, *_: images.float() / 255)
    indices = options.pop("indices", clip.split_of(0).train)
    result = clip.fit(Recorder(), 0, indices, 96, 1e-3, loss, **options)
    return seen, result


def test_a_step_gets_pictures_with_captions_of_their_concept(clip):
    for captions in (None, clip.IN_TEMPLATES):
        seen, (losses, _) = fitted(clip, captions=captions)
        assert len(seen) == len(losses) == 3
        table = (clip.CAPTIONS if captions is None else captions).view(-1, 4, clip.S.context)
        own = {}
        for i in clip.split_of(0).train.tolist():
            own.setdefault(int(DATA.concept[i]), []).append(clip.pixels(WHITE[i : i + 1])[0])
        for images, tokens, concepts in seen:
            assert len(images) == len(tokens) == len(concepts) == clip.S.batch
            for image, row, concept in zip(images, tokens, concepts.tolist(), strict=True):
                assert (table[concept] == row).all(1).any()
                assert any(torch.equal(image, picture) for picture in own[concept])
    every = torch.cat([tokens for _, tokens, _ in seen])
    assert not torch.equal(every[: clip.S.batch], every[clip.S.batch : 2 * clip.S.batch])


def test_pictures_are_augmented_in_training_and_not_in_evaluation(clip):
    recipes, view = [], clip.views.random_view

    def random_view(images, recipe, generator):
        recipes.append(recipe)
        return view(images, recipe, generator)

    clip.views = types.SimpleNamespace(random_view=random_view)
    parts, model = clip.split_of(0), clip.new_model("contrast", 0, clip.S.short_widths)
    clip.fit(model, 0, parts.train, 64, 1e-3, clip.contrast)
    assert recipes == [clip.RECIPE] * 2
    clip.retrieve(model, parts, parts.shift[:20])
    assert len(recipes) == 2
    assert clip.RECIPE.flip_probability == 0  # arrows, left and right


def test_arms_of_a_seed_see_the_same_pictures_in_the_same_order(clip):
    first, second = (fitted(clip)[0] for _ in range(2))
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True)
               for a, b in zip(x, y, strict=True))  # fmt: skip
    towers = [clip.new_model(o, 5, [4, 8, 8]).visual.state_dict() for o in clip.OBJECTIVES]
    other = clip.new_model("contrast", 6, [4, 8, 8]).visual.state_dict()
    for state in towers[1:]:
        assert all(torch.equal(state[key], x) for key, x in towers[0].items())
    assert not torch.equal(other["proj.weight"], towers[0]["proj.weight"])


def test_new_models_depend_on_their_seed_only(clip):
    for objective in clip.OBJECTIVES:
        torch.manual_seed(1)
        first = clip.new_model(objective, 3, [4, 8, 8]).state_dict()
        torch.manual_seed(2)
        second = clip.new_model(objective, 3, [4, 8, 8]).state_dict()
        assert all(torch.equal(x, second[key]) for key, x in first.items()), objective


def test_looks_come_in_evaluation_mode_at_equal_parts_and_at_the_end(clip):
    parts, modes = clip.split_of(0), []
    model = clip.new_model("contrast", 0, clip.S.short_widths)
    look = lambda: modes.append(model.training) or len(modes)  # noqa: E731
    _, looks = clip.fit(model, 0, parts.train, 256, 1e-3, clip.contrast, looks=4, look=look)
    assert looks == {64: 1, 128: 2, 192: 3, 256: 4}
    assert modes == [False] * 4
    assert not model.training


def test_fixed_scales_stay_and_learned_ones_move_within_their_bound(clip):
    parts = clip.split_of(0)
    for arm, start, moves in (
        (("scale", 25.0), 25.0, False),
        (("scale", "learned"), 1 / 0.07, True),
    ):
        model = clip.new_model("contrast", 0, clip.S.short_widths)
        clip.fixed_scale(model, arm)
        clip.fit(model, 0, parts.train, 96, 1e-2, clip.contrast)
        end = model.logit_scale.exp().item()
        assert (end == pytest.approx(start, rel=1e-6)) != moves, arm
    model.logit_scale.data.fill_(9.0)
    clip.fit(model, 0, parts.train, 64, 1e-3, clip.contrast)
    assert model.logit_scale.item() < math.log(100) + 0.01


def test_gains_biases_and_t_do_not_decay(clip):
    model = clip.new_model("contrast", 0, clip.S.short_widths)
    decayed, others = clip.optimiser(model, 1e-3).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (clip.S.decay, 0.0)
    assert any(p is model.logit_scale for p in others["params"])
    assert {p.ndim > 1 for p in decayed["params"]} == {True}
    assert len(decayed["params"]) + len(others["params"]) == len([*model.parameters()])


@pytest.mark.parametrize("objective", ["contrast", "words", "captions", "labels"])
def test_a_step_never_waits_for_the_host(clip, objective):
    handed = {}

    def train(model, step_loss, steps, optimizer, rate, **options):
        handed.update(options, step=step_loss, optimizer=optimizer)
        return training.History(torch.zeros(steps))

    clip.train = train
    model = clip.new_model(objective, 0, clip.S.short_widths)
    indices = clip.of_kinds(clip.split_of(0).train)[0]
    clip.fit(model, 0, indices, 64, 1e-3, clip.OBJECTIVES[objective])
    rows = [x[0] for x in handed["inputs"]]
    assert {len(x) for x in handed["inputs"]} == {2}

    def step():
        handed["optimizer"].zero_grad()
        handed["step"](*rows).backward()
        handed["optimizer"].step()

    no_wait.check(step)


def test_the_supervised_loss_is_that_of_the_kinds_of_the_pictures(clip):
    indices = clip.of_kinds(clip.split_of(0).train)[0][:40]
    model = clip.new_model("labels", 0, clip.S.short_widths).eval()
    images, concepts = clip.pixels(WHITE[indices]), DATA.concept[indices]
    expected = F.cross_entropy(model(images), clip.KIND[concepts])
    assert torch.equal(clip.by_kind(model, images, None, concepts), expected)


# --- evaluation ----------------------------------------------------------------------------------


def test_kinds_are_those_of_the_subgroups(clip):
    names = [name for group in clip.KINDS for name in group.split()]
    assert len(set(names)) == len(names)
    assert set(names) <= {concept.subgroup for concept in DATA.concepts}
    groups = list(clip.KINDS)
    for concept, kind in zip(DATA.concepts, clip.KIND.tolist(), strict=True):
        assert kind == next((k for k, g in enumerate(groups) if concept.subgroup in g.split()), -1)
    indices, kind = clip.of_kinds(torch.arange(len(DATA)))
    assert torch.equal(kind, clip.KIND[DATA.concept[indices]])
    assert (kind >= 0).all()
    assert len(indices) == int((clip.KIND[DATA.concept] >= 0).sum())


def sighted(clip, texts_of):
    """A CLIP whose picture of concept c points along c, and whose texts are texts_of(tokens)."""
    model = clip.CLIP(nn.Identity(), nn.Identity())
    place = {WHITE[i].numpy().tobytes(): int(DATA.concept[i]) for i in range(len(DATA))}
    eye = torch.eye(len(DATA.concepts))

    def encode_image(images):
        bytes_ = ((images + 2) / 4 * 255).round().byte().contiguous()
        return eye[[place[image.numpy().tobytes()] for image in bytes_]]

    model.encode_image, model.encode_text = encode_image, texts_of
    return model


def test_retrieval_is_among_the_names_of_seen_concepts(clip):
    parts, asked = clip.split_of(0), []
    rows = {tuple(row): c for c, row in enumerate(clip.NAMES.tolist())}

    def texts_of(tokens):
        asked.append(tokens)
        return torch.eye(len(DATA.concepts))[[rows[tuple(row)] for row in tokens.tolist()]]

    model = sighted(clip, texts_of)
    some = parts.shift[::40]
    names = len(set(map(tuple, clip.NAMES[clip.seen_concepts(parts)].tolist())))
    found = clip.retrieve(model, parts, some)
    assert found[5] >= found[1] > 80  # few merges and few tokens: some names are spelled alike
    seen = DATA.concept[parts.train].unique()
    assert len(asked[0]) == len(seen) >= names
    assert torch.equal(asked[0], clip.NAMES[seen])


def test_zero_shot_accuracy_is_that_of_the_sentences(clip):
    indices = clip.of_kinds(clip.split_of(0).shift)[0][::5]
    kind = clip.KIND[DATA.concept[indices]]
    model = clip.new_model("contrast", 1, clip.S.short_widths).eval()
    with torch.no_grad():
        u = model.encode_image(clip.pixels(WHITE[indices]))
        for names in (clip.SENTENCES, clip.BARE):
            v = model.encode_text(clip.TOKENIZER(list(names)))
            right = ((u @ v.T).argmax(1) == kind).double().mean() * 100
            given_names = None if names is clip.SENTENCES else names
            assert clip.zero_shot(model, indices, given_names) == pytest.approx(float(right))
        words = clip.new_model("words", 1, clip.S.short_widths).eval()
        for prior in (None, clip.LOG_PRIOR):
            scores = words.scores(
                clip.pixels(WHITE[indices]), clip.TOKENIZER(list(clip.SENTENCES)),
                torch.zeros_like(clip.LOG_PRIOR) if prior is None else prior,
            )  # fmt: skip
            right = (scores.argmax(1) == kind).double().mean() * 100
            found = clip.zero_shot(words, indices, log_prior=prior)
            assert found == pytest.approx(float(right))


def test_ways_to_name_are_the_bare_names_in_one_template_in_all_and_the_sentences(clip):
    asked = []

    def zero_shot(model, indices, names=None, templates=("{}",), u=None):
        asked.append((names, tuple(templates)))
        assert torch.equal(u, expected)
        return float(len(asked))

    clip.zero_shot = zero_shot
    model, indices = clip.new_model("contrast", 0, clip.S.short_widths).eval(), torch.arange(9)
    with torch.no_grad():
        expected = model.encode_image(clip.pixels(WHITE[clip.of_kinds(indices)[0]]))
    found = clip.names_and_templates(model, indices)
    M = len(clip.TEMPLATES)
    assert asked[:M] == [(clip.BARE, (t,)) for t in clip.TEMPLATES]
    assert found["template"] == np.mean(range(1, M + 1))
    ways = {value: key for key, value in found.items()}
    assert {ways[k + 1]: call for k, call in enumerate(asked) if k >= M} == {
        "keywords": (None, ("{}",)), "bare names": (clip.BARE, ("{}",)),
        "ensemble": (clip.BARE, clip.TEMPLATES),
    }  # fmt: skip
    assert len(clip.BARE) == len(clip.SENTENCES) == len(clip.KINDS)


def test_bank_and_test_are_disjoint_halves_of_every_kind(clip):
    kind = clip.of_kinds(clip.split_of(0).shift)[1]
    bank, test = clip.halves(kind, torch.Generator().manual_seed(0))
    together = torch.cat([*bank, test])
    assert together.sort().values.tolist() == list(range(len(kind)))
    for k, mine in enumerate(bank):
        assert set(kind[mine].tolist()) == {k}
        assert len(mine) == (int((kind == k).sum()) + 1) // 2
    assert not torch.equal(test, clip.halves(kind, torch.Generator().manual_seed(1))[1])


def test_a_probe_learns_from_at_most_so_many_and_equals_the_plain_one(clip):
    draw, asked, fit = torch.Generator().manual_seed(0), [], clip.LogisticRegression
    clip.LogisticRegression = lambda **options: asked.append(options["C"]) or fit(**options)
    kind = torch.arange(len(clip.KINDS)).repeat(8)
    h = torch.randn(len(kind), 400, generator=draw) + 4 * F.one_hot(kind, 400)
    h[:, 37:60] *= 30  # once they are standardised, they are noise like any other
    bank, test = clip.halves(kind, draw)
    cases = (1, 0.1), (2, 1.0), (clip.ALL, 0.1)
    for shots, strength in cases:
        chosen = torch.cat([mine[:shots] for mine in bank])
        logits = evaluation.linear_probe(h[chosen], kind[chosen], strength=strength)
        expected = evaluation.accuracy(logits(h[test]), kind[test])
        found = clip.probe(h.double().numpy(), kind.numpy(), bank, test, shots, strength)
        assert found == pytest.approx(expected, abs=1.5)
    assert asked == [strength for _, strength in cases]


def test_probes_are_tested_on_what_they_did_not_learn(clip):
    """Features of pure noise: a probe that had seen its test would know it by heart."""
    rows = torch.randn(len(DATA), 2000, generator=torch.Generator().manual_seed(0))
    clip.over = lambda function, indices: rows[indices]
    tower = types.SimpleNamespace(features=None)
    found = clip.probes(tower, clip.split_of(0).shift, [clip.ALL], {clip.ALL: [1.0]},
                        torch.Generator().manual_seed(0))  # fmt: skip
    assert len(found["test"]) == clip.S.draws
    assert found[clip.ALL, 1.0] < 20
    assert not torch.equal(*found["test"])


def test_probes_stand_before_the_last_map_of_a_frozen_tower(clip):
    tower = clip.new_model("contrast", 0, clip.S.short_widths).eval().visual
    before = {k: x.clone() for k, x in tower.state_dict().items()}
    seen = []
    clip.probe = lambda h, *_: seen.append(h) or 1.0
    shift = clip.split_of(0).shift
    clip.probes(tower, shift, [1], {1: [0.1]}, torch.Generator().manual_seed(0))
    expected = tower.features(clip.pixels(WHITE[clip.of_kinds(shift)[0]]))
    np.testing.assert_allclose(seen[0], expected.detach().numpy(), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(x, before[k]) for k, x in tower.state_dict().items())


# --- choices -------------------------------------------------------------------------------------

ARMS = [("main", "contrast"), ("main", "labels"), ("batch", 64), ("scale", 25.0)]
ARMS += [("objective", name) for name in ("contrast", "words", "captions", "labels")]


@pytest.mark.parametrize("arm", ARMS, ids=str)
def test_settings_are_chosen_on_the_validation_style_of_a_seed_without_results(clip, arm):
    check_choosing(clip, arm)


def check_choosing(clip, arm=("main", "contrast")):
    calls, tested = watch(clip), []
    clip.retrieve = lambda model, parts, indices, prior=None: tested.append(indices) or {5: 7.0}
    clip.kind_accuracy = lambda model, indices: tested.append(indices) or 7.0
    clip.probes = lambda tower, indices, *_: (
        tested.append(indices) or {"test": indices, (1, 2): 3.0}
    )
    found = clip.tune(arm, 2e-3)
    assert tested
    assert all(style_of(indices) == {"emojione"} for indices in tested)
    (call,) = calls
    assert style_of(call["indices"]) == {"noto", "noto-v1", "fluent-emoji-flat"}
    assert call["rate"] == 2e-3
    assert call["seed"] not in LAB.seeds
    assert "test" not in found


def test_every_arm_is_tuned_as_long_as_it_is_used_but_no_longer_than_the_settings_say(clip):
    calls = watch(clip)
    clip.retrieve = lambda *_: {5: 7.0}
    clip.kind_accuracy = lambda *_: 7.0
    clip.probes = lambda *_: {}
    s, expected = clip.S, {}
    for arm in clip.tuned_arms():
        clip.tune(arm, s.rates[0])
        expected[arm] = s.tuning_pairs if arm[0] in ("main", "scale") else s.short_pairs
    expected["main", "labels"] = s.supervised_pairs
    assert s.supervised_pairs < s.tuning_pairs < min(s.main_pairs, s.scale_pairs)
    assert [call["pairs"] for call in calls] == list(expected.values())
    assert {("batch", 64), ("scale", "learned"), ("scale", 25.0), ("width", 1)} <= set(expected)


def test_the_best_rate_rule_and_penalty_are_taken(clip):
    words = ("objective", "words")
    tuned = {(("objective", "contrast"), r): {"-": v} for r, v in ((1e-3, 5.0), (2e-3, 5.0))}
    tuned |= {(words, 1e-3): {"log p": 3.0, "log p - log prior": 1.0, (1, 0.01): 99.0},
              (words, 2e-3): {"log p": 2.0, "log p - log prior": 4.0, (1, 0.01): 1.0,
                              (1, 0.1): 2.0, (3, 0.01): 6.0, (3, 0.1): 5.0}}  # fmt: skip
    choices = clip.Choices(tuned)
    assert choices.rate(("objective", "contrast")) == 1e-3  # ties: the smaller
    assert choices.rate(("copies", "none")) == 1e-3  # as the standard run
    assert choices.rate(words) == 2e-3
    tuned |= {(("scale", 25.0), 1e-3): {"-": 1.0}, (("scale", 25.0), 2e-3): {"-": 2.0}}
    assert choices.rate(("scale", 25.0)) == 2e-3  # its own
    assert choices.rule(words) == "log p - log prior"
    assert (choices.strength(words, 1), choices.strength(words, 3)) == (0.1, 0.01)
    assert clip.prior_of("log p") is None
    assert clip.prior_of("log p - log prior") is clip.LOG_PRIOR


def test_scores_that_are_made_once_are_those_of_each_rule(clip):
    parts, seen = clip.split_of(0, final=False), []
    parts.validation = parts.validation[:20]
    clip.recalls = lambda scores, *_: seen.append(scores) or {5: 7.0}
    names = clip.NAMES[clip.seen_concepts(parts)]
    for objective in ("words", "captions"):
        model = clip.new_model(objective, 0, [4, 8, 12]).eval()
        assert clip.by_rule(model, parts) == dict.fromkeys(clip.RULES, 7.0)
        for rule in clip.RULES:
            expected = clip.text_scores(model, parts.validation, names, clip.prior_of(rule))
            torch.testing.assert_close(seen.pop(0), expected)


# --- the runs ------------------------------------------------------------------------------------


def test_the_main_run_is_tested_on_the_held_out_artist(clip):
    calls, tested, parts = watch(clip), [], clip.split_of(1)
    clip.galleries = lambda *_: {}
    clip.names_and_templates = lambda model, indices: tested.append(indices) or {}
    found = clip.main_run(1)
    (call,) = calls
    assert torch.equal(call["indices"], parts.train)
    assert (call["pairs"], call["seed"], call["loss"]) == (256, 1, clip.contrast)
    assert call["rate"] == clip.choices.rate(("main", "contrast"))
    assert torch.equal(tested[0], parts.shift)
    model = call["model"]
    assert found["image to text"] == clip.retrieve(model, parts, parts.shift)
    assert found["in style"] == clip.zero_shot(model, parts.cells)
    assert found["twins"] == clip.zero_shot(model, parts.twins)
    assert set(found["probes"]) == {*clip.S.shots, clip.ALL}
    again = clip.new_model("contrast", 1, clip.S.main_widths)
    again.load_state_dict(found["state"])


def test_each_number_of_labels_has_its_own_penalty_and_zero_shot_the_same_pictures(clip):
    watch(clip)
    asked, tested = [], torch.arange(5)
    clip.galleries = clip.names_and_templates = lambda *_: {}

    def probes(tower, indices, shots, strengths, generator):
        asked.append(strengths)
        return {(k, strengths[k][0]): 1.0 for k in shots} | {"test": [tested, tested + 5]}

    clip.probes = probes
    clip.zero_shot = lambda model, indices: float(indices.double().mean())
    found = clip.main_run(0)
    arm = ("main", "contrast")
    assert asked == [{k: [clip.choices.strength(arm, k)] for k in (1, 3, clip.ALL)}]
    assert asked[0][1] != asked[0][3]
    assert found["zero-shot beside"] == np.mean([2.0, 7.0])


def test_the_supervised_control_learns_the_kinds_of_the_same_training_pictures(clip):
    calls, parts = watch(clip), clip.split_of(0)
    found = clip.supervised_run(0)
    (call,) = calls
    assert torch.equal(call["indices"], clip.of_kinds(parts.train)[0])
    assert (call["pairs"], call["loss"]) == (128, clip.by_kind)
    assert call["rate"] == clip.choices.rate(("main", "labels"))
    main = clip.new_model("contrast", 0, clip.S.main_widths).visual.layers
    assert str(call["model"].visual.layers) == str(main)
    for field in ("shift", "cells", "twins"):
        assert found[field] == clip.kind_accuracy(call["model"], getattr(parts, field))


def test_nearest_pixels_equal_a_slow_search(clip):
    parts = clip.split_of(0)
    some = clip.of_kinds(parts.shift)[0][::30]
    few = clip.of_kinds(parts.train)[0][::20]
    few = torch.cat([few, parts.train[torch.isin(DATA.concept[parts.train], DATA.concept[some])]])
    clip.split_of = lambda seed: types.SimpleNamespace(train=few.unique(), shift=some)
    found, first, fifth, right = clip.pixel_run(0), 0, 0, 0
    for i in some.tolist():
        gap = {
            j: float((WHITE[i].double() - WHITE[j].double()).square().sum())
            for j in few.unique().tolist()
        }
        best = {}
        for j, distance in gap.items():
            c = int(DATA.concept[j])
            best[c] = min(distance, best.get(c, math.inf))
        ahead = sum(d < best[int(DATA.concept[i])] for d in best.values())
        first, fifth = first + (ahead < 1), fifth + (ahead < 5)
        labelled = {j: d for j, d in gap.items() if clip.KIND[DATA.concept[j]] >= 0}
        nearest = min(labelled, key=labelled.get)
        right += int(clip.KIND[DATA.concept[nearest]] == clip.KIND[DATA.concept[i]])
    n = len(some) / 100
    assert found["recalls"] == {1: pytest.approx(first / n), 5: pytest.approx(fifth / n)}
    assert found["accuracy"] == pytest.approx(right / n, abs=0.01)


def test_pools_are_what_their_arms_say(clip):
    parts = clip.split_of(0)
    standard = clip.pool_of(("objective", "contrast"), parts, 0)
    assert torch.equal(standard, parts.train)
    for share in (0.25, 0.5):
        pool = clip.pool_of(("share", share), parts, 0)
        assert len(pool) == len(pool.unique()) == round(share * len(parts.train))
        assert set(pool.tolist()) <= set(parts.train.tolist())
        assert not torch.equal(pool, clip.pool_of(("share", share), parts, 1))
    many = clip.pool_of(("copies", "own captions"), parts, 0)
    counts = DATA.concept[many].bincount()
    assert set(counts[counts > 0].tolist()) == {4}
    assert torch.equal(many, clip.pool_of(("copies", "none"), parts, 0))
    labels = clip.pool_of(("objective", "labels"), parts, 0)
    assert torch.equal(labels, clip.of_kinds(parts.train)[0])


def test_every_short_arm_changes_what_it_says_and_nothing_else(clip):
    s, standard = clip.S, {"widths": clip.S.short_widths, "pairs": 96}
    expected = {
        ("objective", "words"): ("words", standard), ("share", 0.5): ("contrast", standard),
        ("captions", "in templates"): ("contrast", standard),
        ("width", 1): ("contrast", standard | {"widths": s.widths[1]}),
        ("batch", 64): ("contrast", standard | {"batch": 64}),
        ("scale", 10.0): ("contrast", standard | {"pairs": 224}),
        ("copies", "none"): ("contrast", standard | {"pairs": 64}),
        ("copies", "one caption"): ("contrast", standard
                                    | {"pairs": 64, "copies": 4, "shared": True}),
        ("copies", "multi-positive"): ("contrast", standard
                                       | {"pairs": 64, "copies": 4, "shared": False}),
    }  # fmt: skip
    for arm, options in expected.items():
        assert clip.options_of(arm) == options, arm
    assert clip.options_of(("main", "contrast"))[1] == {"widths": s.main_widths, "pairs": 256}
    assert clip.options_of(("main", "labels"))[1] == {"widths": s.main_widths, "pairs": 128}


@pytest.mark.parametrize(
    "arm", [("objective", "contrast"), ("objective", "captions"), ("objective", "labels"),
            ("captions", "in templates"), ("copies", "multi-positive"), ("scale", 25.0)], ids=str
)  # fmt: skip
def test_a_short_run_trains_its_arm_and_is_tested_on_the_held_out_artist(clip, arm):
    check_short_run(clip, arm)


def check_short_run(clip, arm):
    calls, tested, parts = watch(clip), [], clip.split_of(1)
    note = lambda model, indices, *_, **__: tested.append(indices) or 50.0  # noqa: E731
    clip.zero_shot = clip.kind_accuracy = clip.names_and_templates = note
    clip.retrieve = lambda model, parts, indices, prior: tested.append(indices) or {5: 60.0}
    clip.full_probe = lambda tower, indices, *_: tested.append(indices) or 70.0
    found = clip.short_run(1, arm)
    (call,) = calls
    assert tested
    assert all(torch.equal(indices, parts.shift) for indices in tested)
    assert torch.equal(call["indices"], clip.pool_of(arm, parts, 1))
    assert (call["seed"], call["rate"]) == (1, clip.choices.rate(arm))
    multi = arm == ("copies", "multi-positive")
    objective = clip.options_of(arm)[0]
    assert call["loss"] is (clip.multi_positive if multi else clip.OBJECTIVES[objective])
    dressed = arm[0] == "captions"
    assert (call["captions"] is clip.IN_TEMPLATES) == dressed
    assert ("probe" in found) == (arm[0] == "objective")
    assert ("s" in found) == (objective == "contrast")
    if arm == ("scale", 25.0):
        assert found["s"] == pytest.approx(25.0)


def test_the_predictors_are_scored_by_the_rule_that_was_chosen(clip):
    watch(clip)
    asked = []
    clip.zero_shot = lambda *_, log_prior=None: asked.append(log_prior) or 1.0
    clip.retrieve = lambda model, parts, indices, prior: asked.append(prior) or {5: 1.0}
    clip.full_probe = clip.names_and_templates = lambda *_: 1.0
    clip.choices.rule = lambda arm: "log p - log prior"
    clip.short_run(0, ("objective", "words"))
    assert all(prior is clip.LOG_PRIOR for prior in asked)
    asked.clear()
    clip.short_run(0, ("objective", "contrast"))
    assert asked == [None, None]


def test_all_short_arms_are_run_and_those_equal_to_the_standard_once(clip):
    arms = clip.short_arms()
    assert len(set(arms)) == len(arms)
    jobs = clip.jobs_of((0, 1))
    assert len(set(jobs)) == len(jobs)
    runs = 2 * (4 + len(arms) + len(clip.diversity_arms()))
    assert len(jobs) == runs - len(clip.S.scales) - 1  # of the second seed: fixed, learned
    pairs = [clip.options_of(arm) for arm in arms if arm[0] in ("width", "batch")]
    assert clip.options_of(("objective", "contrast")) not in pairs
    assert ("share", 1.0) not in arms


def test_runs_that_compare_scales_have_the_first_seeds_and_all_others_every_seed(clip):
    assert clip.S.scale_seeds == 1
    jobs = [job[1:] for job in clip.jobs_of((0, 1)) if job[0] is clip.short_run]
    for arm in clip.short_arms():
        assert [seed for seed, a in jobs if a == arm] == ([0] if arm[0] == "scale" else [0, 1])


# --- variety -------------------------------------------------------------------------------------


def test_training_by_few_artists_differs_in_their_number_only(clip):
    family, sets = FAMILY[DATA.concept], {}
    for artists in clip.ARTISTS:
        train, style, shift = clip.diverse_parts(0, artists)
        assert len(DATA.concept[train].unique()) == len(train)  # one picture of each
        assert len(style_of(train)) == artists
        assert style_of(style) == style_of(train)
        assert style_of(shift) == {"twemoji"}
        assert "twemoji" not in style_of(train)
        assert not set(family[train].tolist()) & {*family[style].tolist(), *family[shift].tolist()}
        assert set(DATA.concept[style].tolist()) == set(DATA.concept[shift].tolist())
        sets[artists] = DATA.concept[train].tolist(), DATA.concept[shift].tolist(), style_of(train)
    for concepts in (0, 1):
        assert len({tuple(sorted(found[concepts])) for found in sets.values()}) == 1
    assert sets[1][2] < sets[2][2] < sets[3][2] < sets[4][2]
    firsts = {tuple(style_of(clip.diverse_parts(seed, 1)[0])) for seed in range(8)}
    assert len(firsts) > 1


def test_a_run_of_few_artists_is_tested_in_style_and_shifted(clip):
    tested = []
    clip.zero_shot = clip.kind_accuracy = lambda m, indices: tested.append(indices) or len(tested)
    for objective in ("contrast", "labels"):
        calls = watch(clip)
        tested.clear()
        found = clip.diversity_run(1, objective, 2, 64)
        train, style, shift = clip.diverse_parts(1, 2)
        expected = clip.of_kinds(train)[0] if objective == "labels" else train
        assert torch.equal(calls[0]["indices"], expected)
        assert calls[0]["rate"] == clip.choices.rate(("objective", objective))
        assert (calls[0]["pairs"], calls[0]["loss"]) == (64, clip.OBJECTIVES[objective])
        assert torch.equal(tested[0], style)
        assert torch.equal(tested[1], shift)
        assert found == [1, 2]


def test_the_line_is_that_of_supervised_networks_with_one_artist(clip):
    arms = clip.diversity_arms()
    assert [arm for arm in arms if arm[:2] == ("labels", 1)] == [("labels", 1, p) for p in (32, 64)]
    assert ("labels", 4, 64) in arms
    assert {arm[1] for arm in arms if arm[0] == "contrast"} == {1, 2, 3, 4}


def test_effective_robustness_is_zero_on_the_line_and_height_above_it(clip):
    in_style = np.array([20.0, 40.0, 60.0, 80.0])
    slope, height = 0.8, -0.3
    log_odds = slope * np.log(in_style / (100 - in_style)) + height
    shifted = 100 / (1 + np.exp(-log_odds))
    points = np.stack([in_style, shifted], 1)
    line = clip.line_through(points)
    assert line == pytest.approx([slope, height])
    assert clip.effective_robustness(points, line) == pytest.approx(np.zeros(4), abs=1e-9)
    above = clip.effective_robustness(points + np.array([0, 7]), line)
    assert above == pytest.approx(np.full(4, 7.0))


# --- what is read from the runs ------------------------------------------------------------------


def test_the_factor_is_that_of_pairs_at_equal_heights(clip):
    slow, fast = {50: 5.0, 100: 10.0}, {25: 10.0, 50: 15.0, 100: 20.0}
    assert clip.pairs_to_reach(fast, 12.5) == 37.5
    assert clip.pairs_to_reach(slow, 11.0) == math.inf
    assert clip.pairs_to_reach({10: 8.0, 20: 6.0, 30: 12.0}, 8.0) == 10
    assert clip.factor(fast, slow) == 100 / 25
    assert clip.factor(slow, fast) == 25 / 100
    assert clip.factor(slow, slow) == 1
    assert clip.factor({50: 5.0, 100: 10.0}, {100: 5.0}) == 2
    assert clip.factor({50: 0.0, 100: 0.0}, {100: 0.0}) == 100  # finite where nothing is learned


def test_the_exponent_of_a_power_law_is_found(clip):
    x = np.array([1.0, 2.0, 4.0])
    y = np.stack([80 * x**-0.25, 50 * x**0.1], 1)
    assert clip.slopes(x, y) == pytest.approx([-0.25, 0.1])
    tower = clip.ConvTower(32, [8, 16, 32], 16)
    tower = nn.Sequential(*tower.layers[::3], nn.Flatten(), tower.proj)
    count, x = 0, torch.zeros(1, 3, 32, 32)
    clip.S.output = 16
    for layer in tower:
        x = layer(x)
        if not isinstance(layer, nn.Flatten):
            count += x.numel() * layer.weight[0].numel()
    assert clip.multiplications([8, 16, 32]) == pytest.approx(count / 1e6)
