"""What holds for any input: augmentations, splits, losses, statistics, parsers of files."""

import contextlib
import copy
import gzip
import hashlib
import json
import math
from types import SimpleNamespace

import click
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labutils import PROFILES, checks, evaluation, image_text, kept, statistics
from labutils.augment import crop_flip, normalise, pad_crop_flip, strong, views
from labutils.claims import Ledger, RecordError
from labutils.data import DataError, few_labels, images, stratified_split
from labutils.start import _column
from labutils.training import cosine_schedule
from press import reader
from press.__main__ import parse_seeds

settings.register_profile(
    "few", max_examples=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
settings.load_profile("few")

SEEDS = st.integers(0, 2**31)
FLOATS = st.floats(-1e6, 1e6, allow_subnormal=False)
SAMPLES = st.lists(FLOATS, min_size=1, max_size=8)


def g(seed):
    return torch.Generator().manual_seed(seed)


@st.composite
def pictures(draw, channels=(1, 3), least=3):
    """uint8 (N, C, H, W) of any small size, an empty batch too."""
    n, c = draw(st.integers(0, 4)), draw(st.sampled_from(channels))
    h, w = draw(st.integers(least, 9)), draw(st.integers(least, 9))
    return torch.randint(256, (n, c, h, w), dtype=torch.uint8, generator=g(draw(SEEDS)))


@st.composite
def labels(draw):
    """int64 (N,) of up to five classes, in any order, not each of them there."""
    return torch.tensor(draw(st.lists(st.integers(0, 4), min_size=1, max_size=40)))


# --- augmentations --------------------------------------------------------------------------------


@given(pictures(), SEEDS, st.integers(0, 4), st.booleans())
def test_a_shift_keeps_shape_and_draws_the_same_again(x, seed, padding, flip):
    moved = pad_crop_flip(x, padding, g(seed), flip)
    assert (moved.shape, moved.dtype) == (x.shape, x.dtype)
    assert torch.equal(moved, pad_crop_flip(x, padding, g(seed), flip))
    values = set(x.unique().tolist()) | {0}
    assert set(moved.unique().tolist()) <= values


@given(pictures(), st.integers(0, 3), st.data())
def test_a_crop_is_a_piece_of_the_padded_image(x, padding, data):
    places = st.lists(st.integers(0, 2 * padding), min_size=len(x), max_size=len(x))
    top, left = (torch.tensor(data.draw(places), dtype=torch.int64) for _ in range(2))
    turned = torch.tensor([k % 2 for k in range(len(x))], dtype=torch.int64)
    moved = crop_flip(x, padding, top, left, turned)
    wide = torch.nn.functional.pad(x, (padding,) * 4)
    for k in range(len(x)):
        piece = wide[k, :, top[k] : top[k] + x.shape[2], left[k] : left[k] + x.shape[3]]
        assert torch.equal(moved[k], piece.flip(-1) if turned[k] else piece)


@given(pictures(), st.floats(0.01, 1), st.floats(0.01, 1))
def test_normalised_pixels_go_back(x, mean, std):
    c = x.shape[1]
    back = (normalise(x, (mean,) * c, (std,) * c) * std + mean) * 255
    assert torch.allclose(back, x.float(), atol=1e-2)


@given(pictures(), SEEDS, st.integers(0, 3))
def test_strong_augmentation_keeps_shape_and_draws_the_same_again(x, seed, count):
    changed = strong.strong_augment(x, g(seed), count)
    assert (changed.shape, changed.dtype) == (x.shape, torch.uint8)
    assert torch.equal(changed, strong.strong_augment(x, g(seed), count))


@given(pictures(), st.sampled_from(strong.OPERATIONS), st.floats(0, 1))
def test_each_image_is_changed_by_itself(x, name, share):
    low, high = strong.RANGES[name]
    which = torch.full((len(x),), strong.OPERATIONS.index(name))
    by = torch.full((len(x),), low + (high - low) * share)
    together = strong.apply(x, which, by)
    alone = [strong.apply(x[k : k + 1], which[:1], by[:1]) for k in range(len(x))]
    assert torch.equal(together, torch.cat([x[:0], *alone]))
    assert name != "Identity" or torch.equal(together, x)


@given(pictures(channels=(1, 2, 3), least=4), SEEDS)
def test_views_are_finite_in_0_to_1_and_drawn_the_same_again(x, seed):
    recipe = views.Recipe(blur_kernel=0.3)
    pair = views.two_views(x, recipe, g(seed))
    for view in pair:
        assert (view.shape, view.dtype) == (x.shape, torch.float32)
        assert ((view >= -1e-6) & (view <= 1 + 1e-6)).all()
    assert all(map(torch.equal, pair, views.two_views(x, recipe, g(seed))))


@given(st.integers(0, 50), st.integers(1, 40), st.integers(1, 40), SEEDS)
def test_crops_lie_within_the_image(n, height, width, seed):
    top, left, h, w = views.crop_boxes(n, height, width, views.Recipe(), g(seed))
    assert ((top >= 0) & (left >= 0) & (h >= 1) & (w >= 1)).all()
    assert ((top + h <= height) & (left + w <= width)).all()


@given(pictures(channels=(3,), least=4), st.floats(0.1, 5), st.integers(0, 3))
def test_a_blur_of_a_constant_image_is_that_image(x, sigma, reach):
    flat = x.float().mul(0).add(0.25)
    blurred = views.gaussian_blur(flat, torch.full((len(x),), sigma), reach)
    assert torch.allclose(blurred, flat, atol=1e-5)


# --- splits ---------------------------------------------------------------------------------------


@given(labels(), st.lists(st.integers(0, 15), max_size=4), SEEDS)
def test_a_split_has_its_sizes_and_no_example_twice(y, sizes, seed):
    if sum(sizes) > len(y):
        with pytest.raises(ValueError, match="cannot split"):
            stratified_split(y, sizes, g(seed))
        return
    parts = stratified_split(y, sizes, g(seed))
    assert [len(part) for part in parts] == sizes
    every = torch.cat([y[:0], *parts])
    assert len(set(every.tolist())) == len(every)
    assert all(map(torch.equal, parts, stratified_split(y, sizes, g(seed))))


@given(labels(), st.integers(1, 6), SEEDS)
def test_few_labels_are_as_many_of_each_class(y, per_class, seed):
    if y.bincount()[y.unique()].min() < per_class:
        with pytest.raises(ValueError, match="examples, fewer than"):
            few_labels(y, per_class, g(seed))
        return
    chosen = few_labels(y, per_class, g(seed))
    assert torch.equal(y[chosen], y.unique().repeat_interleave(per_class))
    assert len(set(chosen.tolist())) == len(chosen)


# --- losses, scores, rates ------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(1, 6), st.floats(0.1, 100), SEEDS)
def test_the_contrastive_loss_is_symmetric_and_does_not_mind_the_order(n, d, scale, seed):
    u, v = torch.nn.functional.normalize(torch.randn(2, n, d, generator=g(seed)), dim=2)
    order = torch.randperm(n, generator=g(seed))
    loss = image_text.clip_loss(u, v, scale)
    assert loss >= -1e-6
    for a, b in ((v, u), (u[order], v[order])):
        other = image_text.clip_loss(a, b, scale)
        torch.testing.assert_close(loss, other, rtol=1e-4, atol=1e-4)


@given(st.integers(1, 12), st.integers(2, 6), SEEDS)
def test_recall_rises_with_k_to_100(n, m, seed):
    scores = torch.rand(n, m, generator=g(seed))
    target = torch.randint(m, (n,), generator=g(seed))
    found = [image_text.recall_at_k(scores, target, k) for k in range(1, m + 1)]
    assert found == sorted(found)
    assert found[-1] == 100
    assert found[0] == pytest.approx(evaluation.accuracy(scores, target))


@given(st.integers(1, 20), st.integers(1, 6), SEEDS)
def test_accuracy_is_a_percentage(n, classes, seed):
    scores = torch.randn(n, classes, generator=g(seed))
    y = torch.randint(classes, (n,), generator=g(seed))
    found = evaluation.accuracy(scores, y)
    assert found == pytest.approx(100 * np.mean(scores.argmax(1).numpy() == y.numpy()))
    assert evaluation.accuracy(scores, scores.argmax(1)) == 100


@given(st.floats(0, 10), st.integers(1, 50), st.floats(0, 1), st.data())
def test_a_rate_stays_between_its_ends(rate, steps, share, data):
    warmup = data.draw(st.integers(0, steps - 1))
    schedule = cosine_schedule(rate, steps, final=rate * share, warmup_steps=warmup)
    rates = [schedule(k) for k in range(steps)]
    assert all(-1e-9 <= r <= rate + 1e-9 for r in rates)
    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert all(a >= b - 1e-9 for a, b in zip(rates[warmup:], rates[warmup + 1 :], strict=False))


# --- statistics -----------------------------------------------------------------------------------


@given(SAMPLES)
def test_an_interval_holds_its_mean(sample):
    found = statistics.mean_interval(sample)
    assert found.n == len(sample)
    assert found.mean == pytest.approx(math.fsum(sample) / len(sample), abs=1e-6)
    assert math.isnan(found.low) if len(sample) == 1 else found.low <= found.mean <= found.high
    wider = statistics.mean_interval(sample, 0.99)
    assert len(sample) == 1 or (wider.low <= found.low + 1e-9 and wider.high >= found.high - 1e-9)


@given(SAMPLES, st.floats(0, 100))
def test_a_verdict_of_the_opposite_claim_is_the_same(sample, margin):
    up = statistics.judge(sample, "greater", margin)
    down = statistics.judge([-x for x in sample], "less", margin)
    assert up.verdict == down.verdict
    assert up.verdict in statistics.VERDICTS
    assert up.p is None if len(sample) < statistics.MIN_SEEDS else 0 <= up.p <= 1


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.floats(0, 1)), max_size=6))
def test_a_correction_never_lowers_p_and_keeps_names_and_order(ps):
    found = statistics.corrected({k: statistics.Verdict("reproduced", p, p) for k, p in ps.items()})
    assert list(found) == list(ps)
    tested = sorted((p, found[k].adjusted) for k, p in ps.items() if p is not None)
    assert all(p <= adjusted <= 1 for p, adjusted in tested)
    assert [adjusted for _, adjusted in tested] == sorted(adjusted for _, adjusted in tested)


# --- parsers: files of data, records, settings, seeds ---------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@given(content=st.binary(min_size=1, max_size=200), data=st.data())
def test_a_file_is_taken_as_it_was_or_packed_anew_and_not_with_another_byte(folder, content, data):
    """Of IDX files, by the sum of the file or of what gunzip gives."""
    raw, file = gzip.compress(content), folder / "images.gz"
    md5, contents = hashlib.md5(raw).hexdigest(), (hashlib.sha256(content).hexdigest(),)
    for good in (raw, gzip.compress(content, 1, mtime=5)):
        file.write_bytes(good)
        images._check("fashion-mnist", file, md5, contents)
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    flipped = bytearray(content)
    flipped[place] ^= 1 << bit
    cut = raw[: data.draw(st.integers(0, len(raw) - 1))]
    for bad in (gzip.compress(bytes(flipped)), cut, raw + b"x", content):
        file.write_bytes(bad)
        with pytest.raises(DataError, match="damaged, expected a file with md5"):
            images._check("fashion-mnist", file, md5, contents)


@given(st.integers(1, 5), st.integers(1, 6), SEEDS, st.booleans())
def test_idx_files_are_read_as_they_were_written(folder, n, size, seed, cut):
    from torchvision.datasets.mnist import read_image_file

    pixels = np.random.default_rng(seed).integers(256, size=(n, size, size), dtype=np.uint8)
    header = [0x803, *pixels.shape]
    whole, file = b"".join(k.to_bytes(4, "big") for k in header) + pixels.tobytes(), folder / "idx"
    file.write_bytes(whole)
    part = SimpleNamespace(data=read_image_file(str(file)), targets=torch.zeros(n, dtype=int))
    read = images._to_tensors(part)
    assert np.array_equal(read.images[:, 0].numpy(), pixels)
    assert read.images.shape == (n, 1, size, size)
    if cut:
        file.write_bytes(whole[:-1])
        with pytest.raises((AssertionError, RuntimeError, ValueError)):
            read_image_file(str(file))


@given(st.integers(1, 5), st.integers(1, 6), SEEDS)
def test_cifar_pictures_keep_their_colours(n, size, seed):
    pixels = np.random.default_rng(seed).integers(256, size=(n, size, size, 3), dtype=np.uint8)
    read = images._to_tensors(SimpleNamespace(data=pixels, targets=list(range(n))))
    assert np.array_equal(read.images.numpy(), pixels.transpose(0, 3, 1, 2))
    assert (read.images.is_contiguous(), read.labels.dtype) == (True, torch.int64)
    assert read.labels.tolist() == list(range(n))


@given(st.lists(FLOATS, min_size=3, max_size=3), st.dictionaries(st.text(), FLOATS), st.data())
def test_a_record_is_read_as_it_was_written_and_not_with_another_letter(values, chosen, data):
    book = Ledger("a", "small", [0, 1, 2], chosen, {"device": "cpu"})
    book.claim("a-b", "a beats b", source="ours", values={"a": values, "b": [0.0] * 3},
               direction="greater")  # fmt: skip
    text = book.to_json()
    read = reader.parse(text, "a.json")
    assert read.to_json() == text
    assert read.claims == book.claims
    place = data.draw(st.integers(0, len(text) - 2))
    other = text[:place] + data.draw(st.sampled_from('0x"}')) + text[place + 1 :]
    if json.loads(text) != _loaded(other):
        with pytest.raises(RecordError, match=r"a\.json is not a record: "):
            reader.parse(other, "a.json")


def _loaded(text):
    try:
        return json.loads(text)
    except ValueError:
        return None


@given(st.one_of(st.text(max_size=20), st.binary(max_size=20)))
def test_what_is_no_record_is_refused_as_such(text):
    with pytest.raises(RecordError, match=r"a\.json is not a record: "):
        reader.parse(text, "a.json")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | FLOATS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(), inner)
    ),
    max_leaves=6,
)


@given(PLAIN)
def test_a_kept_result_is_the_same_and_has_the_same_name(folder, result):
    kept.save(result, folder / "kept.pt")
    assert kept.load(folder / "kept.pt") == result
    assert kept.identity(len, (result,)) == kept.identity(len, (copy.deepcopy(result),))
    assert kept.identity(len, (result,)) != kept.identity(len, ([result, 0],))


@given(st.integers(0, 6), st.sampled_from(PROFILES), st.integers(1, 3))
def test_settings_have_a_column_per_profile(width, profile, count):
    rows = {f"n{k}": tuple(range(width)) for k in range(count)}
    known = PROFILES[: width - 2] if width in (4, 5) else ()
    if profile in known:
        assert set(_column(rows, profile).values()) == {PROFILES.index(profile)}
    else:
        with pytest.raises(
            ValueError, match="one row per knob" if not known else "unknown profile"
        ):
            _column(rows, profile)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True))
def test_lists_of_seeds_are_read_as_they_are_written(seeds):
    assert parse_seeds(",".join(map(str, seeds))) == seeds


@given(st.text(alphabet="0123456789-, x", max_size=6))
def test_a_list_of_seeds_is_distinct_or_refused(text):
    with contextlib.suppress(click.BadParameter):
        seeds = parse_seeds(text)
        assert seeds
        assert len(set(seeds)) == len(seeds)


# --- checks of arguments --------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), max_size=4), st.sampled_from(["float", "int", "uint8", ""]))
def test_a_shape_fits_itself_alone(shape, kind):
    dtype = {"float": torch.float32, "int": torch.int64, "uint8": torch.uint8}.get(kind, torch.bool)
    x = torch.zeros(shape, dtype=dtype)
    letters = ", ".join("NCHW"[: len(shape)]) + "," * (len(shape) == 1)
    checks.fit(f"x {kind} ({letters})".replace("  ", " "), x)
    with pytest.raises(ValueError, match="expects x"):
        checks.fit(f"x {kind} ({letters})".replace("  ", " "), x[None])
    if kind:
        with pytest.raises(TypeError, match="expects x"):
            checks.fit(f"x {kind} ({letters})", x.to(torch.bool))


@given(st.one_of(st.floats(), st.integers()), st.integers(-5, 5))
def test_a_bound_is_kept(value, least):
    good = isinstance(value, int) and value >= least
    if good:
        checks.fit(f"n >= {least}", value)
    else:
        with pytest.raises((TypeError, ValueError), match=rf"expects n >= {least} \(whole\), got"):
            checks.fit(f"n >= {least}", value)
