"""Plausible mistakes in the RS2 chapter's cells, each of which a test must catch.

Those of the experiment that survive, and why nothing catches them, stand after the second list.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_rs2_experiment as experiment
import test_rs2_sampling as sampling
import test_rs2_selection as selection

MUTATIONS = {
    "a chunk begins one late": (
        "queue = queue[m:]",
        "queue = queue[m + 1 :]",
        sampling.test_nobody_twice_before_everybody_once,
    ),
    "the rest of a permutation is thrown away": (
        "queue = torch.cat([queue, fresh[~waiting], fresh[waiting]])",
        "queue = fresh",
        sampling.test_nobody_twice_before_everybody_once,
    ),
    "the new permutation ignores who waits": (
        "queue = torch.cat([queue, fresh[~waiting], fresh[waiting]])",
        "queue = torch.cat([queue, fresh])",
        sampling.test_rounds_have_the_right_size_and_distinct_indices,
    ),
    "one permutation for ever, wrapped around": (
        "fresh = torch.randperm(num_examples, generator=generator)",
        "fresh = torch.arange(num_examples)",
        sampling.test_whole_passes_are_disjoint_chunks_in_a_new_order,
    ),
    "the global generator": (
        "fresh = torch.randperm(num_examples, generator=generator)",
        "fresh = torch.randperm(num_examples)",
        sampling.test_same_generator_same_sequence,
    ),
    "with replacement inside a round": (
        "queue = torch.randperm(num_examples, generator=generator)\n",
        "queue = torch.randint(num_examples, (num_examples,), generator=generator)\n",
        sampling.test_rounds_have_the_right_size_and_distinct_indices,
    ),
    "with replacement draws once": (
        "if with_replacement:",
        "if with_replacement and len(queue) < m:",
        sampling.test_rounds_with_replacement_are_independent,
    ),
    "a subset rounded down": (
        "m = round(ratio * num_examples)\n    if not",
        "m = int(ratio * num_examples)\n    if not",
        sampling.test_rounds_have_the_right_size_and_distinct_indices,
    ),
    "positions in a class taken for indices": (
        "yield torch.cat([i[c] for i, c in zip(members, chosen)])",
        "yield torch.cat(chosen)",
        sampling.test_stratified_counts_are_exact,
    ),
    "strata sampled with replacement": (
        "rs2_rounds(len(i), ratio, num_rounds, generator, with_replacement)",
        "rs2_rounds(len(i), ratio, num_rounds, generator, True)",
        sampling.test_stratified_without_replacement_covers_every_class,
    ),
    "the last batch dropped": (
        "indices.tensor_split(-(-len(indices) // batch_size))",
        "indices.split(batch_size)[: len(indices) // batch_size]",
        sampling.test_batches_partition_every_round,
    ),
    "a last batch of one": (
        "indices.tensor_split(-(-len(indices) // batch_size))",
        "indices.split(batch_size)",
        sampling.test_batches_partition_every_round,
    ),
    "a loader that sees one round for ever": (
        "return iter(next(self.rounds).tolist())",
        "self.one = getattr(self, 'one', None) or next(self.rounds).tolist()\n"
        "        return iter(self.one)",
        sampling.test_every_pass_of_a_loader_is_the_next_round,
    ),
    "a sampler as long as the data": (
        "self.size = round(ratio * num_examples)",
        "self.size = num_examples",
        sampling.test_every_pass_of_a_loader_is_the_next_round,
    ),
    "the horizon of the full run": (
        "num_rounds * -(-round(ratio * num_examples) // batch_size)",
        "num_rounds * -(-num_examples // batch_size)",
        sampling.test_cosine_ends_with_the_shortened_run,
    ),
    "a horizon counted in examples": (
        "num_rounds * -(-round(ratio * num_examples) // batch_size)",
        "num_rounds * round(ratio * num_examples)",
        sampling.test_cosine_ends_with_the_shortened_run,
    ),
    "a horizon counted over the whole run at once": (
        "num_rounds * -(-round(ratio * num_examples) // batch_size)",
        "-(-num_rounds * round(ratio * num_examples) // batch_size)",
        sampling.test_shortened_run_is_the_number_of_batches,
    ),
    "softmax twice": (
        "return (logits.softmax(1) - F",
        "return (logits.softmax(1).softmax(1) - F",
        selection.test_el2n_equals_a_slow_loop,
    ),
    "softmax over the examples": (
        "return (logits.softmax(1) - F",
        "return (logits.softmax(0) - F",
        selection.test_el2n_equals_a_slow_loop,
    ),
    "GraNd without the bias": (
        "(1 + features.square().sum(1)).sqrt()",
        "features.norm(dim=1)",
        selection.test_grand_equals_autograd,
    ),
    "margin upside down": (
        "return second - first",
        "return first - second",
        selection.test_margin_equals_a_slow_loop,
    ),
    "margin of logits": (
        "logits.softmax(1).topk",
        "logits.topk",
        selection.test_margin_equals_a_slow_loop,
    ),
    "learning counted instead of forgetting": (
        "self.right[indices] & ~correct",
        "~self.right[indices] & correct",
        selection.test_forgetting_events_equal_a_slow_count,
    ),
    "never learnt counts as never forgotten": (
        "torch.where(self.ever_right, self.counts, torch.inf)",
        "self.counts",
        selection.test_forgetting_events_equal_a_slow_count,
    ),
    "the lowest kept": (
        "descending=True, stable=True",
        "descending=False, stable=True",
        selection.test_keep_highest_keeps_the_budget_and_the_highest,
    ),
    "ties in the order of the data": (
        "shuffled = torch.randperm(len(scores), generator=generator)",
        "shuffled = torch.arange(len(scores))",
        selection.test_ties_are_broken_at_random,
    ),
    "the remainder of the budget lost": (
        "budget // len(members) + (k < budget % len(members))",
        "budget // len(members)",
        selection.test_classes_are_kept_in_equal_shares,
    ),
    "k-center takes the nearest": (
        "chosen[k] = nearest.argmax()",
        "chosen[k] = nearest.abs().argmin()",
        selection.test_k_center_always_takes_the_farthest,
    ),
    "k-center looks at the last centre only": (
        "torch.minimum(nearest, away.square_().sum(1))",
        "away.square_().sum(1)",
        selection.test_k_center_always_takes_the_farthest,
    ),
    "k-center takes duplicates twice": (
        "nearest[last] = -torch.inf",
        "pass",
        selection.test_k_center_always_takes_the_farthest,
    ),
    "herding by argmax, as in two public codes": (
        "total)).argmin()",
        "total)).nan_to_num(posinf=-torch.inf).argmax()",
        selection.test_herding_always_takes_the_closest_to_the_mean,
    ),
    "herding towards k means": (
        "((k + 1) * mean - total)",
        "(k * mean - total)",
        selection.test_herding_always_takes_the_closest_to_the_mean,
    ),
    "herding takes examples twice": (
        "left[chosen[k : k + 1]] = torch.inf",
        "pass",
        selection.test_herding_always_takes_the_closest_to_the_mean,
    ),
    "CCS drops the easiest": (
        "kept = scores.argsort()[",
        "kept = scores.argsort(descending=True)[",
        selection.test_coverage_centric_drops_the_hardest_30_percent_into_50_strata,
    ),
    "CCS visits the largest stratum first": (
        "key=len)",
        "key=len, reverse=True)",
        selection.test_coverage_centric_equals_a_slow_version,
    ),
    "CCS with a fixed share": (
        "(budget - len(chosen)) // (len(strata) - k)",
        "budget // len(strata)",
        selection.test_coverage_centric_equals_a_slow_version,
    ),
    "CCS takes the easiest of a stratum": (
        "order = torch.randperm(len(members), generator=generator)",
        "order = torch.arange(len(members))",
        selection.test_coverage_centric_draws_evenly_inside_a_stratum,
    ),
}


def searched_at_ten_percent(chapter):
    experiment.test_every_tuned_arm_is_searched_until_its_best_rate_has_both_neighbours(
        chapter, 0.1, 0.3
    )


def searched_at_fifty_percent(chapter):
    experiment.test_every_tuned_arm_is_searched_until_its_best_rate_has_both_neighbours(
        chapter, 0.5, 0.0
    )


EXPERIMENT = {
    "a static subset drawn afresh every round": (
        """        subset = next(rs2_rounds(n, ratio, 1, generator, labels=labels))
        return [subset] * num_rounds, 0.0, 0""",
        "        return list(rs2_rounds(n, ratio, num_rounds, generator, labels=labels)), 0.0, 0",
        experiment.test_a_subset_that_was_chosen_stays,
    ),
    "a chosen subset drawn afresh every round": (
        "return [subset] * num_rounds, seconds, nets",
        "return [subset[torch.randperm(len(subset))[: len(subset) // 2]] for _ in"
        " range(num_rounds)], seconds, nets",
        experiment.test_a_subset_that_was_chosen_stays,
    ),
    "all data for T epochs": (
        "num_epochs = math.ceil(ratio * num_rounds)",
        "num_epochs = num_rounds",
        experiment.test_fresh_arms_draw_as_their_names_say,
    ),
    "with replacement in name only": (
        'replacement = arm == "RS2 with replacement"',
        "replacement = False",
        experiment.test_fresh_arms_draw_as_their_names_say,
    ),
    "stratified in name only": (
        'strata = labels if arm == "RS2 stratified" else None',
        "strata = None",
        experiment.test_fresh_arms_draw_as_their_names_say,
    ),
    "herding over all classes together": (
        "for i, n in per_class(labels, budget)])",
        "for i, n in [(torch.arange(len(labels)), budget)]])",
        experiment.test_pruning_keeps_equal_shares_of_the_classes_where_it_says_so,
    ),
    "unbalanced in name only": (
        'balanced = None if arm.endswith("unbalanced") else labels',
        "balanced = labels",
        experiment.test_pruning_keeps_equal_shares_of_the_classes_where_it_says_so,
    ),
    "CCS always drops 30 %": (
        'coverage_centric(scores["EL2N"], budget, generator, share)',
        'coverage_centric(scores["EL2N"], budget, generator)',
        experiment.test_ccs_drops_the_share_that_was_chosen,
    ),
    "scoring is free": (
        "return [subset] * num_rounds, seconds, nets",
        "return [subset] * num_rounds, 0.0, nets",
        experiment.test_the_whole_scoring_is_on_the_bill,
    ),
    "one network on the bill": (
        'seconds = sum(scores["seconds"][:nets])',
        'seconds = scores["seconds"][0]',
        experiment.test_the_whole_scoring_is_on_the_bill,
    ),
    "arms start from different weights": (
        "streams = lab.streams(seed)  # the same",
        "streams = lab.streams(seed + len(rows))  # the same",
        experiment.test_arms_of_a_seed_start_alike_and_those_of_another_do_not,
    ),
    "one stream for all arms, used up in turn": (
        "streams = lab.streams(seed)  # the same",
        "streams = streams if rows else lab.streams(seed)  # the same",
        experiment.test_an_arm_does_not_depend_on_which_others_run,
    ),
    "all seeds start alike": (
        "streams = lab.streams(seed)  # the same",
        "streams = lab.streams(0)  # the same",
        experiment.test_arms_of_a_seed_start_alike_and_those_of_another_do_not,
    ),
    "the rate of another arm": (
        "batches, dataset, streams, rate, run=run",
        "batches, dataset, streams, settings['RS2'][0], run=run",
        experiment.test_every_arm_trains_at_its_own_settings,
    ),
    "the best look instead of the last network": (
        "*part) for split, part in parts.items()}",
        '*part) for split, part in parts.items()} | {"test": max(history.evaluations.values())}',
        experiment.test_the_network_after_the_last_step_counts,
    ),
    "validation on test images": (
        "prepared(getattr(dataset, split), dataset)",
        "prepared(dataset.test, dataset)",
        experiment.test_the_network_after_the_last_step_counts,
    ),
    "test on validation images": (
        "prepared(getattr(dataset, split), dataset)",
        "prepared(dataset.validation, dataset)",
        experiment.test_the_network_after_the_last_step_counts,
    ),
    "looks at validation images": (
        'evaluated=parts.get("test"), looks=looks',
        'evaluated=parts.get("validation"), looks=looks',
        experiment.test_the_network_after_the_last_step_counts,
    ),
    "runs that choose settings look at test images": (
        "for split in scored}",
        'for split in ("test", "validation")}',
        experiment.test_only_the_splits_that_are_asked_for_are_scored,
    ),
    "subsets from the labels of the test images": (
        "rows, labels = [], dataset.train.labels.cpu()",
        "rows, labels = [], dataset.test.labels.cpu()[: len(dataset.train)]",
        experiment.test_subsets_do_not_depend_on_test_images,
    ),
    "the same batches every round": (
        "batches_of(rounds, S.batch_size, streams.sampling)[:num_steps]",
        "batches_of(rounds, S.batch_size)[:num_steps]",
        experiment.test_rounds_are_cut_into_new_batches_every_time,
    ),
    "more steps than the run has": (
        "batches_of(rounds, S.batch_size, streams.sampling)[:num_steps]",
        "batches_of(rounds, S.batch_size, streams.sampling)",
        experiment.test_rounds_are_cut_into_new_batches_every_time,
    ),
    "a truncated cosine": (
        "cosine_schedule(rate, len(batches), final=S.final_rate)",
        "cosine_schedule(rate, 10 * len(batches), final=S.final_rate)",
        experiment.test_the_cosine_ends_with_the_last_batch,
    ),
    "no augmentation": (
        "        images = augment.pad_crop_flip(images, S.padding, streams.augmentation)\n",
        "",
        experiment.test_a_step_is_the_loss_of_augmented_training_images,
    ),
    "augmentations drawn from the stream of the order": (
        "images = augment.pad_crop_flip(images, S.padding, streams.augmentation)",
        "images = augment.pad_crop_flip(images, S.padding, streams.sampling)",
        experiment.test_a_step_is_the_loss_of_augmented_training_images,
    ),
    "right and wrong exchanged for forgetting": (
        "on_batch(indices, logits.argmax(1) == labels)",
        "on_batch(indices, logits.argmax(1) != labels)",
        experiment.test_a_step_is_the_loss_of_augmented_training_images,
    ),
    "every hardest-first arm by EL2N": (
        'keep_highest(scores[arm.split(",")[0]]',
        'keep_highest(scores["EL2N"]',
        experiment.test_every_pruning_arm_goes_by_its_own_score,
    ),
    "k-center in the space of scores": (
        'k_center_greedy(scores["features"].to(lab.device)',
        'k_center_greedy(scores["EL2N"][:, None]',
        experiment.test_every_pruning_arm_goes_by_its_own_score,
    ),
    "the bill of choosing lost on the way": (
        '"selection_seconds": seconds',
        '"selection_seconds": 0.0',
        experiment.test_every_arm_trains_at_its_own_settings,
    ),
    "the clock of the first look": (
        "history.seconds[num_steps]",
        "min(history.seconds.values())",
        experiment.test_rounds_are_cut_into_new_batches_every_time,
    ),
    "GraNd without features": (
        '"GraNd": grand_scores(logits, features, labels)',
        '"GraNd": el2n_scores(logits, labels)',
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "no weight decay": (
        "weight_decay=S.weight_decay",
        "weight_decay=0.0",
        experiment.test_the_optimiser_is_the_papers,
    ),
    "plain momentum": (
        "nesterov=True, weight_decay",
        "nesterov=False, weight_decay",
        experiment.test_the_optimiser_is_the_papers,
    ),
    "scores of a network in training mode": (
        "        network.eval()\n",
        "        network.train()\n",
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "scores of the last network only": (
        "results[name] += scores.cpu() / S.scoring_nets",
        "results[name] = scores.cpu()",
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "forgetting counted over all networks": (
        "on_batch = events.visit if net == 0 else None",
        "on_batch = events.visit",
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "one scoring network several times": (
        "lab.streams(seed + 10_000 * (net + 1))",
        "lab.streams(seed + 10_000)",
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "scoring starts from the weights of the run": (
        "lab.streams(seed + 10_000 * (net + 1))",
        "lab.streams(seed + 10_000 * net)",
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "features of another network than the one that is paid for": (
        'if net == 0:\n            results["features"]',
        'if net >= 0:\n            results["features"]',
        experiment.test_scores_are_means_over_networks_in_evaluation_mode,
    ),
    "rates chosen on test images": (
        '"share"])["validation"].mean().reset_index()',
        '"share"])["test"].mean().rename("validation").reset_index()',
        experiment.test_settings_are_the_best_on_average_over_validation,
    ),
    "the luckiest tuning seed decides": (
        '["validation"].mean().reset_index()',
        '["validation"].max().reset_index()',
        experiment.test_settings_are_the_best_on_average_over_validation,
    ),
    "one choice for all ratios": (
        "row.arm): (row.rate, row.share) for row in best.itertuples()",
        "row.arm): (row.rate, row.share) for ratio in trials.ratio.unique()"
        " for row in best.assign(ratio=ratio).itertuples()",
        experiment.test_settings_are_the_best_on_average_over_validation,
    ),
    "settings chosen on the seeds of the results": (
        "max(lab.seeds) + 1000 + k",
        "lab.seeds[0] + k",
        experiment.test_seeds_that_choose_settings_have_no_results,
    ),
    "one tuning seed": (
        "for k in range(count)]",
        "for k in range(1)]",
        experiment.test_seeds_that_choose_settings_have_no_results,
    ),
    "the control takes a rate of its own": (
        'dict.fromkeys([*FRESH, "all data"], "RS2")',
        'dict.fromkeys(FRESH, "RS2")',
        experiment.test_arms_that_differ_in_their_draws_share_a_rate,
    ),
    "everybody takes the rate of RS2": (
        "keys = {arm: (ratio, TUNED_AS.get(arm, arm)) for arm in arms}",
        'keys = {arm: (ratio, TUNED_AS.get(arm, "RS2")) for arm in arms}',
        experiment.test_arms_that_differ_in_their_draws_share_a_rate,
    ),
    "CCS keeps its share at every ratio": (
        'best_settings(trials)[ratio, arm][1] if arm == "CCS"',
        '0.3 if arm == "CCS"',
        searched_at_fifty_percent,
    ),
    "the search stops after the first rates": (
        "if set(wanted) <= set(rows.rate):",
        "if False:",
        searched_at_ten_percent,
    ),
    "the search goes up only": (
        "S.learning_rates[max(best - 1, 0) : best + 2]",
        "S.learning_rates[best : best + 2]",
        searched_at_ten_percent,
    ),
    "the search goes down only": (
        "S.learning_rates[max(best - 1, 0) : best + 2]",
        "S.learning_rates[max(best - 1, 0) : best + 1]",
        searched_at_ten_percent,
    ),
    "the whole list for everybody": (
        "S.learning_rates[max(best - 1, 0) : best + 2]",
        "S.learning_rates",
        searched_at_ten_percent,
    ),
    "a rate tried again": (
        "return [rate for rate in wanted if rate not in set(rows.rate)]",
        "return list(wanted)",
        searched_at_ten_percent,
    ),
    "the rival chosen on test images": (
        'rows.groupby("arm")["validation"].mean().idxmax()',
        'rows.groupby("arm")["test"].mean().idxmax()',
        experiment.test_the_rival_is_the_best_pruning_method_on_validation,
    ),
    "the weakest rival": (
        'rows.groupby("arm")["validation"].mean().idxmax()',
        'rows.groupby("arm")["validation"].mean().idxmin()',
        experiment.test_the_rival_is_the_best_pruning_method_on_validation,
    ),
    "time rounded up to the next look": (
        "return before + (step - before) * (accuracy - low) / (high - low)",
        "return step",
        experiment.test_time_to_accuracy_is_the_first_time_by_straight_lines,
    ),
    "the last time instead of the first": (
        "for step in sorted(evaluations):\n        high",
        "for step in sorted(evaluations)[-1:]:\n        high",
        experiment.test_time_to_accuracy_is_the_first_time_by_straight_lines,
    ),
    "the long run of another seed": (
        'history = long_runs[row.seed]["history"]',
        'history = long_runs[row.Index]["history"]',
        experiment.test_speedups_pair_each_run_with_the_long_run_of_its_seed,
    ),
    "a run that never gets there is as fast as RS2": (
        "needed = needed or max(history.evaluations)",
        "needed = needed or row.steps",
        experiment.test_speedups_pair_each_run_with_the_long_run_of_its_seed,
    ),
}

# Plausible mistakes that no test catches: (right, wrong, why).
SURVIVORS = {
    "the time of choosing left out beside that of scoring": (
        'sum(scores["seconds"][:nets]) + perf_counter() - started',
        'sum(scores["seconds"][:nets])',
        "k-center takes a second, scoring two; a test of seconds would be a test of luck",
    ),
}


IMPORTS = """
import numpy as np
import torch
import torch.nn.functional as F
from labutils import augment
from labutils.training import cosine_schedule
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("rs2", experiment.TAGS, IMPORTS)


def module_with(source, right, wrong, mistake):
    given = {"lab": experiment.LAB, "S": experiment.small_settings()}
    return mutants.module_with(source, right, wrong, mistake, given)


@pytest.mark.parametrize("mistake", [*MUTATIONS, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (MUTATIONS | EXPERIMENT)[mistake]
    mutant = module_with(source, right, wrong, mistake)
    with pytest.raises(AssertionError):
        test(mutant)


@pytest.mark.parametrize("test", dict.fromkeys(test for _, _, test in EXPERIMENT.values()))
def test_without_a_mistake_nothing_is_caught(source, test):
    test(module_with(source, "def rs2_rounds(", "def rs2_rounds(", "no mistake"))


def test_most_mistakes_of_the_experiment_are_caught():
    assert len(EXPERIMENT) >= 0.9 * (len(EXPERIMENT) + len(SURVIVORS))
