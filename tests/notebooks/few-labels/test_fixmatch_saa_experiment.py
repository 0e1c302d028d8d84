"""The experiment of the chapter on FixMatch and SAA: what its arms share, and where they part."""

import copy

import pytest
import torch
from torch.nn import functional as F

from labutils import augment
from labutils.augment import strong
from press import technique
from studies import fixmatch_longer

CHOICE = (0.1, 5e-4, 0.5)  # learning rate, weight decay, threshold


@pytest.fixture
def experiment(monkeypatch):
    """Technique cells plus the experiment's functions and constants at the smoke settings."""
    monkeypatch.setenv("LABUTILS_HEADLESS", "1")
    monkeypatch.setenv("LABUTILS_PROFILE", "smoke")
    monkeypatch.delenv("LABUTILS_CHECKPOINTS", raising=False)
    return fixmatch_longer.experiment("smoke")


@pytest.fixture
def task(experiment):
    return experiment.load_task(3, experiment.S.labels_per_class)


def trained(experiment, task, arm, steps=None, **options):
    s = experiment.S
    learner = experiment.Learner(task, 3, CHOICE, s.num_steps, arm, **options)
    experiment.run_steps(learner, arm, 0, steps or s.num_steps)
    return learner


def assert_same(first, second):
    for a, b in zip(
        first.network.state_dict().values(), second.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    averages = (x.average.module.state_dict().values() for x in (first, second))
    for a, b in zip(*averages, strict=True):
        assert torch.equal(a, b)
    for name in ("naive", "harder", "pseudo_labels"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    for alpha, history in first.histories.items():
        assert torch.equal(history.values, second.histories[alpha].values)
    assert first.trace == second.trace


def different(first, second):
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    return any(not torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("profile", ["smoke", "small", "full"])
def test_selections_fall_where_saa_starts(profile):
    s = technique.settings("fixmatch-saa", profile)
    assert s["saa_start"] % s["saa_interval"] == 0
    assert s["saa_interval"] <= s["saa_start"] < s["num_steps"]
    assert s["saa_interval"] % s["block"] == 0  # no view is drawn before its selection
    assert s["alphas"][0] == 0.001  # the official code's


@pytest.mark.parametrize("base", ["FixMatch", "FlexMatch", "aligned FixMatch"])
def test_saa_that_selects_nobody_is_the_method_bit_for_bit(experiment, task, monkeypatch, base):
    monkeypatch.setattr(
        experiment, "select_naive_samples", lambda h, seen: (torch.zeros_like(seen), 0.5)
    )
    assert_same(trained(experiment, task, base), trained(experiment, task, f"{base} + SAA"))


def test_saa_that_selects_somebody_is_not(experiment, task):
    plain, adaptive = (trained(experiment, task, a) for a in ("FixMatch", "FixMatch + SAA"))
    assert adaptive.harder.any()
    assert not plain.harder.any()
    assert different(plain, adaptive)


@pytest.mark.parametrize(
    "arm",
    ["FixMatch", "FixMatch + SAA", "FixMatch + random", "FlexMatch", "aligned FixMatch + SAA"],
)
def test_a_branch_is_the_run_without_branching(experiment, task, arm):
    base, s = arm.split(" + ")[0], experiment.S
    trunk = experiment.Learner(task, 3, CHOICE, s.num_steps, base)
    experiment.run_steps(trunk, base, 0, s.saa_start)
    disturbing, learner = trunk.branch(), trunk.branch()
    experiment.run_steps(disturbing, f"{base} + all", s.saa_start, s.num_steps)
    learner.harder = experiment.harder_images(arm, learner.naive, learner.second_views)
    experiment.run_steps(learner, arm, s.saa_start, s.num_steps)
    assert_same(learner, trained(experiment, task, arm))


def test_branches_return_whole_curves_of_every_arm_and_alpha(experiment, task):
    s = experiment.S
    branches = [("FixMatch", s.alphas[0])] + [("FixMatch + SAA", alpha) for alpha in s.alphas]
    rows = experiment.with_branches(task, 3, "FixMatch", branches, CHOICE, "test")
    assert [(r["arm"], r["alpha"]) for r in rows] == branches
    for row in rows:
        steps, seconds, accuracies = zip(*row["curve"], strict=True)
        points = {s.num_steps * (i + 1) // s.num_points for i in range(s.num_points)}
        assert list(steps) == sorted(points | {s.saa_start})
        assert list(seconds) == sorted(seconds)
        assert row["accuracy"] == accuracies[-1]
        steps = list(range(s.saa_interval, s.num_steps + 1, s.saa_interval))
        assert [t["step"] for t in row["trace"]] == steps
    learner = trained(experiment, task, "FixMatch + SAA", alphas=[s.alphas[1]])
    assert torch.equal(rows[2]["history"], learner.histories[s.alphas[1]].values)
    assert torch.equal(rows[2]["naive"], learner.naive)


@pytest.mark.parametrize(
    "arm", ["FixMatch + SAA", "FlexMatch + SAA", "aligned FixMatch", "supervised strong"]
)
def test_an_interrupted_run_ends_like_a_whole_one(experiment, task, monkeypatch, tmp_path, arm):
    whole = trained(experiment, task, arm)
    s, real = experiment.S, experiment.train

    class Killed(Exception):
        pass

    def killed_in_step_47(network, step_loss, *arguments, **options):
        def loss(k):
            if k == 47:
                raise Killed
            return step_loss(k)

        return real(network, loss, *arguments, checkpoint_seconds=0.0, **options)

    monkeypatch.setenv("LABUTILS_CHECKPOINTS", str(tmp_path))
    learner = experiment.Learner(task, 3, CHOICE, s.num_steps, arm)
    monkeypatch.setattr(experiment, "train", killed_in_step_47)
    with pytest.raises(Killed):
        experiment.run_steps(learner, arm, 0, s.num_steps, run="killed")
    monkeypatch.setattr(experiment, "train", real)
    learner = experiment.Learner(task, 3, CHOICE, s.num_steps, arm)
    experiment.run_steps(learner, arm, 0, s.num_steps, run="killed")
    assert_same(learner, whole)


def test_all_arms_of_a_seed_share_weights_labels_and_order(experiment, task):
    first, second = (
        experiment.Learner(experiment.load_task(3, 4), 3, choice, 60, arm)
        for choice, arm in ((CHOICE, "aligned FixMatch"), ((0.3, 1e-3, 0.9), "FlexMatch"))
    )
    assert not different(first, second)
    assert torch.equal(first.task.labelled, second.task.labelled)
    for a, b in zip(first.batches, second.batches, strict=True):
        assert torch.equal(a, b)
    other = experiment.Learner(experiment.load_task(4, 4), 4, CHOICE, 60)
    assert different(first, other)


def test_labels_are_balanced_and_belong_to_the_pool(experiment, task):
    labels = task.dataset.train.labels
    assert torch.bincount(labels[task.labelled]).tolist() == [4] * 10
    _, unlabelled = experiment.index_batches(task, 1000, torch.Generator().manual_seed(0))
    assert torch.isin(task.labelled, unlabelled).all()  # without their labels, they come too


def test_no_image_comes_twice_before_all_came_once(experiment):
    batches = experiment.endless(100, 7, 60, torch.Generator().manual_seed(0))
    assert batches.shape == (60, 7)
    for k in range(0, 400, 100):
        assert sorted(batches.flatten()[k : k + 100].tolist()) == list(range(100))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_random_control_is_of_exactly_the_same_size(experiment, share):
    draw = torch.Generator().manual_seed(0)
    naive = torch.rand(1000, generator=draw) < share
    drawn = [experiment.harder_images("FixMatch + random", naive, draw) for _ in range(2)]
    assert [d.sum() for d in drawn] == [naive.sum()] * 2
    if share == 0.3:
        assert not torch.equal(*drawn)
        assert not torch.equal(drawn[0], naive)
    assert torch.equal(experiment.harder_images("FixMatch + SAA", naive, draw), naive)
    assert experiment.harder_images("FixMatch + all", naive, draw).all()
    assert not experiment.harder_images("FixMatch", naive, draw).any()


def test_only_marked_images_get_another_view(experiment, task):
    learners = [experiment.Learner(task, 3, CHOICE, 60) for _ in range(2)]
    images = task.dataset.train.images[:200]
    harder = torch.arange(200) % 3 == 0
    plain = experiment.strong_views(learners[0], images, torch.zeros_like(harder))
    mixed = experiment.strong_views(learners[1], images, harder)
    assert torch.equal(plain[~harder], mixed[~harder])
    changed = (plain != mixed).flatten(1).any(1)
    assert changed[harder].float().mean() > 0.8  # a few draws leave the pasted half as it was
    half = plain.shape[-1] // 2
    assert torch.equal(plain[:, :, half:, half:], mixed[:, :, half:, half:])


@pytest.mark.parametrize("arm", ["FixMatch", "aligned FixMatch"])
def test_a_step_is_one_forward_pass_with_the_student_s_pseudo_labels(experiment, task, arm):
    """Against the loss written out; the moving average predicts something else."""
    # some of an untrained network's guesses pass this threshold, some do not
    learner = experiment.Learner(task, 3, (0.1, 5e-4, 0.17), 60, arm)
    if learner.alignment:  # as if shirts had been all that the network saw lately
        learner.alignment.recent = torch.full((128, 10), 0.05).index_fill_(1, torch.tensor(6), 0.55)
    with torch.no_grad():
        for p in learner.average.module.parameters():
            p.normal_()
    learner.network.train()
    shadow, network = learner.branch(), copy.deepcopy(learner.network)
    loss = experiment.step_loss(learner, arm, 0)
    assert learner.network.bn.num_batches_tracked == 1

    data, chosen = task.dataset, task.labelled[learner.batches[0][0]]
    views = experiment.views_of(shadow, arm, 0)
    logits = network(augment.normalise(views, data.mean, data.std))
    n = len(chosen)
    z, z_weak, z_strong = logits[:n], *logits[n:].chunk(2)
    total, count = 0.0, 0
    q = z_weak.detach().softmax(1)
    if learner.alignment:
        assert torch.equal(learner.alignment.class_shares, torch.full((10,), 0.1))
        q = q * torch.tensor([2.0] * 6 + [0.1 / 0.55] + [2.0] * 3)
        q = q / q.sum(1, keepdim=True)
        torch.testing.assert_close(
            learner.alignment.recent[-1], z_weak.detach().softmax(1).mean(0)
        )  # fmt: skip
    for w, s in zip(q, z_strong, strict=True):
        if w.max() >= 0.17:
            total, count = total - s.log_softmax(0)[w.argmax()], count + 1
    assert 0 < count < len(z_weak)
    expected = F.cross_entropy(z, data.train.labels[chosen]) + total / len(z_weak)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    for a, b in zip(learner.network.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_views_come_in_the_order_of_the_loss(experiment, task, monkeypatch):
    """Labelled images and the first views are moved only; the last ones are strong views."""
    monkeypatch.setattr(experiment.augment, "pad_crop_flip", lambda images, *_: images)
    images, s = task.dataset.train.images, experiment.S
    learner, same = (experiment.Learner(task, 3, CHOICE, 60) for _ in range(2))
    learner.harder = torch.arange(len(images)) % 2 == 0
    first = same.batches[1][: s.block].flatten()
    hard = strong.strong_augment(images[first], same.augmentation, s.num_operations)
    hard = hard.view(s.block, -1, *images.shape[1:])
    n = s.batch_size
    for k in range(s.block):
        views = experiment.views_of(learner, "FixMatch + SAA", k)
        indices = learner.batches[1][k]
        assert torch.equal(views[:n], images[task.labelled[learner.batches[0][k]]])
        assert torch.equal(views[n : n + len(indices)], images[indices])
        plain = ~learner.harder[indices]
        assert torch.equal(views[n + len(indices) :][plain], hard[k][plain])
        assert not torch.equal(views[n + len(indices) :][~plain], hard[k][~plain])
    both = experiment.views_of(learner, "pseudo-label", 0)
    assert torch.equal(both[n:].chunk(2)[0], both[n:].chunk(2)[1])
    assert len(experiment.views_of(learner, "supervised strong", 0)) == n


def test_the_recorded_loss_is_not_masked(experiment, task):
    learner = experiment.Learner(task, 3, CHOICE, 60)
    experiment.step_loss(learner, "FixMatch", 0)
    visited = learner.histories[0.001].seen
    assert visited.sum() == learner.batches[1].shape[1]
    assert (learner.histories[0.001].values[visited] > 0).all()


def test_the_rate_follows_the_papers_cosine(experiment):
    rate = experiment.rate_schedule(0.03, 1000)
    assert rate(0) == 0.03
    assert rate(1000) == pytest.approx(0.03 * 0.19509, rel=1e-4)
    assert rate(500) == pytest.approx(0.03 * 0.77301, rel=1e-4)


def test_accuracy_in_equal_seconds(experiment):
    curve = [(10, 1.0, 50.0), (20, 3.0, 60.0)]
    assert experiment.after_seconds(curve, 2.0) == pytest.approx(55)
    assert experiment.after_seconds(curve, 9.0) == 60  # it had ended before
