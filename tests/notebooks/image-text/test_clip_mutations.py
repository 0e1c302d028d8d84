"""Plausible mistakes in the CLIP chapter's cells, each of which a test must catch.

Those of the experiment that survive, and why nothing catches them, stand after the second list.
"""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_clip_experiment as experiment
import test_clip_towers as towers

MUTATIONS = {
    "a tower without ReLU": (
        "self.layers.extend([nn.BatchNorm2d(width), nn.ReLU()])",
        "self.layers.extend([nn.BatchNorm2d(width), nn.Identity()])",
        towers.test_conv_tower_equals_its_layers_written_by_hand,
    ),
    "a tower without batch normalisation": (
        "self.layers.extend([nn.BatchNorm2d(width), nn.ReLU()])",
        "self.layers.extend([nn.Identity(), nn.ReLU()])",
        towers.test_conv_tower_equals_its_layers_written_by_hand,
    ),
    "ReLU before batch normalisation": (
        "self.layers.extend([nn.BatchNorm2d(width), nn.ReLU()])",
        "self.layers.extend([nn.ReLU(), nn.BatchNorm2d(width)])",
        towers.test_conv_tower_equals_its_layers_written_by_hand,
    ),
    "gradients of all steps added up": (
        "        optimizer.zero_grad()\n        loss.backward()",
        "        loss.backward()",
        towers.test_the_loop_equals_the_books_training,
    ),
    "a scale without bound": (
        "        schedule.step()\n        model.bound_scale()",
        "        schedule.step()",
        towers.test_the_loop_learns_to_tell_pairs_apart,
    ),
    "everything decays": (
        '{"params": others, "weight_decay": 0.0}]\n    optimizer',
        '{"params": others, "weight_decay": 0.2}]\n    optimizer',
        towers.test_the_loop_equals_the_books_training,
    ),
    "a captioner that reads the word that it predicts": (
        "(a[:, None] + r[:, :-1])",
        "(a[:, None] + r[:, 1:])",
        towers.test_captioner_loss_and_scores_equal_loops,
    ),
    "a captioner that must predict the padding": (
        "target = torch.where(between(tokens), tokens, -100)[:, 1:]",
        "target = tokens[:, 1:]",
        towers.test_captioner_loss_and_scores_equal_loops,
    ),
    "a captioner scored by the words before": (
        "[text, place - 1]",
        "[text, place]",
        towers.test_captioner_loss_and_scores_equal_loops,
    ),
    "captions scored by their sum": (
        "return sums / between(tokens).sum(1).clamp(min=1)",
        "return sums",
        towers.test_captioner_loss_and_scores_equal_loops,
    ),
    "a captioner that does not look": (
        "log_p = a[:, token] - ahead",
        "log_p = 0 * a[:, token] - ahead",
        towers.test_captioner_loss_and_scores_equal_loops,
    ),
    "words scored without their prior": (
        "log_p = self.words(self.visual(images)).log_softmax(1) - log_prior",
        "log_p = self.words(self.visual(images)).log_softmax(1)",
        towers.test_word_predictor_loss_and_scores_equal_loops,
    ),
    "the start counts as a word": (
        "return (place > 0) & (place",
        "return (place >= 0) & (place",
        towers.test_bag_of_tokens_averages_what_stands_between_start_and_end,
    ),
}


def on(test, *arguments):
    """A test with further arguments, as a function of the module alone."""
    return lambda clip: test(clip, *arguments)


SHORT = on(experiment.check_short_run, ("objective", "contrast"))
EXPERIMENT = {
    # parts
    "the held-out artist in training": (
        "known = ~tested & ~tuning & ~unseen",
        "known = ~tuning & ~unseen",
        experiment.test_parts_are_disjoint_and_hold_what_they_say,
    ),
    "held-out cells stay in training": (
        "train = known & ~cells",
        "train = known",
        experiment.test_parts_are_disjoint_and_hold_what_they_say,
    ),
    "concepts held out without their families": (
        "unseen = torch.isin(family, order[: round(S.unseen_share * count)])",
        "unseen = torch.isin(concept, torch.randperm(len(CONCEPTS), generator=draw)"
        "[: round(S.unseen_share * len(CONCEPTS))])",
        experiment.test_no_family_and_no_picture_leaks,
    ),
    "the only picture of a concept held out": (
        "cells &= ~torch.isin(family, only)",
        "pass",
        experiment.test_parts_are_disjoint_and_hold_what_they_say,
    ),
    "twins of all concepts": (
        '"twins": tested & torch.isin(concept, concept[cells]),',
        '"twins": tested & seen,',
        experiment.test_twins_show_the_concepts_of_the_cells_by_the_held_out_artist,
    ),
    "the validation style always in training": (
        "& ~tested & (not final)",
        "& ~tested & False",
        experiment.test_parts_are_disjoint_and_hold_what_they_say,
    ),
    "one split for all seeds": (
        "draw, names = lab.streams(seed).split, DATA.style_names",
        "draw, names = lab.streams(0).split, DATA.style_names",
        experiment.test_the_same_concepts_are_held_out_with_and_without_the_validation_style,
    ),
    # captions and batches
    "captions of the next concept": (
        "tokens = captions.index_select(0, concepts * S.variants + variant)",
        "tokens = captions.index_select(0, (concepts + 1) % len(CONCEPTS) * S.variants + variant)",
        experiment.test_a_step_gets_pictures_with_captions_of_their_concept,
    ),
    "captions of the first concepts": (
        "tokens = captions.index_select(0, concepts * S.variants + variant)",
        "tokens = captions.index_select(0, concepts + variant)",
        experiment.test_a_step_gets_pictures_with_captions_of_their_concept,
    ),
    "keywords of another concept": (
        '    return ", ".join(concept.keywords[k] for k in order)',
        '    return ", ".join(CONCEPTS[0].keywords[k % 3] for k in order)',
        experiment.test_captions_belong_to_their_concept,
    ),
    "every caption in a template": (
        "TEMPLATES[t].format(text) if k // 2 % 2 else text",
        "TEMPLATES[t].format(text)",
        experiment.test_captions_belong_to_their_concept,
    ),
    "templates around keywords only": (
        "TEMPLATES[t].format(text) if k // 2 % 2 else text",
        "TEMPLATES[t].format(text) if k % 2 else text",
        experiment.test_captions_belong_to_their_concept,
    ),
    "a concept twice in a batch": (
        "chosen = torch.randperm(len(starts), generator=generator)[: batch // copies, None]",
        "chosen = torch.randint(len(starts), (batch // copies, 1), generator=generator)",
        experiment.test_batches_hold_distinct_concepts_and_every_picture_can_come,
    ),
    "always the first picture of a concept": (
        "place = (first + torch.arange(copies)) % counts[chosen]",
        "place = (0 * first + torch.arange(copies)) % counts[chosen]",
        experiment.test_batches_hold_distinct_concepts_and_every_picture_can_come,
    ),
    "copies of the very same picture": (
        "place = (first + torch.arange(copies)) % counts[chosen]",
        "place = (first + 0 * torch.arange(copies)) % counts[chosen]",
        experiment.test_copies_are_different_pictures_of_one_concept_side_by_side,
    ),
    "a batch smaller than asked": (
        "if batch % copies or batch // copies > len(starts):",
        "if batch % copies:",
        experiment.test_no_batch_is_smaller_than_asked,
    ),
    "the same batch in every step": (
        "    return torch.stack(rows)\n",
        "    return torch.stack(rows[:1] * steps)\n",
        experiment.test_batches_hold_distinct_concepts_and_every_picture_can_come,
    ),
    "copies never share a caption": (
        "own = 1 if not shared else copies",
        "own = 1",
        experiment.test_copies_share_a_caption_or_have_their_own,
    ),
    "copies always share a caption": (
        "own = 1 if not shared else copies",
        "own = copies",
        experiment.test_copies_share_a_caption_or_have_their_own,
    ),
    "the global generator for captions": (
        "drawn = torch.randint(S.variants, (steps, batch // own), generator=generator)",
        "drawn = torch.randint(S.variants, (steps, batch // own))",
        experiment.test_arms_of_a_seed_see_the_same_pictures_in_the_same_order,
    ),
    # training
    "no augmentation": (
        "images = views.random_view(WHITE.index_select(0, chosen), RECIPE, streams.augmentation)",
        "images = WHITE.index_select(0, chosen)",
        experiment.test_pictures_are_augmented_in_training_and_not_in_evaluation,
    ),
    "mirror images": (
        "scale=(0.8, 1.0), flip_probability=0.0",
        "scale=(0.8, 1.0), flip_probability=0.5",
        experiment.test_pictures_are_augmented_in_training_and_not_in_evaluation,
    ),
    "a fixed scale that learns": (
        "model.logit_scale.requires_grad_(False).fill_(math.log(arm[1]))",
        "model.logit_scale.data.fill_(math.log(arm[1]))",
        experiment.test_fixed_scales_stay_and_learned_ones_move_within_their_bound,
    ),
    "a learned scale that is fixed": (
        'if arm[0] == "scale" and arm[1] != "learned":\n        model.logit_scale',
        'if arm[0] == "scale":\n        arm = arm if arm[1] != "learned" else (0, 1 / 0.07)\n'
        "        model.logit_scale",
        experiment.test_fixed_scales_stay_and_learned_ones_move_within_their_bound,
    ),
    "t beyond its bound": (
        "            model.bound_scale()\n        concepts",
        "            pass\n        concepts",
        experiment.test_fixed_scales_stay_and_learned_ones_move_within_their_bound,
    ),
    "gains and t decay": (
        'if p.ndim < 2], "weight_decay": 0.0},',
        'if p.ndim < 2], "weight_decay": S.decay},',
        experiment.test_gains_biases_and_t_do_not_decay,
    ),
    "looks only at the end": (
        "for k in range(1, looks + 1)]",
        "for k in range(looks, looks + 1)]",
        experiment.test_looks_come_in_evaluation_mode_at_equal_parts_and_at_the_end,
    ),
    "kinds by the number of the picture": (
        "return F.cross_entropy(model(images), KIND[concepts])",
        "return F.cross_entropy(model(images), KIND[torch.arange(len(concepts))].clamp(min=0))",
        experiment.test_the_supervised_loss_is_that_of_the_kinds_of_the_pictures,
    ),
    "weights from the global generator": (
        "        torch.manual_seed(seed)\n",
        "        pass\n",
        experiment.test_new_models_depend_on_their_seed_only,
    ),
    # evaluation
    "the gallery holds the right names only": (
        "    concepts = seen_concepts(parts)\n    return recalls",
        "    concepts = DATA.concept[indices].unique()\n    return recalls",
        experiment.test_retrieval_is_among_the_names_of_seen_concepts,
    ),
    "a probe tested on its own bank": (
        "return bank, torch.cat([mine[len(own) :] for mine, own in zip(found, bank)])",
        "return bank, torch.cat(bank)",
        experiment.test_bank_and_test_are_disjoint_halves_of_every_kind,
    ),
    "a probe tested on everything": (
        "return bank, torch.cat([mine[len(own) :] for mine, own in zip(found, bank)])",
        "return bank, torch.cat(found)",
        experiment.test_probes_are_tested_on_what_they_did_not_learn,
    ),
    "halves in the order of the data": (
        "order = torch.randperm(len(kind), generator=generator)\n    found",
        "order = torch.arange(len(kind))\n    found",
        experiment.test_bank_and_test_are_disjoint_halves_of_every_kind,
    ),
    "all labels for every number of shots": (
        "chosen, test = np.concatenate([mine[:shots] for mine in bank])",
        "chosen, test = np.concatenate(bank)",
        experiment.test_a_probe_learns_from_at_most_so_many_and_equals_the_plain_one,
    ),
    "a penalty that is ignored": (
        "LogisticRegression(C=strength, max_iter=1000)",
        "LogisticRegression(C=10.0, max_iter=1000)",
        experiment.test_a_probe_learns_from_at_most_so_many_and_equals_the_plain_one,
    ),
    "a probe after the last map": (
        "h, numbers = over(tower.features, indices)",
        "h, numbers = over(tower, indices)",
        experiment.test_probes_stand_before_the_last_map_of_a_frozen_tower,
    ),
    "the ensemble of one template": (
        '"ensemble": zero_shot(model, indices, BARE, TEMPLATES, u=u),',
        '"ensemble": zero_shot(model, indices, BARE, TEMPLATES[:1], u=u),',
        experiment.test_ways_to_name_are_the_bare_names_in_one_template_in_all_and_the_sentences,
    ),
    "the best template instead of their mean": (
        '"template": np.mean(one),',
        '"template": np.max(one),',
        experiment.test_ways_to_name_are_the_bare_names_in_one_template_in_all_and_the_sentences,
    ),
    # choices
    "rates chosen on the held-out artist": (
        'found = {"-": retrieve(model, parts, parts.validation)[5]}',
        'found = {"-": retrieve(model, parts, parts.shift)[5]}',
        experiment.check_choosing,
    ),
    "penalties chosen on the held-out artist": (
        "found |= probes(model.visual, parts.validation,",
        "found |= probes(model.visual, parts.shift,",
        experiment.check_choosing,
    ),
    "the control tuned on the held-out artist": (
        'found = {"-": kind_accuracy(model, parts.validation)}',
        'found = {"-": kind_accuracy(model, parts.shift)}',
        on(experiment.check_choosing, ("main", "labels")),
    ),
    "the validation style in training while rates are chosen": (
        "parts = split_of(TUNING_SEED, final=False)",
        "parts = split_of(TUNING_SEED)",
        experiment.check_choosing,
    ),
    "settings chosen on a seed of the results": (
        "TUNING_SEED = 10_000",
        "TUNING_SEED = 0",
        experiment.check_choosing,
    ),
    "the worst rate": (
        "return max(S.rates, key=lambda rate: self.score(arm, rate))",
        "return min(S.rates, key=lambda rate: self.score(arm, rate))",
        experiment.test_the_best_rate_rule_and_penalty_are_taken,
    ),
    "probes decide the rate": (
        "return max(v for k, v in self.tuned[arm, rate].items() if isinstance(k, str))",
        "return max(v for k, v in self.tuned[arm, rate].items())",
        experiment.test_the_best_rate_rule_and_penalty_are_taken,
    ),
    "one penalty for all numbers of labels": (
        "return max(S.strengths, key=lambda c: found[shots, c])",
        "return max(S.strengths, key=lambda c: found[S.shots[0], c])",
        experiment.test_the_best_rate_rule_and_penalty_are_taken,
    ),
    "all arms at the rate of contrast": (
        'arm = arm if (arm, S.rates[0]) in self.tuned else ("objective", "contrast")',
        'arm = ("objective", "contrast")',
        experiment.test_the_best_rate_rule_and_penalty_are_taken,
    ),
    "rates tuned at another length": (
        'options["pairs"] = min(S.tuning_pairs, options["pairs"])',
        'options["pairs"] = S.tuning_pairs',
        experiment.test_every_arm_is_tuned_as_long_as_it_is_used_but_no_longer_than_the_settings_say,
    ),
    "scales on every seed": (
        " or seed in scaled]",
        " or seed in seeds]",
        experiment.test_runs_that_compare_scales_have_the_first_seeds_and_all_others_every_seed,
    ),
    "the rule is forgotten": (
        'prior = prior_of(choices.rule(arm)) if objective in ("words", "captions") else None',
        "prior = None",
        experiment.test_the_predictors_are_scored_by_the_rule_that_was_chosen,
    ),
    # runs
    "the main run tested on the pictures of known artists": (
        'model, test = new_model("contrast", seed, S.main_widths), parts.shift',
        'model, test = new_model("contrast", seed, S.main_widths), parts.cells',
        experiment.test_the_main_run_is_tested_on_the_held_out_artist,
    ),
    "zero-shot beside the probes on all pictures": (
        'zero_shot(model, tested) for tested in found.pop("test")',
        'zero_shot(model, test) for tested in found.pop("test")',
        experiment.test_each_number_of_labels_has_its_own_penalty_and_zero_shot_the_same_pictures,
    ),
    "the control also learns the held-out artist": (
        "fit(model, seed, of_kinds(parts.train)[0], S.supervised_pairs,",
        "fit(model, seed, of_kinds(torch.cat([parts.train, parts.shift]))[0], S.supervised_pairs,",
        experiment.test_the_supervised_control_learns_the_kinds_of_the_same_training_pictures,
    ),
    "a narrow control": (
        'model = new_model("labels", seed, S.main_widths)',
        'model = new_model("labels", seed, S.short_widths)',
        experiment.test_the_supervised_control_learns_the_kinds_of_the_same_training_pictures,
    ),
    "short runs tested in style": (
        'test, labelled = parts.shift, objective == "labels"',
        'test, labelled = parts.cells, objective == "labels"',
        SHORT,
    ),
    "all short runs at one rate": (
        "rate=choices.rate(arm), loss=loss,",
        "rate=S.rates[0], loss=loss,",
        on(experiment.check_short_run, ("objective", "words")),
    ),
    "templates forgotten": (
        'captions = IN_TEMPLATES if arm[0] == "captions" else None',
        "captions = None",
        on(experiment.check_short_run, ("captions", "in templates")),
    ),
    "hard targets in the multi-positive run": (
        'loss = multi_positive if arm == ("copies", "multi-positive") else loss',
        "pass",
        on(experiment.check_short_run, ("copies", "multi-positive")),
    ),
    "a share of nothing": (
        "return parts.train[order[: round(value * len(order))]].sort().values",
        "return parts.train",
        experiment.test_pools_are_what_their_arms_say,
    ),
    "copies from a pool of their own": (
        'if kind == "copies":  # one pool for all of its methods',
        'if kind == "copies" and value != "none":',
        experiment.test_pools_are_what_their_arms_say,
    ),
    "the wide network is the narrow one": (
        'options["widths"] = S.widths[value]',
        'options["widths"] = S.short_widths',
        experiment.test_every_short_arm_changes_what_it_says_and_nothing_else,
    ),
    "a batch of another size for more pairs": (
        'options["batch"] = value',
        'options |= {"batch": value, "pairs": S.short_pairs * value // S.batch}',
        experiment.test_every_short_arm_changes_what_it_says_and_nothing_else,
    ),
    "the nearest picture of any concept": (
        'scores.scatter_reduce_(1, place.expand(len(test), -1), -distance, "amax")',
        'scores.scatter_reduce_(1, place.expand(len(test), -1), -distance, "amin")',
        experiment.test_nearest_pixels_equal_a_slow_search,
    ),
    # variety
    "more artists, more pictures": (
        "everywhere & ~held & (style == order[place][concept]),",
        "everywhere & ~held & torch.isin(style, order),",
        experiment.test_training_by_few_artists_differs_in_their_number_only,
    ),
    "concepts of the test in training": (
        "everywhere & ~held & (style == order[place][concept]),",
        "everywhere & (style == order[place][concept]),",
        experiment.test_training_by_few_artists_differs_in_their_number_only,
    ),
    "concepts that some artists did not draw": (
        "everywhere = concept.bincount(minlength=len(CONCEPTS))[concept] == styles",
        "everywhere = concept >= 0",
        experiment.test_training_by_few_artists_differs_in_their_number_only,
    ),
    "the held-out artist among the few": (
        "order = order[order != tested][:artists]",
        "order = order[:artists]",
        experiment.test_training_by_few_artists_differs_in_their_number_only,
    ),
    "the same artists for every seed": (
        "order = torch.randperm(styles, generator=draw)\n",
        "order = torch.arange(styles)\n",
        experiment.test_training_by_few_artists_differs_in_their_number_only,
    ),
    "in style and shifted exchanged": (
        "return [accuracy(model, indices) for indices in tests]",
        "return [accuracy(model, indices) for indices in tests[::-1]]",
        experiment.test_a_run_of_few_artists_is_tested_in_style_and_shifted,
    ),
    "the line through networks with all artists": (
        'arms += [("labels", 1, pairs) for pairs in S.line_pairs]',
        'arms += [("labels", ARTISTS[-1], pairs) for pairs in S.line_pairs[:-1]]',
        experiment.test_the_line_is_that_of_supervised_networks_with_one_artist,
    ),
    "a line on plain axes": (
        "return np.log(p / (1 - p))",
        "return p",
        experiment.test_effective_robustness_is_zero_on_the_line_and_height_above_it,
    ),
    "robustness upside down": (
        "return shifted - 100 / (1",
        "return -shifted + 100 / (1",
        experiment.test_effective_robustness_is_zero_on_the_line_and_height_above_it,
    ),
    "a prior that is left out of the choice": (
        "else scores - prior for rule in RULES",
        "else scores for rule in RULES",
        experiment.test_scores_that_are_made_once_are_those_of_each_rule,
    ),
    # what is read
    "pairs at the next look": (
        "return before + (pairs - before) * (level - low) / (value - low)",
        "return pairs",
        experiment.test_the_factor_is_that_of_pairs_at_equal_heights,
    ),
    "a factor that is never below one": (
        "return max(1, pairs_to_reach(second, ends[0])) / max(first)",
        "return 1.0",
        experiment.test_the_factor_is_that_of_pairs_at_equal_heights,
    ),
    "a slope on plain axes": (
        "return np.polyfit(np.log(x), np.log(y), 1)[0].tolist()",
        "return np.polyfit(x, y, 1)[0].tolist()",
        experiment.test_the_exponent_of_a_power_law_is_found,
    ),
}

# Plausible mistakes that no test catches: (right, wrong, why).
SURVIVORS = {
    "looks at the validation style during the main run": (
        'return {"r5": retrieve(model, parts, test)[5], "s": model',
        'return {"r5": retrieve(model, parts, parts.twins)[5], "s": model',
        "the curve of a figure; no claim and no choice rests on it",
    ),
    "prior of words from the names": (
        "prior = torch.zeros_like(LOG_PRIOR) if log_prior is None else log_prior",
        "prior = torch.zeros_like(LOG_PRIOR) if log_prior is None else LOG_PRIOR",
        "the same: the only prior that any arm is given is that of all captions",
    ),
}

IMPORTS = """
import math, warnings
from types import SimpleNamespace
import numpy as np
import torch
from labutils import evaluation, models
from labutils.augment import views
from labutils.data import emoji
from labutils.training import cosine_schedule, train
"""


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("clip", experiment.TAGS, IMPORTS)


def module_with(source, right, wrong, mistake):
    return experiment.finish(mutants.module_with(source, right, wrong, mistake, experiment.given()))


@pytest.mark.parametrize("mistake", [*MUTATIONS, *EXPERIMENT])
def test_mistake_is_caught(source, mistake):
    right, wrong, test = (MUTATIONS | EXPERIMENT)[mistake]
    mutant = module_with(source, right, wrong, mistake)
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(mutant)


def test_without_a_mistake_nothing_is_caught(source):
    for test in dict.fromkeys(test for _, _, test in [*MUTATIONS.values(), *EXPERIMENT.values()]):
        test(module_with(source, "def clip_loss(", "def clip_loss(", "no mistake"))


def test_most_mistakes_of_the_experiment_are_caught():
    assert len(EXPERIMENT) >= 0.9 * (len(EXPERIMENT) + len(SURVIVORS))
