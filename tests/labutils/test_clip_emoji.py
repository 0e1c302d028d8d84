"""The CLIP that comes with the book: its tokenizer, its towers, its file and what it can do."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from labutils import clip_emoji
from labutils.data import DataError, emoji
from labutils.data.download import ASSETS
from press import notebooks, technique

TEXTS = [
    "red heart",
    "a picture of a dog",
    "it's a dog’s life",
    "Tom &amp; Jerry <3",
    "",
    "café 2²",
]


@pytest.fixture(scope="module")
def model():
    return clip_emoji.load_clip()


@pytest.fixture(scope="module")
def record():
    """How `clip-emoji` was made and what it reached; its kinds and templates."""
    text = (ASSETS / f"{clip_emoji.NAME}.json").read_text("utf-8")
    return SimpleNamespace(**json.loads(text))


@pytest.fixture(scope="module")
def chapter():
    return technique.load("clip")


def pictures(n=6, style="twemoji"):
    return emoji.on_background(emoji.load((style,)).rgba[:n], (255, 255, 255))


# --- tokenizer -----------------------------------------------------------------------------------


def test_tokens_are_those_of_the_chapters_tokenizer(model, chapter):
    merges = {(ord(a), ord(b)): new for (a, b), new in model.tokenizer.merges.items()}
    theirs = chapter.Tokenizer(merges, clip_emoji.CONTEXT)
    concepts = emoji.concepts_and_styles()[0][::10]
    texts = [*TEXTS, *(", ".join([c.name, *c.keywords]) for c in concepts)]
    assert torch.equal(model.tokenizer(texts), theirs(texts))


def test_the_first_merges_are_the_most_frequent_pairs(model, chapter, record):
    concepts, templates = emoji.concepts_and_styles()[0], record.templates
    words = [" ".join([c.name, *c.keywords]) for c in concepts]
    learned = chapter.learn_merges([*words, *templates], 12)
    found = [(ord(a), ord(b)) for a, b in list(model.tokenizer.merges)[:12]]
    assert found == list(learned)


# --- towers --------------------------------------------------------------------------------------


def test_features_have_length_one(model):
    assert torch.allclose(model.encode_image(pictures()).norm(dim=1), torch.ones(6))
    assert torch.allclose(model.encode_text(model.tokenizer(TEXTS)).norm(dim=1), torch.ones(6))


def test_pictures_go_through_three_convolutions_and_a_linear_map(model):
    x = pictures().float() / 255 * 4 - 2
    for k in (0, 3, 6):
        norm = model.visual[k + 1]
        x = F.conv2d(x, model.visual[k].weight, stride=2, padding=1)
        x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias).relu()
    torch.testing.assert_close(model.image_features(pictures()), x.flatten(1))
    u = F.normalize(x.flatten(1) @ model.visual_proj.weight.T, dim=1)
    torch.testing.assert_close(model.encode_image(pictures()), u)


def test_a_text_is_the_mean_of_its_tokens_after_one_block_of_attention(model):
    for text in ("red heart", "a picture of a dog"):
        row = model.tokenizer([text])[0]
        tokens = row[: row.argmax()]
        x = model.block(model.token_embedding(tokens)[None])[0]
        v = F.normalize(model.text_proj(x.mean(0)), dim=0)
        found = model.encode_text(row[None])[0]
        torch.testing.assert_close(found, v, atol=1e-5, rtol=1e-4)


def test_neither_padding_nor_the_order_of_words_matters(model):
    rows = model.tokenizer(["red heart", "heart red"])
    first, second = model.encode_text(rows)
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    longer = F.pad(rows, (0, 9))
    longer[:, 12:] = 7
    torch.testing.assert_close(model.encode_text(longer), model.encode_text(rows))


# --- the file ------------------------------------------------------------------------------------


def test_the_network_is_the_stored_one_and_frozen(model):
    state, known = model.state_dict(), {"merges", "seen"}
    with np.load(ASSETS / "labs-clip-emoji.npz") as arrays:
        missing = state.keys() - set(arrays.files)
        assert all(name.endswith("num_batches_tracked") for name in missing)
        assert set(arrays.files) - state.keys() == known
        for name in set(arrays.files) - known:
            assert arrays[name].dtype == np.float16
            assert torch.equal(state[name], torch.from_numpy(arrays[name]).float()), name
        assert len(model.tokenizer.merges) == len(arrays["merges"]) == 4000
    assert not model.training
    assert not any(weight.requires_grad for weight in model.parameters())
    assert (ASSETS / "labs-clip-emoji.npz").stat().st_size <= 3_000_000


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    clip_emoji.load_clip()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_that_its_record_does_not_describe_is_refused(tmp_path, monkeypatch):
    for end in ("npz", "json"):
        content = (ASSETS / f"labs-clip-emoji.{end}").read_bytes()
        (tmp_path / f"labs-clip-emoji.{end}").write_bytes(content)
    with np.load(tmp_path / "labs-clip-emoji.npz") as stored:
        arrays = dict(stored)
    arrays["logit_scale"] = arrays["logit_scale"] + 1
    np.savez_compressed(tmp_path / "labs-clip-emoji.npz", **arrays)
    monkeypatch.setattr(clip_emoji, "ASSETS", tmp_path)
    with pytest.raises(DataError, match=r"not the file that .* describes"):
        clip_emoji.load_clip()


def test_seen_concepts_have_a_picture_in_a_style_of_training_and_are_not_held_out(model, record):
    concepts = emoji.concepts_and_styles()[0]
    drawn = emoji.load(clip_emoji.STYLES).concept.unique()
    out = set(record.held_out)
    expected = [k in set(drawn.tolist()) and c.name not in out for k, c in enumerate(concepts)]
    assert model.seen.tolist() == expected
    families = {c.family for c in concepts if c.name in out}
    assert all((c.family in families) == (c.name in out) for c in concepts), "whole families"
    assert len(families) == round(0.04 * (max(c.family for c in concepts) + 1))
    assert record.styles == {"trained": list(clip_emoji.STYLES), "chooses": "emojione"}


def test_kinds_and_templates_are_the_chapters(record):
    source = json.loads(notebooks.path("clip").read_text("utf-8"))
    code = "\n".join("".join(cell["source"]) for cell in source["cells"])
    names = {}
    for start in (r"^KINDS = \{.*?^\}", r"^KINDS \|= \{.*?^\}", r"^TEMPLATES = \(.*?^\)"):
        exec(re.search(start, code, re.MULTILINE | re.DOTALL)[0], names)
    assert {k: tuple(v) for k, v in record.kinds.items()} == names["KINDS"]
    assert tuple(record.templates) == names["TEMPLATES"]
    assert len(record.kinds) == 37
    subgroups = " ".join(record.kinds).split()
    assert len(subgroups) == len(set(subgroups)), "of one kind only"
    assert set(subgroups) <= {c.subgroup for c in emoji.concepts_and_styles()[0]}


# --- what it can do ------------------------------------------------------------------------------


def test_features_of_a_style_are_those_of_its_pictures(model):
    found, dataset = clip_emoji.features("twemoji"), emoji.load(("twemoji",))
    assert torch.equal(found.concept, dataset.concept)
    torch.testing.assert_close(found.u[:6], model.encode_image(pictures()))
    assert clip_emoji.features("twemoji") is found


@pytest.mark.parametrize("style", ["twemoji", "emojione", "noto"])
def test_the_recorded_scores_are_true(model, record, style):
    found, concepts = clip_emoji.features(style), emoji.concepts_and_styles()[0]
    names = [k for k, c in enumerate(concepts) if c.name not in set(record.held_out)]
    scores = found.u @ model.encode_text(model.tokenizer([concepts[k].name for k in names])).T
    asked = model.seen[found.concept]
    right = torch.tensor(names)[scores.argmax(1)] == found.concept
    expected = record.scores[style]
    assert expected["names"] == len(names)
    assert expected["pictures"] == asked.sum()
    assert 100 * right[asked].double().mean() == pytest.approx(expected["r1"], abs=0.15)
    v = model.encode_text(model.tokenizer([line for _, line in record.kinds.values()]))
    number = {name: k for k, names in enumerate(record.kinds) for name in names.split()}
    kinds = torch.tensor([number.get(c.subgroup, -1) for c in concepts])
    kind = kinds[found.concept]
    sorted_right = (found.u @ v.T).argmax(1)[asked & (kind >= 0)] == kind[asked & (kind >= 0)]
    assert 100 * sorted_right.double().mean() == pytest.approx(expected["kinds"], abs=0.15)
