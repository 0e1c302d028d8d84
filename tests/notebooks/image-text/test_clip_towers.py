"""CLIP's towers against open_clip with the same weights, and the promises of their parts."""

import math

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP as OpenCLIP
from torch import nn

from labutils import training
from press import technique


@pytest.fixture(scope="module")
def clip():
    return technique.load("clip")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def peer(size, patch, widths, depths, heads, output, vocab, context, quick=True):
    """An open_clip model with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return OpenCLIP(
            output,
            {
                "layers": depths[0], "width": widths[0], "head_width": widths[0] // heads[0],
                "patch_size": patch, "image_size": size,
            },
            {
                "context_length": context, "vocab_size": vocab, "width": widths[1],
                "heads": heads[1], "layers": depths[1],
            },
            quick_gelu=quick,
        ).eval()  # fmt: skip


def ours(clip, theirs, size, patch, widths, depths, heads, output, vocab, context, quick=True):
    activation = clip.QuickGELU if quick else nn.GELU
    model = clip.CLIP(
        clip.VisionTransformer(size, patch, widths[0], depths[0], heads[0], output, activation),
        clip.TextTransformer(vocab, context, widths[1], depths[1], heads[1], output, activation),
    )
    top = ("visual.", "logit_scale")
    state = theirs.state_dict()
    model.load_state_dict({k if k.startswith(top) else f"text.{k}": x for k, x in state.items()})
    return model.eval()


TINY = (32, 8, (128, 128), (3, 3), (4, 4), 64, 500, 16)
UNEVEN = (48, 16, (96, 64), (2, 4), (3, 2), 24, 90, 9)
B32 = (224, 32, (768, 512), (12, 12), (12, 8), 512, 49_408, 77)


def inputs(shape, n=3):
    size, *_, vocab, context = shape
    images = torch.randn(n, 3, size, size, generator=seeded(1))
    tokens = torch.randint(1, vocab - 1, (n, context), generator=seeded(2))
    for row, end in zip(tokens, range(2, 2 + n), strict=True):
        row[end], row[end + 1 :] = vocab - 1, 0
    return images, tokens


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("shape", [TINY, UNEVEN])
def test_features_and_gradients_equal_open_clips(clip, shape, quick):
    theirs = peer(*shape, quick)
    mine = ours(clip, theirs, *shape, quick)
    images, tokens = inputs(shape)
    for a, b in zip(mine(images, tokens), theirs(images, tokens), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    raw = mine.visual(images), mine.text(tokens)
    other = theirs.encode_image(images), theirs.encode_text(tokens)
    torch.testing.assert_close(raw, other, atol=1e-5, rtol=1e-5)
    for model in (mine, theirs):
        u, v, s = model(images, tokens)
        clip.clip_loss(u, v, s).backward()
    grads = {k.removeprefix("text."): p.grad for k, p in mine.named_parameters()}
    for name, p in theirs.named_parameters():
        torch.testing.assert_close(grads[name], p.grad, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.slow
def test_vit_b_32_equals_open_clips(clip):
    theirs = peer(*B32)
    mine = ours(clip, theirs, *B32)
    assert sum(p.numel() for p in mine.parameters()) == 151_277_313
    text = sum(p.numel() for name, p in mine.text.named_parameters() if "projection" not in name)
    assert text == 63_165_952
    images, tokens = inputs(B32, n=2)
    with torch.inference_mode():
        for a, b in zip(mine(images, tokens), theirs(images, tokens), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def small_text(clip, **changes):
    sizes = {"vocab_size": 60, "context": 10, "width": 32, "depth": 2, "heads": 4, "output": 8}
    text = clip.TextTransformer(**sizes | changes)
    visual = clip.VisionTransformer(16, 8, 32, 2, 4, 8)
    clip.initialise_transformers(visual, text, seeded(0))
    return text.double()


def test_text_tower_is_causal_and_reads_the_end_of_the_text(clip):
    text = small_text(clip)
    tokens = torch.randint(1, 59, (1, 10), generator=seeded(3))
    tokens[0, 5] = 59
    base = text(tokens)
    for place in range(10):
        changed = tokens.clone()
        if place != 5:
            changed[0, place] = (tokens[0, place] + 7) % 58 + 1
            same = torch.equal(text(changed), base)
            assert same == (place > 5), place
    assert torch.equal(text(tokens[:, :6]), base) or torch.allclose(text(tokens[:, :6]), base)


def test_causal_attention_equals_torchs(clip):
    mine = clip.Attention(24, 4)
    nn.init.normal_(mine.in_proj_weight, generator=seeded(0))
    nn.init.normal_(mine.in_proj_bias, generator=seeded(1))
    theirs = nn.MultiheadAttention(24, 4, batch_first=True)
    theirs.load_state_dict(mine.state_dict())
    x = torch.randn(2, 7, 24, generator=seeded(2))
    mask = torch.full((7, 7), -torch.inf).triu(1)
    for causal in (False, True):
        expected = theirs(x, x, x, attn_mask=mask if causal else None, need_weights=False)[0]
        torch.testing.assert_close(mine(x, causal), expected, atol=1e-5, rtol=1e-5)


def test_initialisation_has_the_released_statistics(clip):
    visual = clip.VisionTransformer(64, 8, width=192, depth=3, heads=3, output=128)
    text = clip.TextTransformer(2000, 77, width=256, depth=6, heads=4, output=128)
    clip.initialise_transformers(visual, text, seeded(0))
    branch = 256**-0.5 * 12**-0.5
    for block in text.transformer.resblocks:
        expected = {
            block.attn.in_proj_weight: 256**-0.5, block.attn.out_proj.weight: branch,
            block.mlp.c_fc.weight: 512**-0.5, block.mlp.c_proj.weight: branch,
        }  # fmt: skip
        for weight, std in expected.items():
            assert weight.std().item() == pytest.approx(std, rel=0.02)
            assert abs(weight.mean().item()) < std / 50
        assert (block.attn.in_proj_bias == 0).all()
        assert (block.attn.out_proj.bias == 0).all()
        assert block.mlp.c_fc.bias.abs().max() > 0  # the library's default
    assert text.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.01)
    assert text.positional_embedding.std().item() == pytest.approx(0.01, rel=0.02)
    assert text.text_projection.std().item() == pytest.approx(256**-0.5, rel=0.02)
    for weight in (visual.proj, visual.positional_embedding):
        assert weight.std().item() == pytest.approx(192**-0.5, rel=0.03)
    for block in visual.transformer.resblocks:  # Xavier and Kaiming uniform
        bound = math.sqrt(6 / (192 + 3 * 192))
        assert block.attn.in_proj_weight.abs().max().item() == pytest.approx(bound, rel=1e-3)
        weight = block.mlp.c_fc.weight
        assert weight.abs().max().item() == pytest.approx(192**-0.5, rel=1e-3)
    assert visual.conv1.weight.abs().max().item() == pytest.approx(192**-0.5, rel=1e-3)


def test_initialisation_depends_on_its_generator_only(clip):
    def weights(seed):
        visual = clip.VisionTransformer(16, 8, 16, 1, 2, 8)
        text = clip.TextTransformer(20, 5, 16, 1, 2, 8)
        clip.initialise_transformers(visual, text, seeded(seed))
        return torch.cat([p.flatten() for m in (visual, text) for p in m.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_quick_gelu(clip):
    z = torch.linspace(-6, 6, 50, dtype=torch.float64)
    torch.testing.assert_close(clip.QuickGELU()(z), z / (1 + torch.exp(-1.702 * z)))


def test_features_are_unit_rows_and_float32_in_half_precision(clip):
    model = clip.CLIP(nn.Linear(4, 3), nn.Linear(4, 3))
    u = model.encode_image(torch.randn(5, 4, generator=seeded(0)))
    torch.testing.assert_close(u.norm(dim=1), torch.ones(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encode_text(torch.randn(5, 4)).dtype == torch.float32


def test_scale_starts_at_the_papers_value_and_is_bounded_in_place(clip):
    model = clip.CLIP(nn.Identity(), nn.Identity())
    assert model.logit_scale.dtype == torch.float32
    assert model.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-6)
    for value, bounded in ((9.0, math.log(100)), (-1.0, 0.0), (3.0, 3.0)):
        model.logit_scale.data.fill_(value)
        model.bound_scale()
        assert model.logit_scale.item() == pytest.approx(bounded)
        assert model.logit_scale.requires_grad


# Small towers


def test_conv_tower_equals_its_layers_written_by_hand(clip):
    """In training by the statistics of the batch, afterwards by those that it remembers."""
    tower = clip.ConvTower(33, [4, 6, 8], 5)
    x = torch.randn(3, 3, 33, 33, generator=seeded(0))
    convolutions = [m for m in tower.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in tower.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(convolutions) == len(norms) == 3
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 2, generator=seeded(1))
        nn.init.normal_(norm.bias, generator=seeded(2))

    def by_hand(training):
        h = x
        for convolution, norm in zip(convolutions, norms, strict=True):
            h = F.conv2d(h, convolution.weight, stride=2, padding=1)
            mean, var = norm.running_mean, norm.running_var
            if training:
                mean, var = h.mean((0, 2, 3)), h.var((0, 2, 3), correction=0)
            shape = (1, -1, 1, 1)
            h = (h - mean.view(shape)) / (var.view(shape) + 1e-5).sqrt()
            h = (h * norm.weight.view(shape) + norm.bias.view(shape)).clamp(min=0)
        return h.flatten(1)

    torch.testing.assert_close(tower.features(x), by_hand(True), atol=1e-5, rtol=1e-5)
    tower.eval()
    expected = by_hand(False)
    assert expected.shape == (3, 8 * 5 * 5)
    torch.testing.assert_close(tower.features(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tower(x), F.linear(expected, tower.proj.weight))
    assert tower.proj.bias is None


def test_bag_of_tokens_averages_what_stands_between_start_and_end(clip):
    tower = clip.BagOfTokens(10, 4, 3)
    tokens = torch.tensor([[8, 3, 0, 3, 9, 0, 0], [8, 5, 9, 0, 0, 0, 0], [8, 9, 0, 0, 0, 0, 0]])
    table, w = tower.token_embedding.weight, tower.proj.weight
    means = torch.stack([(2 * table[3] + table[0]) / 3, table[5], torch.zeros(4)])
    torch.testing.assert_close(tower(tokens), means @ w.T)  # token 0 inside a text counts
    order = torch.tensor([[8, 3, 3, 0, 9, 7, 7]])
    torch.testing.assert_close(tower(order)[0], tower(tokens)[0])


def test_word_predictor_loss_and_scores_equal_loops(clip):
    vocab = 12
    predictor = clip.WordPredictor(nn.Identity(), 4, vocab)
    x = torch.randn(2, 4, generator=seeded(0))
    tokens = torch.tensor([[10, 3, 5, 3, 11, 0], [10, 7, 11, 0, 0, 0]])
    words = [[3, 5, 3], [7]]
    log_p = predictor.words(x).log_softmax(1)
    expected = -sum(log_p[k][words[k]].mean() for k in range(2)) / 2
    torch.testing.assert_close(predictor.loss(x, tokens), expected)
    prior = torch.randn(vocab, generator=seeded(1))
    scores = torch.stack([
        torch.stack([(log_p[i] - prior)[words[j]].mean() for j in range(2)]) for i in range(2)
    ])  # fmt: skip
    torch.testing.assert_close(predictor.scores(x, tokens, prior), scores.detach())


def test_captioner_loss_and_scores_equal_loops(clip):
    vocab = 12
    captioner = clip.Captioner(nn.Identity(), 4, vocab, hidden=6).double()
    x = torch.randn(2, 4, generator=seeded(0), dtype=torch.float64)
    tokens = torch.tensor([[10, 3, 5, 3, 11, 0], [10, 7, 11, 0, 0, 0]])
    words = [[3, 5, 3], [7]]

    def log_p(image, text):
        """Of each word, after the start and the words before it."""
        found, state = [], torch.zeros(1, 1, 6, dtype=torch.float64)
        for before, word in zip([10, *text], text, strict=False):
            seen, state = captioner.reader(captioner.embedding(torch.tensor([[before]])), state)
            logits = captioner.words(image) + captioner.next(seen[0, 0])
            found.append(logits.log_softmax(0)[word])
        return torch.stack(found)

    expected = -torch.cat([log_p(x[k], words[k]) for k in range(2)]).mean()
    torch.testing.assert_close(captioner.loss(x, tokens), expected)
    prior = torch.randn(vocab, generator=seeded(1), dtype=torch.float64)
    scores = torch.stack([
        torch.stack([(log_p(image, text) - prior[text]).mean() for text in words])
        for image in x
    ])  # fmt: skip
    torch.testing.assert_close(captioner.scores(x, tokens, prior), scores.detach())


# The loop


def pairs_of_a_kind(clip):
    """40 pairs: a picture of one colour with the word for it."""
    colour = torch.rand(40, 3, 1, 1, generator=seeded(0)).expand(-1, -1, 16, 16) * 4 - 2
    tokens = torch.stack([torch.tensor([40, k, 41]) for k in range(40)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = clip.CLIP(clip.ConvTower(16, [8, 8], 16), clip.BagOfTokens(42, 16, 16))
    return model, colour.contiguous(), tokens


def test_the_loop_learns_to_tell_pairs_apart(clip):
    model, images, tokens = pairs_of_a_kind(clip)
    losses = clip.train_clip(model, images, tokens, 150, 20, 3e-3, seeded(1))
    assert losses.shape == (150,)
    assert not losses.requires_grad
    assert losses[-10:].mean() < 0.5 * math.log(20)
    model.logit_scale.data.fill_(9.0)
    clip.train_clip(model, images, tokens, 1, 20, 3e-3, seeded(1))
    assert model.logit_scale.item() <= math.log(100) + 1e-6


def test_the_loop_equals_the_books_training(clip):
    """Same batches, rates and decay by labutils: the same weights, and t within its bounds."""
    steps, rate = 30, 2e-2
    model, images, tokens = pairs_of_a_kind(clip)
    model.logit_scale.data.fill_(4.6)
    losses = clip.train_clip(model, images, tokens, steps, 20, rate, seeded(2))
    other, *_ = pairs_of_a_kind(clip)
    other.logit_scale.data.fill_(4.6)
    draw = seeded(2)
    chosen = [torch.randperm(40, generator=draw)[:20] for _ in range(steps)]
    groups = [
        {"params": [p for p in other.parameters() if p.ndim > 1], "weight_decay": 0.2},
        {"params": [p for p in other.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, 0.98), eps=1e-6)

    def step_loss(k):
        other.bound_scale()
        return clip.clip_loss(*other(images[chosen[k]], tokens[chosen[k]]))

    def schedule(k):  # one step of warm-up, then the cosine that ends at 0
        return rate * min(k + 1, (1 + math.cos(math.pi * k / steps)) / 2)

    history = training.train(other, step_loss, steps, optimizer, schedule)
    other.bound_scale()
    torch.testing.assert_close(losses, history.losses, atol=1e-5, rtol=1e-4)


# Bad input


def test_bad_sizes_are_named(clip):
    with pytest.raises(ValueError, match="multiple of the patch, got 30 and 8"):
        clip.VisionTransformer(30, 8, 16, 1, 2, 8)
    with pytest.raises(ValueError, match="multiple of the heads, got 16 and 3"):
        clip.Attention(16, 3)
    with pytest.raises(ValueError, match="10 positions, got 11 tokens"):
        small_text(clip)(torch.zeros(1, 11, dtype=torch.int64))


def test_weights_of_another_architecture_are_refused(clip):
    theirs = peer(*UNEVEN)
    with pytest.raises(RuntimeError, match="size mismatch"):
        ours(clip, theirs, 48, 16, (96, 64), (2, 4), (3, 2), 32, 90, 9)
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ours(clip, theirs, 48, 16, (96, 64), (1, 4), (3, 2), 24, 90, 9)
