"""Plausible mistakes in the LLS chapter's technique and experiment, which a test must catch."""

import sys
from pathlib import Path

import mutants
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
import test_lls_experiment as experiment
import test_lls_recovery as recovery
import test_lls_sampler as sampler

MUTATIONS = {
    # Drawing
    "alpha is that of each coordinate": (
        "np.full(num_classes, alpha / num_classes)",
        "np.full(num_classes, alpha)",
        lambda lls: sampler.test_shares_are_dirichlet_with_total_concentration_alpha(lls, 4, 3.0),
    ),
    "the order gives the classes away": (
        "order = rng.permutation(counts.sum())",
        "order = np.arange(counts.sum())",
        sampler.test_the_order_does_not_give_the_classes_away,
    ),
    "test images in training": (
        "world = World(images[chosen], ids,",
        "world = World(test_images[chosen], ids,",
        experiment.test_a_world_is_drawn_from_its_own_split_and_the_truth_belongs_to_it,
    ),
    "labels stand for domains": (
        "torch.as_tensor(ids), torch.as_tensor(test_ids)",
        "torch.as_tensor(labels[chosen]), torch.as_tensor(test_ids)",
        experiment.test_a_world_is_drawn_from_its_own_split_and_the_truth_belongs_to_it,
    ),
    "test domains drawn from the training pool": (
        "draw_domains(test_labels, marginals, rng, sizes)",
        "draw_domains(labels, marginals, rng, sizes)",
        experiment.test_a_world_is_drawn_from_its_own_split_and_the_truth_belongs_to_it,
    ),
    "test domains with other shares": (
        "draw_domains(test_labels, marginals, rng, sizes)",
        "draw_domains(test_labels, marginals[:, ::-1], rng, sizes)",
        experiment.test_a_world_is_drawn_from_its_own_split_and_the_truth_belongs_to_it,
    ),
    "one draw of shares for all seeds": (
        "rng = np.random.default_rng(seed)\n    marginals =",
        "rng = np.random.default_rng(0)\n    marginals =",
        experiment.test_every_seed_draws_other_shares,
    ),
    "super-classes are not joined in the test set": (
        "labels, test_labels = classes[train.labels.numpy()], classes[test.labels.numpy()]",
        "labels, test_labels = classes[train.labels.numpy()], test.labels.numpy()",
        experiment.test_super_classes_join_the_garments_that_the_table_names,
    ),
    # Training
    "the last weights instead of the best": (
        'net.load_state_dict(best["weights"])',
        "pass",
        experiment.test_the_best_weights_are_kept_and_not_the_last_or_the_first,
    ),
    "the best loss is never remembered": (
        "best.update(loss=loss, weights",
        "best.update(weights",
        experiment.test_the_best_weights_are_kept_and_not_the_last_or_the_first,
    ),
    "a reference to the weights, which train on": (
        "{k: v.clone() for k, v in net.state_dict().items()}",
        "net.state_dict()",
        experiment.test_the_best_weights_are_kept_and_not_the_last_or_the_first,
    ),
    "the held-out tenth is trained on": (
        "order[len(order) // 10 :]",
        "order",
        experiment.test_the_images_that_choose_the_weights_are_not_trained_on,
    ),
    "every seed starts from the same weights": (
        "net = models.build(S.model, world.images.shape[1], num_domains, streams.initialisation)",
        "net = models.build(\n"
        "        S.model, world.images.shape[1], num_domains, lab.streams(0).initialisation\n    )",
        experiment.test_a_network_learns_training_images_and_their_domains_and_nothing_else,
    ),
    "trained on the test images": (
        "num_domains, streams.initialisation)\n"
        "    images, ids = world.images.to(lab.device), world.domain_ids.to(lab.device)",
        "num_domains, streams.initialisation)\n"
        "    images, ids = world.test_images.to(lab.device), world.test_domain_ids.to(lab.device)",
        experiment.test_a_network_learns_training_images_and_their_domains_and_nothing_else,
    ),
    "test posteriors are those of training images": (
        "parts = images, world.test_images.to(lab.device)\n    with threadpool_limits(1):  # more",
        "parts = images, images\n    with threadpool_limits(1):  # more",
        experiment.test_a_network_learns_training_images_and_their_domains_and_nothing_else,
    ),
    "features are shifted like images": (
        ' | {"padding": 0}',
        "",
        experiment.test_features_are_not_shifted_and_their_seeds_differ,
    ),
    "the test features train the discriminator": (
        "initialise(net, streams.initialisation)\n"
        "    images, ids = world.images.to(lab.device), world.domain_ids.to(lab.device)",
        "initialise(net, streams.initialisation)\n"
        "    images, ids = world.test_images.to(lab.device), world.test_domain_ids.to(lab.device)",
        experiment.test_features_are_not_shifted_and_their_seeds_differ,
    ),
    "a hidden layer that starts alike for every seed": (
        "models.initialise(net, streams.initialisation)",
        "models.initialise(net, torch.Generator().manual_seed(0))",
        experiment.test_features_are_not_shifted_and_their_seeds_differ,
    ),
    "the encoder sees pixels up to 255": (
        "batch.to(lab.device).float() / 255))",
        "batch.to(lab.device).float()))",
        experiment.test_features_are_those_of_the_shipped_encoder_and_of_unit_length,
    ),
    "features of any length": (
        "return F.normalize(net.features(",
        "return (net.features(",
        experiment.test_features_are_those_of_the_shipped_encoder_and_of_unit_length,
    ),
    "one encoder for all seeds": (
        "shipped.simclr_encoder(seed)",
        "shipped.simclr_encoder(0)",
        experiment.test_features_are_those_of_the_shipped_encoder_and_of_unit_length,
    ),
    "more examples than promised in some domains": (
        "(domains == d).nonzero().flatten()[:size]",
        "(domains == d).nonzero().flatten()[: size + int(d > 1)]",
        experiment.test_few_examples_are_few_in_every_domain,
    ),
    # Steps
    "SPA without pseudo-examples": (
        "pseudo = 0.1 * sizes.mean()",
        "pseudo = 0.0",
        experiment.test_small_cells_believe_the_network,
    ),
    "pseudo-examples spread evenly": (
        "rows = (counts + pseudo * means)",
        "rows = (counts + pseudo / counts.shape[1])",
        experiment.test_small_cells_believe_the_network,
    ),
    "class sizes from the corners alone": (
        "class_sizes = (sizes * mixtures).sum(0)",
        "class_sizes = mixtures.sum(0)",
        recovery.test_exact_shares_and_bayes_in_200_random_worlds,
    ),
    "SPA removes directions of the wrong length": (
        "direction = rest[corner] / lengths[corner]",
        "direction = rest[corner]",
        lambda lls: recovery.test_successive_projection_agrees_with_the_slow_version(lls, 0),
    ),
    "domain weights ignored": (
        "(p_y_given_d * domain_weights).T",
        "(p_y_given_d * np.ones(len(domain_weights))).T",
        recovery.test_exact_shares_and_bayes_in_200_random_worlds,
    ),
    # Arms
    "domain weights ignored by the arms": (
        "weights = counts.sum(0) / len(ids)",
        "weights = np.full(counts.shape[1], 1 / counts.shape[1])",
        experiment.test_ddfa_on_exact_posteriors_is_bayes_with_and_without_the_domain,
    ),
    "the factorisers exchanged": (
        'for name in ("SPA", "NMF")\n    }',
        'for name in ("SPA", "NMF")\n    } and {\n        name: DDFA(FACTORISERS['
        '{"SPA": "nmf", "NMF": "spa"}[name]](counts, means, num_classes, seed), weights)\n'
        '        for name in ("SPA", "NMF")\n    }',
        experiment.test_each_arm_has_its_own_factoriser,
    ),
    "no prior uses the domain": (
        'found[f"{arm}, no prior"] = model.predict(test_f).argmax(1)',
        'found[f"{arm}, no prior"] = model.predict(test_f, test_ids).argmax(1)',
        experiment.test_ddfa_on_exact_posteriors_is_bayes_with_and_without_the_domain,
    ),
    "the prior dropped from DDFA": (
        "found[arm] = model.predict(test_f, test_ids).argmax(1)\n        found[f",
        "found[arm] = model.predict(test_f).argmax(1)\n        found[f",
        experiment.test_ddfa_on_exact_posteriors_is_bayes_with_and_without_the_domain,
    ),
    "the prior dropped from posterior k-means": (
        "as_classes.predict(test_f, test_ids)",
        "as_classes.predict(test_f)",
        experiment.test_the_posterior_control_is_the_same_adjustment_on_its_own_clusters,
    ),
    "posterior k-means with equal domains": (
        "as_classes = DDFA(columns_to_one(counts), counts.sum(0) / counts.sum())",
        "as_classes = DDFA(columns_to_one(counts), np.ones(counts.shape[1]))",
        experiment.test_the_posterior_control_is_the_same_adjustment_on_its_own_clusters,
    ),
    "clusters of the test posteriors": (
        "clusters = discretise(f, num_classes, seed)",
        "clusters = discretise(test_f, num_classes, seed)",
        experiment.test_no_arm_looks_at_other_test_images,
    ),
    "the prior dropped from pixel cells": (
        "[cells.predict(test_z)] * share.T[test_ids]",
        "[cells.predict(test_z)]",
        experiment.test_pixel_cells_on_separate_inputs_are_bayes,
    ),
    "pixel cells by one factoriser": (
        "share = FACTORISERS[name.lower()](counts, means, num_classes, seed)\n        mixing",
        'share = FACTORISERS["spa"](counts, means, num_classes, seed)\n        mixing',
        experiment.test_each_arm_has_its_own_factoriser,
    ),
    "cells fitted to the test set as well": (
        "cells = KMeans(num_cells, n_init=5, random_state=seed).fit(z)",
        "cells = KMeans(num_cells, n_init=5, random_state=seed).fit(np.concatenate([z, test_z]))\n"
        "    cells.labels_ = cells.labels_[: len(z)]",
        experiment.test_no_arm_looks_at_other_test_images,
    ),
    "components of the test pixels": (
        "random_state=seed).fit(pixels)",
        "random_state=seed).fit(test_pixels)",
        experiment.test_no_arm_looks_at_other_test_images,
    ),
    "the prior dropped from k-means + prior": (
        "(log_density + np.log(given[names] + 1e-9).T[test_ids])",
        "log_density",
        experiment.test_k_means_with_the_prior_takes_the_shares_of_ddfa,
    ),
    "features factorised by the other": (
        'found[f"feature cells, {name}"], shares[f"feature cells, {name}"] = arm',
        'other = {"SPA": "NMF", "NMF": "SPA"}[name]\n'
        '        found[f"feature cells, {other}"], shares[f"feature cells, {other}"] = arm',
        experiment.test_the_arms_on_features_cluster_the_features,
    ),
    "features of other images": (
        "world.images = features[hidden.indices]",
        "world.images = features[: len(hidden.indices)]",
        experiment.test_features_stand_for_the_images_of_the_world,
    ),
    "supervised without the domain's prior": (
        "(test_q_y * true.T[test_ids]).argmax(1)",
        "test_q_y.argmax(1)",
        experiment.test_the_references_are_exact_when_the_supervised_network_is,
    ),
    "the reference f without class weights": (
        "((q * weight) @ q_d_given_y)",
        "(q @ q_d_given_y)",
        experiment.test_the_references_are_exact_when_the_supervised_network_is,
    ),
    "labels help the arm that must not have them": (
        'arm = f"supervised f, {name}"',
        'arm = f"DDFA, {name}"',
        experiment.test_the_references_are_exact_when_the_supervised_network_is,
    ),
    # Scoring and claims
    "names from the half that is scored": (
        "match_classes(found[half != this], labels[half != this], num_classes)",
        "match_classes(found[half == this], labels[half == this], num_classes)",
        experiment.test_crossed_accuracy_takes_the_names_from_the_other_half,
    ),
    "shares scored without their names": (
        "share_error(shares[arm], hidden.marginals, names)",
        "share_error(shares[arm], hidden.marginals, np.arange(k))",
        experiment.test_scores_are_those_of_the_whole_test_set_with_one_renaming,
    ),
    "a guess of the mean shares": (
        "np.abs(hidden.marginals - 1 / k)",
        "np.abs(hidden.marginals - hidden.marginals.mean(1, keepdims=True))",
        experiment.test_scores_are_those_of_the_whole_test_set_with_one_renaming,
    ),
    "a comparison forgets its seed": (
        "found, shares, posteriors = discover(world, to_input, len(hidden.marginals), seed)",
        "found, shares, posteriors = discover(world, to_input, len(hidden.marginals), 0)",
        experiment.test_a_comparison_goes_through_all_worlds_of_its_seed,
    ),
    "every world is drawn by the first seed": (
        "world, hidden, to_input = make_world(pool, r, alpha, cap, seed)\n        found",
        "world, hidden, to_input = make_world(pool, r, alpha, cap, 0)\n        found",
        experiment.test_a_comparison_goes_through_all_worlds_of_its_seed,
    ),
    "seeds paired in the order of the rows": (
        "chosen.loc[list(lab.seeds), column]",
        "chosen[column]",
        experiment.test_seeds_are_paired_in_their_order,
    ),
    "the shift forgotten in a pairing": (
        "chosen = chosen[(chosen.alpha == alpha) & (chosen.arm == arm)]",
        "chosen = chosen[chosen.arm == arm].drop_duplicates('seed')",
        experiment.test_seeds_are_paired_in_their_order,
    ),
    "the weaker rival": (
        "return max(arms, key=lambda arm: per_seed",
        "return min(arms, key=lambda arm: per_seed",
        experiment.test_every_family_has_its_rival_and_the_stronger_one_where_there_are_two,
    ),
    "the factoriser chosen by test accuracy": (
        'else f"DDFA, {factoriser}"\n',
        'else better(*world, ["DDFA, SPA", "DDFA, NMF"])\n',
        lambda lls: experiment.test_a_claim_holds_the_values_of_its_two_arms(lls, "NMF"),
    ),
    "arms of a claim exchanged": (
        "arms = arm, rival_of(family, factoriser, world)",
        "arms = rival_of(family, factoriser, world), arm",
        lambda lls: experiment.test_a_claim_holds_the_values_of_its_two_arms(lls, "SPA"),
    ),
    "our factoriser's claims given to the paper": (
        'papers = factoriser == "NMF" and',
        "papers =",
        lambda lls: experiment.test_a_claim_holds_the_values_of_its_two_arms(lls, "SPA"),
    ),
    "a margin that is said and not asked": (
        'direction="greater", margin=margin,',
        'direction="greater", margin=0.0,',
        lambda lls: experiment.test_a_claim_holds_the_values_of_its_two_arms(lls, "NMF"),
    ),
    "noise without a shuffle": (
        "spectrum(cells, shuffled, f)",
        "spectrum(cells, ids, f)",
        experiment.test_a_wrong_number_of_classes_is_found_by_shuffling_the_domains,
    ),
}


@pytest.fixture(scope="module")
def source():
    return mutants.source_of("lls", ("technique", "experiment"))


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_is_caught(source, mistake):
    right, wrong, test = MUTATIONS[mistake]
    mutant = mutants.module_with(source, right, wrong, mistake, experiment.given())
    with pytest.raises((AssertionError, IndexError)):
        test(mutant)
