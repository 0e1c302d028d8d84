"""Plausible mistakes in the RS2 chapter's technique cells, each of which a test must catch."""

import sys
import types
from pathlib import Path

import pytest

from press import notebooks

sys.path.insert(0, str(Path(__file__).parent))  # whatever the import mode of pytest
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
        "torch.minimum(nearest, (features - features[last]).square().sum(1))",
        "(features - features[last]).square().sum(1)",
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
        "left[chosen[k]] = torch.inf",
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


@pytest.fixture(scope="module")
def source():
    """The technique cells and the imports that they need, as one text."""
    cells = notebooks.code_cells(notebooks.read(notebooks.path("rs2")))
    technique = [cell["source"] for _, cell in cells if "technique" in notebooks.tags(cell)]
    return "import torch\nimport torch.nn.functional as F\n\n" + "\n\n".join(technique)


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_is_caught(source, mistake):
    right, wrong, test = MUTATIONS[mistake]
    assert source.count(right) == 1, "the technique cell was rewritten: rewrite this mistake too"
    mutant = types.ModuleType("mutant")
    exec(compile(source.replace(right, wrong), f"rs2 with {mistake}", "exec"), vars(mutant))
    with pytest.raises(AssertionError):
        test(mutant)
