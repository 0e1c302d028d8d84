"""Plausible mistakes in the cells of FixMatch + SAA, each of which a test must catch.

Those that survive, and why nothing catches them, stand after the second list.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_fixmatch_saa as technique
import test_fixmatch_saa_experiment as experiment

MUTATIONS = {
    "the threshold itself does not pass": (
        "mask = (confidence >= threshold).to(losses.dtype)",
        "mask = (confidence > threshold).to(losses.dtype)",
        technique.test_a_confidence_at_the_threshold_passes,
    ),
    "the mask is not applied": (
        "return (losses * mask).mean(), mask",
        "return losses.mean(), mask",
        technique.test_fixmatch_loss_of_a_worked_case,
    ),
    "the mean over those that pass": (
        "return (losses * mask).mean(), mask",
        "return (losses * mask).sum() / mask.sum().clamp(min=1), mask",
        technique.test_fixmatch_loss_of_a_worked_case,
    ),
    "gradient through the weak view": (
        "q = logits_weak.detach().softmax(1)\n    confidence, pseudo_labels",
        "q = logits_weak.softmax(1)\n    confidence, pseudo_labels",
        technique.test_confidence_carries_no_gradient,
    ),
    "history with the weights exchanged": (
        "self.weight * self.values[indices] + (1 - self.weight) * losses.detach()",
        "(1 - self.weight) * self.values[indices] + self.weight * losses.detach()",
        technique.test_history_follows_its_recursion,
    ),
    "images never seen are naive": (
        "return seen & (history_loss < threshold), threshold",
        "return history_loss < threshold, threshold",
        technique.test_naive_are_seen_images_below_the_threshold,
    ),
    "Otsu over images never seen": (
        "threshold = otsu_threshold(history_loss[seen])",
        "threshold = otsu_threshold(history_loss)",
        technique.test_naive_are_seen_images_below_the_threshold,
    ),
    "FlexMatch remembers what is unsure": (
        "torch.where(confident, pseudo_labels, old)",
        "pseudo_labels",
        technique.test_flexible_thresholds_against_counting,
    ),
    "FlexMatch forgets those not reached": (
        "return counts[1:] / counts.max()",
        "return counts[1:] / counts[1:].max().clamp(min=1)",
        technique.test_flexible_thresholds_against_counting,
    ),
    "alignment upside down": (
        "return logits_weak.detach() + ratio.log()",
        "return logits_weak.detach() - ratio.log()",
        technique.test_alignment_gives_back_a_class_that_the_network_neglects,
    ),
    "one direction for the whole batch": (
        "left_right = torch.rand(n, generator=generator, device=generator.device) < 0.5",
        "left_right = (torch.rand(1, generator=generator) < 0.5).expand(n)",
        technique.test_regroup_pastes_a_half_in_its_place,
    ),
    "the loop's average is the student": (
        "kept.data.lerp_(new.data, 1 - share)",
        "kept.data.copy_(new.data)",
        experiment.test_the_one_loop_and_the_experiment_train_the_same_network,
    ),
    "the loop's batch statistics stay": (
        "            kept.copy_(new)  # statistics of batch normalisation\n",
        "            pass\n",
        experiment.test_the_one_loop_and_the_experiment_train_the_same_network,
    ),
    "the loop's rate stays": (
        'optimizer.param_groups[0]["lr"] = rate * math.cos(7 * math.pi * k / (16 * num_steps))',
        "pass",
        experiment.test_the_one_loop_and_the_experiment_train_the_same_network,
    ),
}

EXPERIMENT = {
    # --- data ---
    "a labelled subset that is redrawn in every step": (
        "labelled_batches=labelled[order]",
        "labelled_batches=task.candidates.flatten()[order]",
        experiment.test_labels_are_balanced_nested_and_belong_to_the_pool,
    ),
    "labelled images without regard to their classes": (
        "task.candidates[:, :labels_per_class].flatten()",
        "task.candidates.flatten()[: 10 * labels_per_class]",
        experiment.test_labels_are_balanced_nested_and_belong_to_the_pool,
    ),
    "the order of the pool depends on the number of labels": (
        "S.batch_size * S.unlabelled_ratio, S.num_steps, sampling)",
        "S.batch_size * S.unlabelled_ratio, S.num_steps + len(labelled), sampling)[: S.num_steps]"
        ".roll(len(labelled))",
        experiment.test_labels_are_balanced_nested_and_belong_to_the_pool,
    ),
    "a pass drawn with replacement": (
        "torch.randperm(num, generator=generator) for _ in range(repeats)",
        "torch.randint(num, (num,), generator=generator) for _ in range(repeats)",
        experiment.test_batches_hold_distinct_images_and_passes_begin_anew,
    ),
    "a larger pool takes what is evaluated": (
        "values[S.num_evaluated :][:extra]",
        "values[:extra]",
        experiment.test_a_larger_pool_keeps_labels_and_evaluated_images,
    ),
    # --- what is known, and what is evaluated ---
    "true labels in the place of pseudo-labels": (
        "    losses, confidence, pseudo_labels = consistency(logits_weak, logits_strong)\n"
        "    threshold = learner.threshold\n",
        "    logits_weak = 9.0 * F.one_hot(dataset.train.labels[indices], 10)\n"
        "    losses, confidence, pseudo_labels = consistency(logits_weak, logits_strong)\n"
        "    threshold = learner.threshold\n",
        experiment.test_nobody_learns_from_the_labels_of_the_pool,
    ),
    "a graph with all its labels": (
        "spread_labels(graph[0], labelled, labels[labelled], classes, share)",
        "spread_labels(graph[0], np.arange(len(labels)), labels, classes, share)",
        experiment.test_nobody_learns_from_the_labels_of_the_pool,
    ),
    "settings chosen on test images": (
        'run_arm(task, arm, choice, "validation")["accuracy"]',
        'run_arm(task, arm, choice)["accuracy"]',
        experiment.test_tuning_does_not_see_test_images,
    ),
    "the graph's share chosen on test images": (
        'spread_on(task, S.shares, "validation")',
        "spread_on(task, S.shares)",
        experiment.test_tuning_does_not_see_test_images,
    ),
    "the student is evaluated": (
        "return accuracy_of(learner.average.module, *judged)",
        "return accuracy_of(learner.network, *judged)",
        experiment.test_the_average_is_evaluated_on_the_images_that_were_asked_for,
    ),
    "validation runs are looked at on test images": (
        "judged = prepared(judged, task.dataset)",
        "judged = prepared(task.dataset.test, task.dataset)",
        experiment.test_the_average_is_evaluated_on_the_images_that_were_asked_for,
    ),
    "the best look instead of the last": (
        '"arm": arm, "accuracy": learner.curve[-1][2]',
        '"arm": arm, "accuracy": max(row[2] for row in learner.curve)',
        experiment.test_the_last_accuracy_counts,
    ),
    # --- settings ---
    "no weight decay": (
        "nesterov=True, weight_decay=decay, fused=True",
        "nesterov=True, fused=True",
        experiment.test_rate_decay_and_momentum_reach_the_optimiser,
    ),
    "plain momentum": (
        "0.9, nesterov=True, weight_decay=decay, fused=True",
        "0.9, weight_decay=decay, fused=True",
        experiment.test_rate_decay_and_momentum_reach_the_optimiser,
    ),
    "the longer baseline is no longer": (
        'S.longer if arm.endswith("longer") else 1',
        "1",
        experiment.test_the_longer_baseline_is_longer,
    ),
    "a rate that decays to zero": (
        "return lambda k: rate * math.cos(7 * math.pi * k / (16 * num_steps))",
        "return lambda k: rate * math.cos(math.pi * k / (2 * num_steps))",
        experiment.test_the_rate_follows_the_papers_cosine,
    ),
    "the schedule of a branch begins anew": (
        "lambda k: schedule(first + k), inputs",
        "lambda k: schedule(k), inputs",
        experiment.test_a_branch_is_the_run_without_branching,
    ),
    "the worst choice": (
        "max(row, key=row.get)",
        "min(row, key=row.get)",
        experiment.test_the_best_mean_over_draws_is_chosen,
    ),
    "the choice of the first draw": (
        "np.mean([found[arm, choice] for found in tried])",
        "tried[0][arm, choice]",
        experiment.test_the_best_mean_over_draws_is_chosen,
    ),
    "a decay that is offered to some only": (
        "itertools.product(S.rates, S.decays, thresholds)",
        "itertools.product(S.rates, S.decays[: 2 if arm in SUPERVISED else 1], thresholds)",
        experiment.test_every_arm_chooses_from_the_whole_grid,
    ),
    "one rate": (
        "itertools.product(S.rates, S.decays, thresholds)",
        "itertools.product(S.rates[:1], S.decays, thresholds)",
        experiment.test_every_arm_chooses_from_the_whole_grid,
    ),
    "the draws of the results choose the settings": (
        "max(lab.seeds) + 1000 + k",
        "lab.seeds[k]",
        experiment.test_draws_that_choose_settings_have_no_results,
    ),
    "later draws have no baseline": (
        "for arm in ALONE if few else MORE_ALONE:",
        "for arm in (ALONE if few else MORE_ALONE)[seed not in FEW :]:",
        experiment.test_later_draws_leave_out_more_labels_and_no_arm,
    ),
    "more labels on every draw": (
        "COUNTS if seed in FEW else COUNTS[:1]",
        "COUNTS",
        experiment.test_later_draws_leave_out_more_labels_and_no_arm,
    ),
    "one draw chooses at every number of labels": (
        "for labels, draws in zip(COUNTS, S.tuning_draws) for k in range(draws)",
        "for labels in COUNTS for k in range(1)",
        experiment.test_draws_that_choose_settings_have_no_results,
    ),
    "choices made at four labels are used everywhere": (
        "run_arm(task, arm, chosen[labels][arm], evaluated)",
        "run_arm(task, arm, chosen[S.labels_per_class][arm], evaluated)",
        experiment.test_every_arm_runs_with_what_was_chosen_at_its_number_of_labels,
    ),
    "families keep the choice made at four labels": (
        "with_branches(task, base, branches, chosen[labels][base], evaluated)",
        "with_branches(task, base, branches, chosen[S.labels_per_class][base], evaluated)",
        experiment.test_every_arm_runs_with_what_was_chosen_at_its_number_of_labels,
    ),
    "the graph keeps the share of four labels": (
        "share, started = chosen[labels][SPREADING], perf_counter()",
        "share, started = chosen[S.labels_per_class][SPREADING], perf_counter()",
        experiment.test_every_arm_runs_with_what_was_chosen_at_its_number_of_labels,
    ),
    # --- views ---
    "labelled images are not augmented strongly": (
        'if source.endswith("strong"):',
        'if source == "strong":',
        experiment.test_views_are_what_their_names_say,
    ),
    "the second view is the first": (
        "again = generator_of(*parts, 1)",
        "again = generator_of(*parts, 0)",
        experiment.test_views_are_what_their_names_say,
    ),
    "regrouped views are moved in another way": (
        "generator_of(*parts, 2))",
        'generator_of(*parts, 2 + (kind == "regrouped")))',
        experiment.test_a_regrouped_view_is_moved_like_the_strong_one,
    ),
    "the same views in every block": (
        "parts = task.seed, KINDS.index(source), block",
        "parts = task.seed, KINDS.index(source), 0",
        experiment.test_every_block_kind_and_draw_has_its_own_random_numbers,
    ),
    "the same views for all draws": (
        "parts = task.seed, KINDS.index(source), block",
        "parts = 0, KINDS.index(source), block",
        experiment.test_every_block_kind_and_draw_has_its_own_random_numbers,
    ),
    "labelled views of another number of labels": (
        'len(task.labelled) if kind.startswith("labelled") else None',
        "None",
        experiment.test_kept_views_belong_to_their_number_of_labels,
    ),
    "views of others are free": (
        "learner.free_seconds += seconds * known",
        "pass",
        experiment.test_views_that_another_arm_drew_are_on_the_bill,
    ),
    # --- steps ---
    "the threshold itself does not pass in a step": (
        "mask = (confidence >= threshold).float()",
        "mask = (confidence > threshold).float()",
        experiment.test_a_confidence_at_the_threshold_passes_in_a_step_too,
    ),
    "a step's mean over those that pass": (
        "unlabelled_loss = (losses * mask).mean()",
        "unlabelled_loss = (losses * mask).sum() / mask.sum().clamp(min=1)",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "a step without the mask": (
        "unlabelled_loss = (losses * mask).mean()",
        "unlabelled_loss = losses.mean()",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "FlexMatch is updated before its thresholds": (
        "        threshold = learner.flexible.thresholds()[pseudo_labels]\n"
        "        learner.flexible.update(indices, confidence, pseudo_labels)\n",
        "        learner.flexible.update(indices, confidence, pseudo_labels)\n"
        "        threshold = learner.flexible.thresholds()[pseudo_labels]\n",
        experiment.test_flexmatch_takes_its_thresholds_before_it_remembers_the_step,
    ),
    "the masked loss is recorded": (
        "history.record(indices, losses)",
        "history.record(indices, losses * mask)",
        experiment.test_the_recorded_loss_is_not_masked,
    ),
    "weak and strong exchanged": (
        "logits, logits_weak, logits_strong = logits.split([len(y), len(indices), len(indices)])\n"
        "    if",
        "logits, logits_strong, logits_weak = logits.split([len(y), len(indices), len(indices)])\n"
        "    if",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "pseudo-labels of the average": (
        "    losses, confidence, pseudo_labels = consistency(logits_weak, logits_strong)\n"
        "    threshold = learner.threshold\n",
        "    logits_weak = learner.average.module(inputs)[len(y) : len(y) + len(indices)]\n"
        "    losses, confidence, pseudo_labels = consistency(logits_weak, logits_strong)\n"
        "    threshold = learner.threshold\n",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "the easy view for marked images, the harder for the others": (
        "torch.where(harder, views[3], views[2])",
        "torch.where(harder, views[2], views[3])",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "who gets the harder view by place in the batch": (
        "learner.harder.index_select(0, indices)",
        "learner.harder[: len(indices)]",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "no alignment": (
        "        logits_weak = learner.alignment(logits_weak)\n",
        "        learner.alignment(logits_weak)\n",
        experiment.test_a_step_is_one_forward_pass_with_the_students_pseudo_labels,
    ),
    "the views of the block before": (
        "bring_views(learner, arm, k // S.block)",
        "bring_views(learner, arm, max(k - 1, 0) // S.block)",
        experiment.test_the_one_loop_and_the_experiment_train_the_same_network,
    ),
    "arms start from different weights": (
        "start = lab.streams(task.seed).initialisation",
        "start = lab.streams(task.seed + len(arm)).initialisation",
        experiment.test_all_arms_of_a_seed_share_weights_and_another_seed_has_others,
    ),
    "all draws start alike": (
        "start = lab.streams(task.seed).initialisation",
        "start = lab.streams(0).initialisation",
        experiment.test_all_arms_of_a_seed_share_weights_and_another_seed_has_others,
    ),
    # --- selections ---
    "SAA from the first selection on": (
        "if step >= S.saa_start:",
        "if step >= 0:",
        experiment.test_saa_begins_with_the_selection_that_counts,
    ),
    "SAA keeps its first selection": (
        "if step >= S.saa_start:",
        "if step == S.saa_start:",
        experiment.test_saa_begins_with_the_selection_that_counts,
    ),
    "the random control is not random": (
        "return order < naive.sum()",
        "return naive.clone()",
        experiment.test_who_gets_the_harder_view,
    ),
    "half as many random images": (
        "return order < naive.sum()",
        "return order < naive.sum() // 2",
        experiment.test_who_gets_the_harder_view,
    ),
    "the random control is drawn once": (
        "control = generator_of(learner.task.seed, CONTROL, step, device=",
        "control = generator_of(learner.task.seed, CONTROL, S.saa_start, device=",
        experiment.test_the_random_control_is_drawn_anew_and_is_as_large_as_the_selection,
    ),
    "images never seen are among the others": (
        "return seen & ~naive",
        "return ~naive",
        experiment.test_who_gets_the_harder_view,
    ),
    "the logarithm is not taken": (
        "logarithm = history.values.clamp(min=1e-4).log10()",
        "logarithm = history.values.log10().exp()",
        experiment.test_the_logarithm_selects_fewer_and_has_a_control_of_its_own,
    ),
    "a branch selects with another history": (
        "other.weight = weight",
        "other.weight = self.weight",
        experiment.test_branches_with_another_weight_of_the_past,
    ),
    "branches go on with one network": (
        "other = copy.deepcopy(self, {id(self.task): self.task})",
        "other = copy.copy(self)",
        experiment.test_a_branch_is_the_run_without_branching,
    ),
    # --- what is measured ---
    "ordinary losses on views of their own": (
        "task, generator = learner.task, generator_of(learner.task.seed, PROBE)",
        "task, generator = learner.task, generator_of(int(learner.harder.sum()), PROBE)",
        experiment.test_losses_are_compared_on_the_same_ordinary_views,
    ),
    "ordinary losses of all images": (
        "mean_where(consistency(*logits)[0], learner.first_naive[: S.num_probed])",
        "consistency(*logits)[0].mean().item()",
        experiment.test_losses_are_compared_on_the_same_ordinary_views,
    ),
    "ordinary losses of whoever is naive now": (
        "mean_where(consistency(*logits)[0], learner.first_naive[: S.num_probed])",
        "mean_where(consistency(*logits)[0], learner.naive[: S.num_probed])",
        experiment.test_losses_are_compared_on_the_same_ordinary_views,
    ),
    "inside and outside exchanged": (
        '"right inside": mean_where(right, naive)',
        '"right inside": mean_where(right, ~naive)',
        experiment.test_what_is_observed_of_a_run,
    ),
    "sums that are never emptied": (
        "    learner.sums.zero_()\n",
        "",
        experiment.test_what_is_observed_of_a_run,
    ),
    # --- the graph ---
    "a graph of one direction": (
        "    joined = joined.maximum(joined.T)\n",
        "",
        experiment.test_label_spreading_solves_its_linear_system,
    ),
    "labels that flow away": (
        "share * (graph @ scores) + (1 - share) * given",
        "share * (graph @ scores)",
        experiment.test_label_spreading_solves_its_linear_system,
    ),
    "the pool's accuracy in the place of the test's": (
        "guessed == split.labels.cpu().numpy()",
        "scores.argmax(1) == labels",
        experiment.test_label_spreading_is_judged_on_unseen_images_and_on_the_pool,
    ),
    "test images find their neighbours among themselves": (
        "nearest = search.kneighbors(others, return_distance=False)",
        "nearest = search.kneighbors(pool[: len(others)], return_distance=False)",
        experiment.test_an_image_of_the_pool_finds_itself_first,
    ),
}

# Plausible mistakes that no test catches: (right, wrong, why).
SURVIVORS = {
    "losses near zero on a line of their own": (
        "BINS = torch.linspace(-4, 1.2, 53)",
        "BINS = torch.linspace(-4, 1.2, 40)",
        "the bins of a picture; no number is read from them",
    ),
    "other places of the looks on the way": (
        "learner.num_steps * (i + 1) // S.num_points",
        "learner.num_steps * (i + 1) // (S.num_points + 1)",
        "the looks in between are points of a curve; the last step is always among them",
    ),
}


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("fixmatch-saa", experiment.TAGS)


def module_with(source, right, wrong, mistake):
    given = {"lab": experiment.LAB, "S": experiment.small_settings()}
    return mutants.module_with(source, right, wrong, mistake, given)


@pytest.mark.parametrize("mistake", [*MUTATIONS, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (MUTATIONS | EXPERIMENT)[mistake]
    mutant = module_with(source, right, wrong, mistake)
    with pytest.raises(AssertionError):
        test(mutant)


@pytest.mark.parametrize("test", dict.fromkeys(t for _, _, t in (MUTATIONS | EXPERIMENT).values()))
def test_without_a_mistake_nothing_is_caught(source, test):
    test(module_with(source, "class Learner:", "class Learner:", "no mistake"))


@pytest.mark.parametrize("mistake", SURVIVORS)
def test_survivors_are_still_there(source, mistake):
    assert source.count(SURVIVORS[mistake][0]) == 1


def test_most_mistakes_of_the_experiment_are_caught():
    assert len(EXPERIMENT) >= 0.9 * (len(EXPERIMENT) + len(SURVIVORS))
