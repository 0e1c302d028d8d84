"""Plausible mistakes in the cells of the lab on SSLD, each of which a test must catch."""

import functools
import sys
import types
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_ssld as losses
import test_ssld_experiment as experiment

TECHNIQUE = {
    "half Jeffreys in the place of true JS, as in the official code": (
        "return 0.5 * to_m.sum(1).mean()",
        "return half_jeffreys(log_p, z)",
        losses.test_jensen_shannon_equals_scipy_squared,
    ),
    "no half in true JS": (
        "return 0.5 * to_m.sum(1).mean()",
        "return to_m.sum(1).mean()",
        losses.test_jensen_shannon_of_answers_without_overlap_is_log_2,
    ),
    "a mixture that sums to two": (
        "torch.logaddexp(log_p, log_q) - math.log(2)",
        "torch.logaddexp(log_p, log_q)",
        losses.test_jensen_shannon_equals_scipy_squared,
    ),
    "a geometric mixture": (
        "torch.logaddexp(log_p, log_q) - math.log(2)",
        "(log_p + log_q) / 2",
        losses.test_jensen_shannon_is_a_difference_of_entropies,
    ),
    "one half of true JS only": (
        "log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)",
        "2 * log_p.exp() * (log_p - log_m)",
        losses.test_the_two_divergences_are_symmetric,
    ),
    "logarithm of a softmax": (
        "return -(log_p.exp() * z.log_softmax(1)).sum(1).mean()",
        "return -(log_p.exp() * z.softmax(1).log()).sum(1).mean()",
        losses.test_far_logits_have_finite_losses_and_gradients,
    ),
    "mean over classes, too": (
        "return -(log_p.exp() * z.log_softmax(1)).sum(1).mean()",
        "return -(log_p.exp() * z.log_softmax(1)).mean()",
        losses.test_cross_entropy_equals_torch_with_soft_targets,
    ),
    "teacher and student exchanged": (
        "return -(log_p.exp() * z.log_softmax(1)).sum(1).mean()",
        "return -(z.softmax(1) * log_p).sum(1).mean()",
        losses.test_gradients_are_those_of_the_page,
    ),
    "a divergence in one direction": (
        "(log_p.exp() - log_q.exp()) * (log_p - log_q)",
        "2 * log_p.exp() * (log_p - log_q)",
        losses.test_half_jeffreys_equals_two_divergences,
    ),
    "Jeffreys without its half": (
        "return 0.5 * ((log_p.exp()",
        "return ((log_p.exp()",
        losses.test_half_jeffreys_equals_two_divergences,
    ),
    "a teacher in training mode": (
        "    teacher.eval()\n",
        "",
        losses.test_the_teacher_is_the_same_afterwards_bit_for_bit,
    ),
    "a teacher that learns": (
        "@torch.no_grad()\n",
        "",
        losses.test_the_teacher_is_the_same_afterwards_bit_for_bit,
    ),
    "gradients that add up": (
        "        optimizer.zero_grad()\n",
        "",
        losses.test_every_loss_brings_the_student_to_the_teacher,
    ),
    "the official loss whatever is asked for": (
        "loss(ask(teacher, x), student(x)).backward()",
        "half_jeffreys(ask(teacher, x), student(x)).backward()",
        losses.test_one_step_is_sgd_on_the_loss_of_that_batch,
    ),
    "the surest images instead of those of each class": (
        "log_p.topk(number // log_p.shape[1], dim=0).indices.unique()",
        "log_p.amax(1).topk(number).indices.sort().values",
        losses.test_the_likeliest_images_of_every_class_are_taken,
    ),
    "an image once for each of its classes": (
        "dim=0).indices.unique()",
        "dim=0).indices.flatten().sort().values",
        losses.test_the_likeliest_images_of_every_class_are_taken,
    ),
}


@functools.cache
def on_a_draw(test):
    return lambda module: test(experiment.watched_draw(module))


@functools.cache
def on_arms(*arms):
    def test(module):
        for arm in arms:
            experiment.step_is_the_loss(module, arm)

    return test


@functools.cache
def tuned_test(test):
    def with_three_rates(module):
        module.S.rates = experiment.RATES
        test(module)

    return with_three_rates


EXPERIMENT = {
    "rates chosen on test images": (
        'jobs = [(arm, rate, seed, world, "validation")',
        'jobs = [(arm, rate, seed, world, "test")',
        tuned_test(experiment.test_rates_are_the_best_on_validation_images),
    ),
    "the worst rate": (
        "max(pairs)[1] for",
        "min(pairs)[1] for",
        tuned_test(experiment.test_rates_are_the_best_on_validation_images),
    ),
    "one rate for all arms": (
        "max(pairs)[1] for",
        "max(max(scores.values()))[1] for",
        tuned_test(experiment.test_rates_are_the_best_on_validation_images),
    ),
    "true JS at the rates of the others": (
        "[4 * rate for rate in S.rates]",
        "[rate for rate in S.rates]",
        tuned_test(
            experiment.test_every_arm_tries_three_rates_and_true_js_four_times_as_large_ones
        ),
    ),
    "rates chosen on a draw of the results": (
        "    world = draw(seed)",
        "    world = draw(lab.seeds[0])",
        tuned_test(
            experiment.test_every_arm_tries_three_rates_and_true_js_four_times_as_large_ones
        ),
    ),
    "the baseline takes the rate of the method": (
        'RATE_OF = dict.fromkeys(SAME, "soft, all")',
        'RATE_OF = dict.fromkeys([*SAME, "hard labels"], "soft, all")',
        experiment.test_rates_are_shared_by_arms_that_differ_in_one_thing,
    ),
    "all draws start alike": (
        "    streams = lab.streams(seed)\n",
        "    streams = lab.streams(0)\n",
        experiment.test_all_arms_of_a_draw_start_alike_and_those_of_another_do_not,
    ),
    "validation images scored as test images": (
        "    scored = getattr(world, part)",
        "    scored = world.validation",
        experiment.test_a_run_scores_the_part_that_was_asked_for,
    ),
    "longer only for the method": (
        '"hard labels, longer": ("labelled", "labels", cross_entropy, S.patience)',
        '"hard labels, longer": ("labelled", "labels", cross_entropy, 1)',
        experiment.test_equal_steps_but_for_the_longer_arms,
    ),
    "fine-tuning at the full rate": (
        "rate / 100, S.fine_steps",
        "rate, S.fine_steps",
        experiment.test_fine_tuning_follows_stage_one_with_labels_at_a_hundredth_of_the_rate,
    ),
    "fine-tuning in the place of stage 1": (
        "    fit(student, world, arm, rate, ",
        '    arm == "fine-tuned" or fit(student, world, arm, rate, ',
        experiment.test_fine_tuning_follows_stage_one_with_labels_at_a_hundredth_of_the_rate,
    ),
    "the teacher knows the student's labels, too": (
        "last_layer(seen[n:most], labels[n:])",
        "last_layer(seen[:most], labels)",
        on_a_draw(experiment.test_the_teacher_learns_from_labels_that_no_student_has),
    ),
    "the pool holds labelled images": (
        "pool = others[~torch.isin(others, named)][: S.pool]",
        "pool = others[: S.pool]",
        on_a_draw(experiment.test_no_image_is_in_two_parts),
    ),
    "test images in the pool": (
        "train.images[pool], strangers])",
        "test.images[: S.pool], strangers])",
        on_a_draw(experiment.test_no_image_is_in_two_parts),
    ),
    "classes one after the other": (
        "split).view(10, -1).T.flatten()",
        "split)",
        on_a_draw(
            experiment.test_the_first_images_are_equally_many_of_each_class_with_their_labels
        ),
    ),
    "a second pool without strangers": (
        "mixed = rows[most + S.strangers :]",
        "mixed = rows[most : most + S.pool]",
        on_a_draw(experiment.test_arms_see_what_their_names_say),
    ),
    "places in the pool taken for images": (
        "torch.cat([rows[:n], mixed[picks[way]]])",
        "torch.cat([rows[:n], picks[way]])",
        on_a_draw(experiment.test_arms_see_what_their_names_say),
    ),
    "the least certain images": (
        "argsort(descending=True)",
        "argsort()",
        on_a_draw(experiment.test_arms_see_what_their_names_say),
    ),
    "all images without the labelled ones": (
        'subsets["all"] = torch.cat([rows[:n], rows[most : most + S.pool]])',
        'subsets["all"] = rows[most : most + S.pool]',
        on_a_draw(experiment.test_arms_see_what_their_names_say),
    ),
    "the off-the-shelf teacher in the place of a poor one": (
        'soft = world.says.get(target, world.says["teacher"])',
        'soft = world.says["teacher"]',
        experiment.test_targets_are_what_the_arms_say,
    ),
    "hard and soft exchanged": (
        '0.9 if target == "mixed"',
        '0.1 if target == "mixed"',
        experiment.test_targets_are_what_the_arms_say,
    ),
    "soft pseudo-labels": (
        "return F.one_hot(soft.argmax(1), 10).float().log()",
        "return soft",
        experiment.test_targets_are_what_the_arms_say,
    ),
    "labels looked at in every arm": (
        '    if target not in ("labels", "mixed"):\n',
        '    F.one_hot(world.labels, 10)\n    if target not in ("labels", "mixed"):\n',
        experiment.test_without_labels_means_that_there_are_none,
    ),
    "the same view in name only": (
        'ask(teacher, views / 255) if arm == "same view" else log_p[indices]',
        "log_p[indices]",
        on_arms("same view"),
    ),
    "the teacher asked about normalised pixels": (
        "ask(teacher, views / 255)",
        "ask(teacher, augment.normalise(views, *world.moments))",
        on_arms("same view"),
    ),
    "every loss is cross-entropy": (
        "return loss(said, student(",
        "return cross_entropy(said, student(",
        on_arms("true JS"),
    ),
    "no augmentation": (
        "views = augment.pad_crop_flip(images[indices], 2, streams.augmentation)",
        "views = images[indices]",
        on_arms("soft, all"),
    ),
    "batches of the whole table": (
        "inputs=[members[picks].to(lab.device)]",
        "inputs=[picks.to(lab.device)]",
        on_arms("random"),
    ),
    "one batch for ever": (
        "inputs=[members[picks].to(lab.device)]",
        "inputs=[members[picks[:1]].expand(num_steps, -1).to(lab.device)]",
        on_arms("soft, all"),
    ),
    "no weight decay": (
        "weight_decay=5e-4",
        "weight_decay=0.0",
        experiment.test_optimiser_and_schedule_are_those_of_the_page,
    ),
    "a cosine that does not end": (
        "cosine_schedule(rate, num_steps)",
        "cosine_schedule(rate, 2 * num_steps)",
        experiment.test_optimiser_and_schedule_are_those_of_the_page,
    ),
}

IMPORTS = "import torch\n"
CAUGHT = (AssertionError, AttributeError, TypeError, ValueError)  # what cannot run is caught, too


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("ssld", experiment.TAGS, IMPORTS)


def module_with(source, right, wrong, mistake):
    settings = types.SimpleNamespace(**experiment.SETTINGS)
    given = {"lab": experiment.LAB, "S": settings}
    return mutants.module_with(source, right, wrong, mistake, given)


@pytest.mark.parametrize("mistake", [*TECHNIQUE, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (TECHNIQUE | EXPERIMENT)[mistake]
    module = module_with(source, right, wrong, mistake)
    with pytest.raises(CAUGHT):
        test(module)


@pytest.mark.parametrize(
    "test", dict.fromkeys(test for _, _, test in (TECHNIQUE | EXPERIMENT).values())
)
def test_without_a_mistake_nothing_is_caught(source, test):
    test(module_with(source, "def ask(", "def ask(", "no mistake"))
