"""Plausible mistakes in the SimCLRv2 chapter's cells, each of which a test must catch.

Those of the experiment that survive, and why nothing catches them, stand after the second list.
"""

import inspect
import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_simclrv2_experiment as experiment
import test_simclrv2_technique as technique

MUTATIONS = {
    "the temperature squared in the loss": (
        "z @ z.T / temperature\n",
        "z @ z.T / temperature**2\n",
        technique.test_nt_xent_equals_the_double_loop,
    ),
    "a view is its own rival": (
        "torch.eye(len(z), dtype=torch.bool, device=z.device), -torch.inf",
        "torch.eye(len(z), dtype=torch.bool, device=z.device), 0.0",
        technique.test_nt_xent_equals_the_double_loop,
    ),
    "both views are the first": (
        "pair = torch.cat(views.two_views(images, recipe, generator))\n    z0",
        "pair = torch.cat([views.two_views(images, recipe, generator)[0]] * 2)\n    z0",
        technique.test_step_puts_both_views_into_one_batch,
    ),
    "a ReLU after the last layer of the head": (
        "if k < num_layers - 1:\n                parts.append(nn.ReLU())",
        "if k < num_layers:\n                parts.append(nn.ReLU())",
        technique.test_head_equals_lightlys_with_the_same_weights,
    ),
    "fine-tuning changes the pretrained encoder": (
        "self.encoder = copy.deepcopy(encoder)",
        "self.encoder = copy.copy(encoder)",
        technique.test_fine_tuning_from_layer_1_leaves_the_pretrained_network_alone,
    ),
    "a frozen encoder": (
        "h = self.encoder.features(x)\n        for",
        "h = self.encoder.features(x).detach()\n        for",
        technique.test_fine_tuning_from_layer_1_leaves_the_pretrained_network_alone,
    ),
    "the teacher learns from its student": (
        "(teacher_logits.detach().float() / temperature)",
        "(teacher_logits.float() / temperature)",
        technique.test_distillation_gives_the_teacher_no_gradient,
    ),
    "LARS adds the decay after the ratio": (
        '                    step = step + group["weight_decay"] * w\n'
        "                    length, slope = w.norm(), step.norm()\n"
        "                    both = (length > 0) & (slope > 0)\n"
        '                    step = step * torch.where(both, group["trust"] * length'
        " / slope, 1.0)\n",
        "                    length, slope = w.norm(), step.norm()\n"
        "                    both = (length > 0) & (slope > 0)\n"
        '                    step = step * torch.where(both, group["trust"] * length'
        " / slope, 1.0)\n"
        '                    step = step + group["weight_decay"] * w\n',
        technique.test_lars_follows_the_equation_with_decay_and_a_changing_rate,
    ),
    "LARS without decay": (
        'step = step + group["weight_decay"] * w',
        "step = step + 0 * w",
        technique.test_lars_follows_the_equation_with_decay_and_a_changing_rate,
    ),
    "LARS with the rate outside the momentum": (
        'v.mul_(group["momentum"]).add_(group["lr"] * step)\n                w.sub_(v)',
        'v.mul_(group["momentum"]).add_(step)\n                w.sub_(group["lr"] * v)',
        technique.test_lars_follows_the_equation_with_decay_and_a_changing_rate,
    ),
    "LARS with decay and ratio for biases": (
        "if w.ndim > 1:",
        "if w.ndim > 0:",
        technique.test_lars_follows_the_equation_with_decay_and_a_changing_rate,
    ),
    "the one-cell method with a teacher in training mode": (
        "    teacher.eval()\n    return teacher, [first",
        "    return teacher, [first",
        technique.test_the_whole_method_in_one_cell_equals_its_three_steps,
    ),
    "the one-cell method shows the teacher another view": (
        "target = teacher(x)",
        "target = teacher(view(x))",
        technique.test_the_whole_method_in_one_cell_equals_its_three_steps,
    ),
    "the one-cell method distils on the labelled images": (
        "x = view(images[some(images)])\n",
        "x = view(few[some(few)])\n",
        technique.test_the_whole_method_in_one_cell_equals_its_three_steps,
    ),
    "the one-cell method never anneals": (
        "        schedule.step()\n",
        "",
        technique.test_the_whole_method_in_one_cell_equals_its_three_steps,
    ),
    "the one-cell method throws the head away": (
        "FineTuned(*pair, 1, int(labels",
        "FineTuned(*pair, 0, int(labels",
        technique.test_the_whole_method_in_one_cell_equals_its_three_steps,
    ),
}

EXPERIMENT = {
    "test images for validation": (
        "return replace(found, test=test)",
        "return replace(found, test=test, validation=found.test)",
        experiment.test_data_of_a_seed_are_split_and_cut_as_said,
    ),
    "labels of the first images for cut test images": (
        "data.Images(found.test.images[: S.num_tested], found.test.labels[: S.num_tested])",
        "data.Images(found.test.images[-S.num_tested :], found.test.labels[-S.num_tested :])",
        experiment.test_data_of_a_seed_are_split_and_cut_as_said,
    ),
    "labelled images that are drawn anew every time": (
        "per_class, lab.streams(number).split)",
        "per_class, torch.Generator().manual_seed(torch.seed() % 2**62))",
        experiment.test_a_label_draw_is_fixed_balanced_and_taken_from_training_images,
    ),
    "one label draw for all": (
        "10_000 * (draw + 1) + seed",
        "10_000 + seed",
        experiment.test_a_label_draw_is_fixed_balanced_and_taken_from_training_images,
    ),
    "labelled images from the test set": (
        "data.Images(dataset.train.images[chosen], dataset.train.labels[chosen])",
        "data.Images(dataset.test.images[chosen % 80], dataset.train.labels[chosen])",
        experiment.test_a_label_draw_is_fixed_balanced_and_taken_from_training_images,
    ),
    "the draw that chooses has results": (
        "TUNING_SEED = 1000",
        "TUNING_SEED = 1",
        experiment.test_the_draw_that_chooses_has_no_results,
    ),
    "one shipped network for all seeds": (
        "number = seed % S.complete if",
        "number = 0 if",
        experiment.test_every_seed_has_its_own_shipped_networks,
    ),
    "later seeds take the networks of the first": (
        "S.complete + seed % rest",
        "seed % rest",
        experiment.test_every_seed_has_its_own_shipped_networks,
    ),
    "rates chosen on the networks of a result": (
        "    number = TUNING_SEED\n",
        "    number = 0\n",
        experiment.test_every_seed_has_its_own_shipped_networks,
    ),
    "random heads behind shipped encoders": (
        "for key, value in fresh.items()} | found",
        'for key, value in fresh.items()} | {k: v for k, v in found.items() if k[0] == "0"}',
        experiment.test_shipped_networks_are_those_of_their_file,
    ),
    "every pretraining by the full recipe": (
        'PRETRAININGS[name].get("recipe", "crop and colour")',
        '"crop and colour"',
        experiment.test_pretraining_has_the_losses_of_the_contrastive_step,
    ),
    "a head of three layers in every pretraining": (
        'if k != "recipe"}',
        'if k == "width"}',
        experiment.test_pretraining_follows_its_row_and_sees_no_label,
    ),
    "all pretrainings are one": (
        "generator=lab.streams(seed).initialisation, **size",
        "generator=lab.streams(0).initialisation, **size",
        experiment.test_pretrainings_of_other_seeds_are_other_networks,
    ),
    "pretraining on the test images": (
        "images, recipe = dataset.train.images, PRE",
        "images, recipe = dataset.test.images, PRE",
        experiment.test_pretraining_has_the_losses_of_the_contrastive_step,
    ),
    "pretraining without a schedule": (
        "cosine_schedule(S.pretraining_rate, num_steps, warmup_steps=num_steps // 20)",
        "cosine_schedule(S.pretraining_rate, 10 * num_steps, warmup_steps=num_steps // 20)",
        experiment.test_pretraining_warms_up_then_follows_a_cosine_to_its_end,
    ),
    "pretraining without decay": (
        "weight_decay=S.pretraining_decay",
        "weight_decay=0.0",
        experiment.test_pretraining_warms_up_then_follows_a_cosine_to_its_end,
    ),
    "pretrained weights that are thrown away": (
        "    nn.ModuleList(pair).load_state_dict(state)\n",
        "",
        experiment.test_a_finished_pretraining_comes_back_whole,
    ),
    "crop only with colours": (
        "replace(COMMON, jitter_probability=0.0, grey_probability=0.0)",
        "replace(COMMON, grey_probability=0.0)",
        experiment.test_recipes_differ_in_what_their_names_say,
    ),
    "the recipe of the pretraining for labelled images": (
        "return strong.strong_augment(moved, generator, S.operations)",
        "return (255 * views.random_view(images, COMMON, generator)).to(torch.uint8)",
        experiment.test_every_view_is_shifted_and_strongly_augmented,
    ),
    "no RandAugment": (
        "return strong.strong_augment(moved, generator, S.operations)",
        "return moved",
        experiment.test_every_view_is_shifted_and_strongly_augmented,
    ),
    "every length of run has views of its own": (
        "    streams = lab.streams(number)\n    order",
        "    streams = lab.streams(number + num_steps)\n    order",
        experiment.test_views_show_the_images_and_labels_that_they_should,
    ),
    "all draws see the same batches": (
        "dataset.train.images, S.steps_student[place], number + POOL)",
        "dataset.train.images, S.steps_student[place], POOL)",
        experiment.test_every_draw_has_views_of_its_own,
    ),
    "labelled and unlabelled images from one stream": (
        "dataset.train.images, S.steps_student[place], number + POOL)",
        "dataset.train.images, S.steps_student[place], number)",
        experiment.test_views_show_the_images_and_labels_that_they_should,
    ),
    "unlabelled images from the test set": (
        "views_of(dataset.train.images, S.steps",
        "views_of(dataset.test.images, S.steps",
        experiment.test_views_show_the_images_and_labels_that_they_should,
    ),
    "labels of the wrong images": (
        "hard=(views_few, labelled.labels[few])",
        "hard=(views_few, labelled.labels[few.flip(0)])",
        experiment.test_views_show_the_images_and_labels_that_they_should,
    ),
    "a teacher in training mode": (
        "evaluation.frozen_features(\n        teacher, seen.flatten(0, 1), function=",
        "evaluation.predict(\n        inputs=seen.flatten(0, 1), function=",
        experiment.test_a_teacher_is_asked_about_the_students_views_in_evaluation_mode,
    ),
    "the teacher sees the views of another step": (
        "    return seen, logits.clone()",
        "    return seen.flip(0), logits.clone()",
        experiment.test_a_teacher_is_asked_about_the_students_views_in_evaluation_mode,
    ),
    "the temperature forgotten": (
        "imitated = distillation_loss(network(unit(view)), logits, tau)",
        "imitated = distillation_loss(network(unit(view)), logits)",
        experiment.test_a_step_is_equation_3,
    ),
    "alpha and its complement exchanged": (
        "return weighted_loss(imitated, named, weight)",
        "return weighted_loss(named, imitated, weight)",
        experiment.test_a_step_is_equation_3,
    ),
    "bytes for floats": (
        "imitated = distillation_loss(network(unit(view)), logits, tau)",
        "imitated = distillation_loss(network(view.float()), logits, tau)",
        experiment.test_a_step_is_equation_3,
    ),
    "a truncated cosine": (
        "optimizer, cosine_schedule(rate, num_steps)",
        "optimizer, cosine_schedule(rate, 10 * num_steps)",
        experiment.test_rates_fall_to_zero_and_the_optimiser_is_the_same_for_all,
    ),
    "decay for every network": (
        'decay=0.0 if "start" in row else S.decay',
        "decay=S.decay",
        experiment.test_arms_have_the_size_and_the_weights_that_their_rows_say,
    ),
    "scratch with the steps of fine-tuning": (
        'kind = "pretrained" if "start" in row else "scratch" if',
        'kind = "pretrained" if "start" in row else "pretrained" if',
        experiment.test_every_arm_has_the_steps_of_its_kind_at_every_count,
    ),
    "a large student with the steps of scratch": (
        '    kind = "student" if "taught on" in row else kind\n',
        "",
        experiment.test_every_arm_has_the_steps_of_its_kind_at_every_count,
    ),
    "steps of the first count for all": (
        "[S.labels.index(per_class)]",
        "[0]",
        experiment.test_every_arm_has_the_steps_of_its_kind_at_every_count,
    ),
    "label only with a teacher": (
        "    fit(\n        network, steps_of",
        "    if arm == 'label only':\n"
        "        soft = soft_labels(trained['scratch'], task.pool['all'])\n"
        "    fit(\n        network, steps_of",
        experiment.test_all_arms_of_a_draw_share_views_and_labels_alone_never_touch_the_pool,
    ),
    "every student learns from the pretrained teacher": (
        'trained[row.get("teacher", "fine-tuned")]',
        'trained["fine-tuned"]',
        experiment.test_every_student_has_its_own_teacher_weight_and_temperature,
    ),
    "soft labels on all images in every arm": (
        'task.pool[row["taught on"]]',
        'task.pool["all"]',
        experiment.test_all_arms_of_a_draw_share_views_and_labels_alone_never_touch_the_pool,
    ),
    "labels on top in every student": (
        'labels, soft = "taught on" not in row or "alpha" in row, ()',
        "labels, soft = True, ()",
        experiment.test_all_arms_of_a_draw_share_views_and_labels_alone_never_touch_the_pool,
    ),
    "the weight of the labels forgotten": (
        'alpha=row.get("alpha", 1.0), tau',
        "alpha=1.0, tau",
        experiment.test_every_student_has_its_own_teacher_weight_and_temperature,
    ),
    "self-distillation at temperature 1": (
        '"self-distilled": {"width": LARGE, "taught on": "all", "tau": 0.1}',
        '"self-distilled": {"width": LARGE, "taught on": "all", "tau": 1.0}',
        experiment.test_every_student_has_its_own_teacher_weight_and_temperature,
    ),
    "a small network that distils itself": (
        '"self-distilled": {"width": LARGE,',
        '"self-distilled": {"width": SMALL,',
        experiment.test_arms_have_the_size_and_the_weights_that_their_rows_say,
    ),
    "heads of all depths from the head of three": (
        '({"from": f"head of {n}"} if n != 3 else {})',
        "{}",
        experiment.test_arms_have_the_size_and_the_weights_that_their_rows_say,
    ),
    "every start layer is the first": (
        '"start": k} | (',
        '"start": min(k, 1)} | (',
        experiment.test_arms_have_the_size_and_the_weights_that_their_rows_say,
    ),
    "scratch begins with pretrained weights": (
        'if "start" not in row:\n        pair = new_pair',
        'if "start" not in row and row["width"] == SMALL:\n        pair = new_pair',
        experiment.test_arms_have_the_size_and_the_weights_that_their_rows_say,
    ),
    "a probe of features in training mode": (
        "    return evaluation.frozen_features(\n        nn.ModuleList(pair), unit(images),",
        "    return evaluation.predict(\n        inputs=unit(images),",
        experiment.test_a_probe_is_a_regression_on_frozen_features_of_the_right_depth,
    ),
    "a probe of h in the place of z": (
        'features_of(pair, task.labelled.images, row["probe"])\n        probe =',
        "features_of(pair, task.labelled.images, 0)\n        probe =",
        experiment.test_a_probe_is_a_regression_on_frozen_features_of_the_right_depth,
    ),
    "the probe's strength forgotten": (
        "task.labelled.labels, strength=value)",
        "task.labelled.labels)",
        experiment.test_a_probe_is_a_regression_on_frozen_features_of_the_right_depth,
    ),
    "a network judged in training mode": (
        "lambda images: evaluation.frozen_features(network, unit(images))",
        "lambda images: network(unit(images))",
        experiment.test_a_trained_network_is_judged_in_evaluation_mode,
    ),
    "rates chosen on test images": (
        "held, found = task.dataset.validation, {}",
        "held, found = task.dataset.test, {}",
        experiment.test_rates_are_chosen_on_validation_images_alone,
    ),
    "results on validation images": (
        "task, states, task.dataset.test, {})",
        "task, states, task.dataset.validation, {})",
        experiment.test_results_are_measured_on_test_images_alone,
    ),
    "rates chosen on a draw of the results": (
        "task_of(TUNING_SEED, draw, per_class)",
        "task_of(lab.seeds[0], draw, per_class)",
        experiment.test_tuning_trains_on_the_draw_that_chooses,
    ),
    "a rate left out of the grid": (
        "            for value in grid_of(arm)\n",
        "            for value in grid_of(arm)[1:]\n",
        experiment.test_rates_are_chosen_on_validation_images_alone,
    ),
    "everybody runs with the value of one arm": (
        "train_arm(arm, chosen[arm], task, networks, trained)",
        'train_arm(arm, chosen.get("fine-tuned", chosen[arm]), task, networks, trained)',
        experiment.test_every_arm_runs_with_the_value_that_was_chosen_for_it,
    ),
    "a cold student with the steps of a warm one": (
        'return [rate * row.get("tau", 1.0) ** 2 for rate in S.rates_random]',
        "return S.rates_random",
        experiment.test_grids_fit_the_kind_of_the_arm_and_the_temperature,
    ),
    "scratch takes the rates of fine-tuning": (
        'if "start" in row:\n        return S.rates_pretrained',
        'if "taught on" not in row:\n        return S.rates_pretrained',
        experiment.test_grids_fit_the_kind_of_the_arm_and_the_temperature,
    ),
    "layer 0 takes the rate of layer 1": (
        "HEADS[3, min(k, 2)] for",
        "HEADS[3, 1] for",
        experiment.test_arms_share_a_rate_only_where_something_else_is_compared,
    ),
    "label only takes the rate of distillation": (
        'dict.fromkeys(("distilled + labels", "taught by scratch"), "distilled")',
        'dict.fromkeys(("distilled + labels", "taught by scratch", "label only"), "distilled")',
        experiment.test_arms_share_a_rate_only_where_something_else_is_compared,
    ),
    "the largest of equal rates": (
        "max(sorted(scores), key",
        "max(sorted(scores, reverse=True), key",
        experiment.test_the_best_value_wins_and_of_equals_the_smallest,
    ),
    "the best single draw decides": (
        "key=lambda value: np.mean(scores[value])",
        "key=lambda value: np.max(scores[value])",
        experiment.test_the_best_value_wins_and_of_equals_the_smallest,
    ),
    "one draw tries all values": (
        "for draw in range(S.tuning_draws) for part",
        "for draw in range(1) for part",
        experiment.test_all_draws_try_all_values_of_all_arms_that_have_their_own,
    ),
    "students tried before their teachers have a rate": (
        "for taught in (False, True):",
        "for taught in (True, False):",
        experiment.test_all_draws_try_all_values_of_all_arms_that_have_their_own,
    ),
    "the worst rate": (
        "max(sorted(scores), key",
        "min(sorted(scores), key",
        experiment.test_the_best_value_wins_and_of_equals_the_smallest,
    ),
    "arms compared over different seeds": (
        "for row in rows if {*arms} <= {*row}]",
        "for row in rows if arm in row]",
        experiment.test_arms_are_compared_over_the_seeds_in_which_both_ran,
    ),
    "studies at every count": (
        "arms = [*ARMS] if per_class == S.study_labels else [*MAIN]",
        "arms = [*ARMS]",
        experiment.test_studies_run_at_one_count_and_teachers_before_their_students,
    ),
    "networks of later seeds that do not exist": (
        "made = pretrainings_of(place)",
        "made = [*PRETRAININGS]",
        experiment.test_later_seeds_run_what_the_primary_claims_need,
    ),
}

# Plausible mistakes that no test catches: (right, wrong, why).
SURVIVORS = {
    "a kernel that is not fused": (
        "nesterov=True, weight_decay=decay, fused=True",
        "nesterov=True, weight_decay=decay",
        "the same steps, only slower; benchmarks watch speed",
    ),
    "half precision left out on a GPU": (
        'inputs=[rows[:num_steps] for rows in (*hard, *soft)], precision="auto"',
        'inputs=[rows[:num_steps] for rows in (*hard, *soft)], precision="float32"',
        "a CPU, where tests run, has single precision in both cases",
    ),
}

IMPORTS = """
from dataclasses import replace
import numpy as np
import torch
from labutils import augment, data, evaluation, models, shipped
from labutils.augment import strong, views
from labutils.data import few_labels
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("simclrv2", experiment.TAGS, IMPORTS)


def run(test, source, right, wrong, mistake):
    """A test on the cells with a mistake; its fixture `chapter` has the settings of `small`."""
    given = {}
    for name in inspect.signature(test).parameters:
        settings = experiment.settings_of_small if name == "chapter" else experiment.small_settings
        names = {"lab": experiment.LAB, "S": settings()}
        given[name] = mutants.module_with(source, right, wrong, mistake, names)
    test(**given)


@pytest.mark.parametrize("mistake", [*MUTATIONS, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (MUTATIONS | EXPERIMENT)[mistake]
    with pytest.raises(AssertionError):
        run(test, source, right, wrong, mistake)


@pytest.mark.parametrize("test", dict.fromkeys(t for *_, t in (MUTATIONS | EXPERIMENT).values()))
def test_without_a_mistake_nothing_is_caught(source, test):
    run(test, source, "def minimise(", "def minimise(", "no mistake")


@pytest.mark.parametrize("mistake", SURVIVORS)
def test_what_no_test_catches_is_still_in_the_cells(source, mistake):
    assert source.count(SURVIVORS[mistake][0]) == 1


def test_most_mistakes_of_the_experiment_are_caught():
    assert len(EXPERIMENT) >= 0.9 * (len(EXPERIMENT) + len(SURVIVORS))
