"""T-JEPA's masks, networks, loss and experiment, against independent references.

Tests that take a module as their argument are also handed modules with a mistake in them, by
test_t_jepa_mutations.py.
"""

import copy
import itertools
import math
import types
from pathlib import Path

import no_wait
import numpy as np
import pytest
import stand_in
import torch
from scipy.stats import chisquare
from sklearn.linear_model import LogisticRegression
from stand_in import streams
from torch import nn

import labutils
from labutils import training
from press import technique

TAGS = ("technique", "experiment")
SETTINGS = technique.settings("t-jepa", "smoke") | {"num_steps": 4, "looks": [0, 4]}


def given(**changes):
    return {"lab": stand_in.lab(), "S": types.SimpleNamespace(**SETTINGS | changes)}


@pytest.fixture
def lab():
    return technique.load("t-jepa", tags=TAGS, given=given())


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def networks(lab, D=6, token=True, out=8):
    torch.manual_seed(1)
    return lab.Encoder(D, 8, 2, 2, token), lab.Predictor(D + token, 8, 4, 2, 1, out)


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("D", [4, 5, 18, 64])
def test_context_and_targets_are_disjoint_columns_without_repetition(lab, D):
    sizes = round(D / 4), 3, round(0.4 * D)
    C, T = lab.draw_masks(200, D, *sizes, generator())
    assert C.shape == (200, sizes[0])
    assert T.shape == (200, 3, sizes[2])
    for context, targets in zip(C.tolist(), T.tolist(), strict=True):
        for target in targets:
            both = context + target
            assert len(set(both)) == len(both)
            assert 0 <= min(both) <= max(both) < D


def test_every_column_is_drawn_equally_often_and_the_sets_of_a_row_differ(lab):
    C, T = lab.draw_masks(5000, 8, 2, 4, 3, generator())
    for drawn in (C, T[:, 0], T[:, 3]):
        assert chisquare(np.bincount(drawn.flatten(), minlength=8)).pvalue > 1e-3
    pairs = np.bincount(C[:, 0] * 8 + C[:, 1], minlength=64).reshape(8, 8)
    assert chisquare(pairs[~np.eye(8, dtype=bool)]).pvalue > 1e-3  # none with itself
    same = (T[:, 0].sort(1).values == T[:, 1].sort(1).values).all(1).float().mean()
    assert same.item() == pytest.approx(1 / math.comb(6, 3), abs=0.02)
    assert len(C.unique(dim=0)) == 56  # another one in each row


def test_tokens_are_picked_by_their_places(lab):
    tokens = torch.arange(24.0).view(2, 4, 3)
    places = torch.tensor([[[3, 0], [1, 1]], [[2, 2], [0, 3]]])
    found = lab.pick(tokens, places)
    for n, k, t in itertools.product(range(2), repeat=3):
        assert found[n, k, t].tolist() == tokens[n, places[n, k, t]].tolist()
    assert lab.pick(tokens, places[:, 0]).shape == (2, 2, 3)


def test_behind_a_token_column_j_is_at_place_j_plus_one(lab):
    C, T = lab.beside_token(torch.tensor([[0, 4]]), torch.tensor([[[1, 3]]]))
    assert C.tolist() == [[0, 1, 5]]
    assert T.tolist() == [[[2, 4]]]


# --- networks ------------------------------------------------------------------------------------


def seen_by(encoder, places, D=6):
    """Which columns the output at the first of these places depends on."""
    x = torch.randn(1, D, generator=generator(), requires_grad=True)
    (slope,) = torch.autograd.grad(encoder(x, torch.tensor([places]))[0, 0, 0], x)
    return slope[0].nonzero()[:, 0].tolist()


def test_the_encoder_sees_the_columns_at_the_places_and_no_others(lab):
    encoder, _ = networks(lab)
    plain, _ = networks(lab, token=False)
    for j in range(6):
        assert seen_by(encoder, [j + 1]) == [j]
        assert seen_by(plain, [j]) == [j]
    assert seen_by(encoder, [0]) == []
    assert seen_by(encoder, [0, 2, 6]) == [1, 5]
    x = torch.randn(1, 6, requires_grad=True)
    (slope,) = torch.autograd.grad(encoder(x)[0, 3, 0], x)
    assert slope.abs().min() > 0


def test_official_masks_never_show_the_last_column(lab):
    encoder, _ = networks(lab)
    assert [seen_by(encoder, [mask]) for mask in range(6)] == [[], [0], [1], [2], [3], [4]]


def test_all_places_or_none_given_is_the_same(lab):
    encoder, _ = networks(lab)
    x = torch.randn(3, 6)
    everything = torch.arange(7).expand(3, -1)
    assert torch.allclose(encoder(x), encoder(x, everything), atol=1e-6)
    assert encoder(x).shape == (3, 7, 8)
    order = torch.tensor([4, 0, 2])
    one, other = encoder(x, order.expand(3, -1)), encoder(x, order.sort().values.expand(3, -1))
    assert torch.allclose(one[:, order.argsort()], other, atol=1e-5)  # a set, not a sequence


def test_without_positions_and_with_equal_weights_columns_are_exchangeable(lab):
    encoder, _ = networks(lab, token=False)
    x, order = torch.randn(4, 6), torch.randperm(6, generator=generator())
    assert not torch.allclose(encoder(x)[:, order], encoder(x[:, order]), atol=1e-3)
    encoder.p.zero_()
    with torch.no_grad():
        encoder.w.copy_(encoder.w[:1].expand(6, -1))
        encoder.b.copy_(encoder.b[:1].expand(6, -1))
    assert torch.allclose(encoder(x)[:, order], encoder(x[:, order]), atol=1e-5)


def test_the_token_of_a_column_is_its_value_times_a_vector_plus_two(lab):
    encoder, _ = networks(lab)
    encoder.layers = nn.Identity()
    x = torch.randn(3, 6)
    found = encoder(x)
    assert torch.allclose(found[:, 0], (encoder.r[0] + encoder.p[0]).expand(3, -1))
    for j in range(6):
        expected = x[:, j : j + 1] * encoder.w[j] + encoder.b[j] + encoder.p[j + 1]
        assert torch.allclose(found[:, j + 1], expected)


def test_positions_are_sines_and_cosines_of_falling_frequencies(lab):
    p = lab.positions(7, 8)
    for place, k in itertools.product(range(7), range(4)):
        angle = place / 10_000 ** (2 * k / 8)
        assert p[place, k].item() == pytest.approx(math.sin(angle), abs=1e-6)
        assert p[place, 4 + k].item() == pytest.approx(math.cos(angle), abs=1e-6)


def layer_by_hand(layer, x):
    """A transformer layer of two heads on (L, d), in float64, from its formula."""
    p = {name: value.double() for name, value in layer.state_dict().items()}
    q, k, v = (x @ p["self_attn.in_proj_weight"].T + p["self_attn.in_proj_bias"]).chunk(3, 1)
    heads = []
    for a, b, c in zip(q.chunk(2, 1), k.chunk(2, 1), v.chunk(2, 1), strict=True):
        heads.append((a @ b.T / math.sqrt(a.shape[1])).softmax(1) @ c)
    out = torch.cat(heads, 1) @ p["self_attn.out_proj.weight"].T + p["self_attn.out_proj.bias"]

    def norm(z, name):
        z = (z - z.mean(1, keepdim=True)) / (z.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return z * p[f"{name}.weight"] + p[f"{name}.bias"]

    x = norm(x + out, "norm1")
    hidden = (x @ p["linear1.weight"].T + p["linear1.bias"]).clamp(min=0)
    return norm(x + hidden @ p["linear2.weight"].T + p["linear2.bias"], "norm2")


@torch.no_grad()
def test_the_transformer_is_the_formula(lab):
    encoder, _ = networks(lab)
    x = torch.randn(2, 6)
    tokens = x[..., None] * encoder.w + encoder.b
    tokens = torch.cat([encoder.r.expand(2, 1, -1), tokens], 1) + encoder.p
    for row, found in zip(tokens.double(), encoder(x), strict=True):
        for layer in encoder.layers.layers:
            row = layer_by_hand(layer, row)
        assert torch.allclose(row.float(), found, atol=1e-4)


def test_the_predictor_knows_places_and_each_set_alone(lab):
    _, predictor = networks(lab)
    z, C = torch.randn(2, 3, 8), torch.tensor([[0, 1, 5], [0, 2, 3]])
    T = torch.tensor([[[2, 3], [6, 4]], [[1, 4], [5, 6]]])
    found = predictor(z, C, T)
    assert found.shape == (2, 2, 2, 8)
    for k in range(2):  # each set of targets as if it were alone
        assert torch.allclose(predictor(z, C, T[:, k : k + 1]), found[:, k : k + 1], atol=1e-5)
    assert torch.allclose(predictor(z, C, T.flip(2)), found.flip(2), atol=1e-5)
    assert not torch.allclose(found[0, 0, 0], found[0, 0, 1], atol=1e-4)
    order = [2, 0, 1]
    assert torch.allclose(predictor(z[:, order], C[:, order], T), found, atol=1e-5)
    assert not torch.allclose(predictor(z[:, order], C, T), found, atol=1e-4)


# --- loss ----------------------------------------------------------------------------------------


def test_the_loss_is_the_double_sum(lab):
    loss_is_the_double_sum(lab)


def loss_is_the_double_sum(lab):
    encoder, predictor = networks(lab)
    slow = lab.Encoder(6, 8, 2, 2, True)
    x = torch.randn(5, 6)
    C, T = lab.beside_token(*lab.draw_masks(5, 6, 2, 3, 2, generator()))
    found = lab.jepa_loss(encoder, slow, predictor, x, C, T)
    said, wanted = predictor(encoder(x, C), C, T), slow(x)
    terms = [
        (said[n, k, t] - wanted[n, T[n, k, t]]).square().mean().item()
        for n, k, t in itertools.product(range(5), range(3), range(2))
    ]
    assert found.item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_the_slow_encoder_gets_no_gradient_and_the_others_do(lab):
    slow_encoder_gets_no_gradient(lab)


def slow_encoder_gets_no_gradient(lab):
    encoder, predictor = networks(lab)
    slow = copy.deepcopy(encoder)  # may take gradients: the loss must not give any
    C, T = lab.beside_token(*lab.draw_masks(5, 6, 2, 1, 3, generator()))
    lab.jepa_loss(encoder, slow, predictor, torch.randn(5, 6), C, T).backward()
    assert all(p.grad is None for p in slow.parameters())
    for name, p in [*encoder.named_parameters(), *predictor.named_parameters()]:
        assert p.grad.abs().sum() > 0, name


def test_hidden_columns_reach_the_prediction_by_no_way(lab):
    encoder, predictor = networks(lab)
    x = torch.randn(4, 6)
    C, T = torch.tensor([[0, 2, 5]] * 4), torch.tensor([[[1, 3, 4, 6]]] * 4)
    found = predictor(encoder(x, C), C, T)
    x[:, [0, 2, 3, 5]] = 9.0  # columns at the places 1, 3, 4, 6
    assert torch.equal(predictor(encoder(x, C), C, T), found)


def test_the_slow_encoder_follows_by_its_momentum(lab):
    encoder, slow = lab.Encoder(6, 8, 2, 1, True), lab.Encoder(6, 8, 2, 1, True)
    before = [p.detach().clone() for p in slow.parameters()]
    lab.follow(slow, encoder, torch.tensor(1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, slow.parameters(), strict=True))
    lab.follow(slow, encoder, torch.tensor(0.75))
    for a, b, c in zip(before, slow.parameters(), encoder.parameters(), strict=True):
        assert torch.allclose(b, 0.75 * a + 0.25 * c, atol=1e-6)
    lab.follow(slow, encoder, torch.tensor(0.0))
    for b, c in zip(slow.parameters(), encoder.parameters(), strict=True):
        assert torch.equal(b, c)


def test_a_collapsed_encoder_has_loss_zero_and_rank_one(lab):
    encoder, predictor = networks(lab)
    with torch.no_grad():
        for p in [*encoder.parameters(), *predictor.parameters()]:
            p.zero_()
    x = torch.randn(9, 6)
    C, T = lab.beside_token(*lab.draw_masks(9, 6, 2, 1, 3, generator()))
    assert lab.jepa_loss(encoder, encoder, predictor, x, C, T) == 0
    assert lab.effective_rank(encoder(x).flatten(1)) == 1


def test_effective_rank_counts_directions(lab):
    noise = torch.randn(20_000, 12, generator=generator())
    for r in (1, 3, 12):
        turned = noise[:, :r] @ torch.linalg.qr(torch.randn(12, 12, generator=generator(1)))[0][:r]
        assert lab.effective_rank(turned + 5) == pytest.approx(r, rel=0.01)  # the mean is no part
        assert lab.effective_rank(100 * turned) == pytest.approx(lab.effective_rank(turned))
    two = torch.tensor([[3.0, 0], [-3, 0], [0, 1], [0, -1]])  # shares 0.9 and 0.1
    assert lab.effective_rank(two) == pytest.approx(
        math.exp(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    )


# --- a draw --------------------------------------------------------------------------------------


def test_the_shipped_table_has_2310_rows_of_18_columns_and_seven_equal_classes():
    with np.load(Path(labutils.__file__).parent / "assets" / "segment.npz") as file:
        X, y = file["columns"], file["classes"]
        red, green, blue = (X[:, [*file["column_names"]].index(f"raw{c}-mean")]
                            for c in ("red", "green", "blue"))  # fmt: skip
        brightness = X[:, [*file["column_names"]].index("intensity-mean")]
    assert X.shape == (2310, 18)
    assert np.bincount(y).tolist() == [330] * 7
    assert np.allclose((red + green + blue) / 3, brightness, atol=1e-3)


@pytest.mark.parametrize("name", ["segment", "breast cancer"])
def test_no_row_stands_in_a_table_twice(lab, name):
    X, y = lab.table(name)
    assert len(np.unique(X, axis=0)) == len(X) == len(y)
    assert len(X) == {"segment": 2086, "breast cancer": 569}[name]


@pytest.fixture(scope="module")
def world():
    return technique.load("t-jepa", tags=TAGS, given=given()).draw(3, "breast cancer")


def test_a_draw_keeps_its_parts_apart(lab):
    draw_keeps_its_parts_apart(lab)


def draw_keeps_its_parts_apart(lab):
    world = lab.draw(3, "breast cancer")
    n = world.num_known
    validation, test = (range(569)[world.parts[name]] for name in ("validation", "test"))
    assert [*range(n), *validation, *test] == [*range(569)]
    assert n == 284
    rows, C, T = world.batches
    assert rows.shape == (4, 32)
    assert C.shape == (4, 32, 8)
    assert T.shape == (4, 32, 1, 12)
    assert rows.max() < n  # pretraining sees no other rows
    for k, draws in world.known.items():
        assert len(draws) == SETTINGS["label_draws"]
        for kept in draws:
            assert kept.max() < n
            assert np.bincount(world.y[kept]).tolist() == [k, k]
    assert torch.equal(lab.draw(3, "breast cancer").batches[1], C)
    assert not torch.equal(lab.draw(4, "breast cancer").batches[1], C)


def test_columns_are_normal_quantiles_of_the_training_rows_alone(lab):
    columns_are_quantiles_of_training_rows(lab)


def columns_are_quantiles_of_training_rows(lab):
    world = lab.draw(3, "breast cancer")
    n = world.num_known
    ranks = world.x[:n, 2].argsort().argsort()
    inside = (ranks > 5) & (ranks < n - 6)
    expected = torch.special.ndtri((ranks.double()) / (n - 1))[inside]
    assert torch.allclose(world.x[:n, 2].double()[inside], expected, atol=0.1)
    assert world.x.abs().max() <= 3
    X, _ = lab.table("breast cancer")
    changed = X.copy()
    order = torch.randperm(569, generator=streams(3).sampling)
    changed[order[n:]] *= 1000  # other rows do not move those of training
    vars(lab)["table"] = lambda name: (changed, torch.zeros(569, dtype=torch.long))
    vars(lab)["data"] = types.SimpleNamespace(few_labels=lambda y, k, g: torch.arange(k))
    assert torch.equal(lab.draw(3, "breast cancer").x[:n], world.x[:n])


def test_shuffled_columns_keep_their_values_and_lose_their_company(world):
    n = world.num_known
    assert torch.equal(world.shuffled.sort(0).values, world.x[:n].sort(0).values)
    together = np.corrcoef(world.x[:n].T), np.corrcoef(world.shuffled.T)
    off = ~np.eye(30, dtype=bool)
    assert np.abs(together[0][off]).mean() > 0.3
    assert np.abs(together[1][off]).mean() < 0.08


# --- arms ----------------------------------------------------------------------------------------


def handed(lab, arm, world):
    """What `pretrain` hands to `labutils.training.train`, with the weights at the start."""
    seen = {}

    def train(net, step_loss, num_steps, optimizer, learning_rate, **options):
        state = {name: value.clone() for name, value in net.state_dict().items()}
        seen.update(options, net=net, step_loss=step_loss, num_steps=num_steps, start=state)
        seen.update(optimizer=optimizer, rates=[learning_rate(k) for k in range(num_steps + 1)])
        return training.History(torch.zeros(num_steps))

    vars(lab)["train"] = train
    seen["found"] = lab.pretrain(arm, world, 0.01, [0, 4])
    return seen


def test_all_arms_have_the_same_start_rows_masks_steps_and_optimiser(lab, world):
    arms_are_treated_alike(lab, world)


def arms_are_treated_alike(lab, world):
    seen = {arm: handed(lab, arm, world) for arm in lab.ENCODERS}
    first = seen["T-JEPA"]
    for arm, one in seen.items():
        for name, value in first["start"].items():
            if value.shape == one["start"][name].shape and not name.endswith(".p"):
                assert torch.equal(one["start"][name], value), (arm, name)
        assert one["num_steps"] == 4
        for mine, drawn in zip(one["inputs"], world.batches, strict=False):
            assert mine is drawn
        assert one["inputs"][3].tolist() == pytest.approx(
            [0.98, 0.98 + 0.02 / 3, 0.98 + 0.04 / 3, 1]
        )
        assert one["rates"] == pytest.approx(first["rates"])
        assert one["rates"][0] == pytest.approx(0.01)
        assert type(one["optimizer"]) is torch.optim.Adam
        assert len([p for g in one["optimizer"].param_groups for p in g["params"]]) == len(
            [*one["net"].parameters()]
        )


PLACES = {"no token": (0, 0)}  # token; by how much places are shifted


@pytest.mark.parametrize("arm", ["T-JEPA", "no token", "values", "shuffled"])
def test_the_loss_of_a_step_is_that_of_its_arm(lab, world, arm):
    loss_of_a_step_is_that_of_its_arm(lab, world, arm)


def loss_of_a_step_is_that_of_its_arm(lab, world, arm):
    seen = handed(lab, arm, world)
    encoder, predictor = seen["net"]
    rows, C, T = (part[2] for part in world.batches)
    x = (world.shuffled if arm == "shuffled" else world.x)[rows]
    token, shift = PLACES.get(arm, (1, 1))
    assert len(encoder.r) == token
    assert encoder.p.shape[0] == 30 + token
    c, t = C + shift, T + shift
    if shift:
        c = torch.cat([torch.zeros(len(c), 1, dtype=torch.long), c], 1)
    with torch.no_grad():
        said = predictor(encoder(x, c), c, t)
        wanted = torch.stack([row[places[0]] for row, places in zip(encoder(x), t, strict=True)])[
            :, None
        ]
        if arm == "values":
            wanted = torch.stack([row[places[0]] for row, places in zip(x, T, strict=True)])
            wanted = wanted[:, None, :, None]
    assert said.shape == wanted.shape
    found = seen["step_loss"](rows, C, T, torch.tensor(0.0))  # slow = encoder
    assert found.item() == pytest.approx((said - wanted).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("arm", ["T-JEPA", "no token", "values"])
def test_a_step_never_waits_for_the_host(lab, world, arm):
    seen = handed(lab, arm, world)

    def step():
        seen["optimizer"].zero_grad()
        seen["step_loss"](*(part[0] for part in seen["inputs"])).backward()
        seen["optimizer"].step()

    no_wait.check(step)


def test_features_are_the_slow_encoders_output_token_included(lab, world):
    features_are_the_slow_encoders(lab, world)


def features_are_the_slow_encoders(lab, world):
    slow, follow = [], lab.follow

    def watch(old, new, momentum):
        slow.append(old)
        follow(old, new, momentum)

    vars(lab)["follow"] = watch
    found = lab.pretrain("T-JEPA", world, 0.01, [0])
    assert [*found] == [0, 4]
    assert found[4].shape == (569, 31 * 8)
    with torch.no_grad():
        expected = slow[-1](world.x).flatten(1)
    assert torch.allclose(found[4], expected, atol=1e-5)
    assert not torch.allclose(found[0], found[4], atol=1e-4)


def test_the_untrained_encoder_is_t_jepa_before_its_first_step(lab, world):
    untrained_is_step_zero(lab, world)


def untrained_is_step_zero(lab, world):
    untrained = lab.features("untrained", world, 0.0, [0])
    begun = lab.features("T-JEPA", world, 0.01, [0])
    assert torch.equal(untrained[4], begun[0])


def test_raw_columns_are_the_columns_and_pca_is_that_of_the_training_rows(lab, world):
    assert torch.equal(lab.features("raw columns", world, 0.0, [])[4], world.x)
    found = lab.features("PCA", world, 0.0, [])[4]
    assert found.shape == (569, 10)
    x = world.x.double()
    _, vectors = np.linalg.eigh(np.cov(x[: world.num_known].T))
    top = (x - x[: world.num_known].mean(0)).numpy() @ vectors[:, ::-1][:, :10]
    for one, other in zip(found.T, top.T, strict=True):
        assert abs(np.corrcoef(one, other)[0, 1]) == pytest.approx(1, abs=1e-3)


# --- scores --------------------------------------------------------------------------------------


def test_a_score_is_the_mean_over_label_draws_and_numbers_of_labels():
    several = technique.load("t-jepa", tags=TAGS, given=given(label_draws=3))
    score_is_the_mean(several)


def score_is_the_mean(lab):
    world = lab.draw(1, "breast cancer")
    settings = {"raw columns": [(0.0, 1e-4, 30.0)]}
    for split in ("validation", "test"):
        asked, right = world.parts[split], {}
        for k, strength in zip((2, 5), (1e-4, 30.0), strict=True):
            found = []
            for rows in world.known[k]:
                z = world.x[rows].double()
                mean, std = z.mean(0), z.std(0, correction=0).clamp(min=1e-12)
                model = LogisticRegression(C=strength, max_iter=1000)
                model.fit((z - mean) / std, world.y[rows])
                scaled = (world.x[asked].double() - mean) / std
                found.append(100 * model.score(scaled, world.y[asked]))
            right[k] = np.mean(found)
        ((key, result),) = lab.score(1, "breast cancer", settings, split).items()
        assert key == ("raw columns", 0.0, 1e-4, 30.0)
        if split == "validation":
            assert result == pytest.approx(np.mean([*right.values()]), abs=0.4)
        else:
            assert result[2] == pytest.approx(right[2], abs=0.4)
            assert result[5] == pytest.approx(right[5], abs=0.4)
            assert result["rank"] == [pytest.approx(lab.effective_rank(world.x[asked]), rel=1e-3)]


def test_trees_have_their_depth_and_number(lab, world):
    known, asked = world.known[5][0], world.parts["test"]
    found = lab.classify("trees", (1, 30), world.x, world.y, known, asked)
    labels = world.y[asked].numpy()
    assert 100 * max(labels.mean(), 1 - labels.mean()) < found <= 100
    made, trees = [], lab.GradientBoostingClassifier

    def watch(**options):
        made.append(trees(**options))
        return made[-1]

    vars(lab)["GradientBoostingClassifier"] = watch
    lab.classify("trees", (2, 3), world.x, world.y, known, asked)
    assert (made[0].max_depth, made[0].n_estimators) == (2, 3)
    assert made[0].n_features_in_ == 30


# --- tuning --------------------------------------------------------------------------------------

WIDE = {"rates": [3e-4, 1e-3, 3e-3], "strengths": [0.01, 0.1, 1.0], "trees": [(1, 3), (3, 3)]}
BEST = {
    "T-JEPA": (3e-3, 0.1, 1.0), "values": (3e-4, 1.0, 0.01), "raw columns": (0.0, 0.01, 0.1),
    "untrained": (0.0, 1.0, 1.0), "trees": (0.0, (3, 3), (1, 3)),
}  # fmt: skip


@pytest.fixture
def wide():
    return technique.load("t-jepa", tags=TAGS, given=given(**WIDE))


def watch_scores(lab):
    """`score` becomes best at BEST on validation rows, and elsewhere on test rows."""
    calls = []

    def score(seed, place, settings, split):
        calls.append((seed, settings, split))
        sign = 1 if split == "validation" else -1
        return {
            (arm, *s): 50 + sign * sum(a == b for a, b in zip(s, BEST.get(arm, s), strict=True))
            for arm, tried in settings.items()
            for s in tried
        }

    vars(lab)["score"] = score
    return calls


def test_settings_are_the_best_on_validation_rows_of_the_extra_draws(wide):
    settings_are_the_best_on_validation_rows(wide)


def settings_are_the_best_on_validation_rows(wide):
    calls = watch_scores(wide)
    chosen = wide.choose({"here": "breast cancer"})["here"]
    assert {arm: chosen[arm] for arm in BEST} == {arm: [best] for arm, best in BEST.items()}
    assert chosen["no token"] == chosen["shuffled"] == chosen["T-JEPA"]
    assert {split for _, _, split in calls} == {"validation"}
    assert {seed for seed, _, _ in calls} == set(SETTINGS["tuning_seeds"])


def test_every_trained_arm_tries_as_many_rates_and_every_probe_as_many_penalties(wide):
    every_arm_tries_as_much(wide)


def every_arm_tries_as_much(wide):
    watch_scores(wide)
    assert wide.GRIDS["values"] == wide.GRIDS["T-JEPA"]
    for arm in ("T-JEPA", "values"):
        assert {setting[0] for setting in wide.GRIDS[arm]} == set(WIDE["rates"])
    for arm in set(wide.GRIDS) - {"trees"}:
        for place in (1, 2):
            assert {setting[place] for setting in wide.GRIDS[arm]} == set(WIDE["strengths"]), arm
    assert set(wide.GRIDS) == set(wide.ENCODERS) - {"no token", "shuffled"} | {
        "raw columns", "PCA", "untrained", "trees"
    }  # fmt: skip
    assert {setting[0] for setting in wide.GRIDS["untrained"]} == {0.0}
    assert len(wide.GRIDS["trees"]) == 4


def test_validation_never_looks_at_test_rows(lab):
    validation_never_looks_at_test_rows(lab)


def validation_never_looks_at_test_rows(lab):
    settings = {"raw columns": [(0.0, 0.1, 0.1)], "T-JEPA": [(1e-3, 0.1, 0.1)]}

    def seen():
        world = lab.draw(0, "breast cancer")
        pretrained = lab.features("T-JEPA", world, 0.1, [])[4][: world.parts["test"].start]
        return lab.score(0, "breast cancer", settings, "validation"), pretrained

    found, pretrained = seen()
    draw = lab.draw

    def blind(seed, name):
        world = draw(seed, name)
        test = world.parts["test"]
        world.x[test], world.y[test] = 7.0, 1 - world.y[test]
        return world

    vars(lab)["draw"] = blind
    again, blindly = seen()
    assert again == found
    assert torch.equal(blindly, pretrained)


@pytest.mark.parametrize("profile", ["smoke", "small"])
def test_extra_draws_are_no_draws_of_the_results_and_the_looks_are_whole(profile):
    settings = technique.settings("t-jepa", profile)
    assert min(settings["tuning_seeds"]) >= 1000 > settings["num_seeds"]
    assert settings["looks"][0] == 0
    assert settings["looks"][-1] == settings["num_steps"]


# --- claims --------------------------------------------------------------------------------------


def test_claims_are_those_that_were_fixed(lab):
    more, like = "greater", "equivalent"
    assert [(name, *row) for name, _, *row in lab.CLAIMS] == [
        ("tjepa-beats-raw-few", "T-JEPA", "raw columns", "few", "paper", True, more, 0),
        ("random-encoder-beats-raw", "untrained", "raw columns", "few", "ours", True, more, 0),
        ("tjepa-beats-random-encoder", "T-JEPA", "untrained", "few", "ours", False, more, 0),
        ("tjepa-is-like-random-encoder", "T-JEPA", "untrained", "few", "ours", True, like, 1),
        ("shuffled-columns-do", "shuffled", "T-JEPA", "few", "ours", True, like, 1),
        ("latent-beats-values", "T-JEPA", "values", "few", "ours", False, more, 0),
        ("token-prevents-collapse", "T-JEPA", "no token", "rank", "paper", True, more, 1),
        ("token-helps-accuracy", "T-JEPA", "no token", "few", "paper", False, more, 0),
        ("tjepa-matches-trees-few", "T-JEPA", "trees", "few", "paper", False, more, -2),
    ]
