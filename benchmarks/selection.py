"""Selection of training examples: the techniques of the chapter on RS2 beside compiled peers.

k-center greedy beside ``fpsample``, which is written in Rust and does the same, farthest point
first; and, as another way to cover the data with as many examples, facility location of
``submodlib``, written in C++, whose table of similarities is part of its work. DeepCore, where
papers take these methods from, is no package that can be installed, so it is not measured; nor is
there a packaged peer of herding and of scores, which stand alone in the table. `limit` reads all
features once for each example that is chosen.

Run ``python -m benchmarks.selection`` (or ``make bench``) on a quiet machine. It writes
``selection.json`` beside this file and the table of the book page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import sides
from press import technique

RESULT = Path(__file__).parent / "selection.json"
NUMBER, WIDTH, BUDGET, SMALLER = 20_000, 64, 500, 2_000  # a table of similarities has NUMBER^2
PEERS = {"fpsample": "fpsample", "submodlib": "submodlib-py"}  # module, package


def facility_location(features: torch.Tensor, budget: int) -> Callable:
    from submodlib import FacilityLocationFunction

    def run():
        function = FacilityLocationFunction(
            n=len(features), mode="dense", data=features.numpy(), metric="euclidean"
        )
        return function.maximize(budget, optimizer="LazyGreedy", show_progress=False)

    return run


def selections(number: int, budget: int, smaller: int) -> dict[str, dict[str, Callable]]:
    """{what: {side: a call that chooses `budget` examples}}."""
    chapter, generator = technique.load("rs2"), torch.Generator().manual_seed(0)
    features = torch.randn(number, WIDTH, generator=generator)
    logits, labels = features[:, :10].clone(), torch.randint(10, (number,), generator=generator)
    few = features[:smaller].clone()

    def k_center(x: torch.Tensor) -> Callable:
        return lambda: chapter.k_center_greedy(x, budget, generator)

    def once_each(x: torch.Tensor) -> Callable:
        return lambda: [x.sum() for _ in range(budget)]

    def highest(scores: Callable) -> Callable:
        return lambda: chapter.keep_highest(scores(), budget, generator)

    found = {
        f"k-center greedy, {number:,} examples": {
            "ours": k_center(features), "limit": once_each(features),
        },
        f"k-center greedy, {smaller:,}; the peer facility location": {
            "ours": k_center(few), "limit": once_each(few),
        },
        f"herding, {number:,} examples": {
            "ours": lambda: chapter.herding(features, budget), "limit": once_each(features),
        },
        f"the highest EL2N, {number:,}": {
            "ours": highest(lambda: chapter.el2n_scores(logits, labels))
        },
        f"the smallest margins, {number:,}": {
            "ours": highest(lambda: chapter.margin_scores(logits))
        },
    }  # fmt: skip
    first, second = list(found)[:2]
    if sides.installed("fpsample"):
        import fpsample

        array = features.numpy()
        found[first]["peer"] = lambda: fpsample.fps_sampling(array, budget)
    if sides.installed("submodlib"):
        found[second]["peer"] = facility_location(few, budget)
    return found


def measure(repetitions: int, number=NUMBER, budget=BUDGET, smaller=SMALLER) -> dict:
    """{"rows": {what: {side: seconds in each turn}}}."""
    sides.one_core()
    rows = {}
    for name, runs in selections(number, budget, smaller).items():
        rows[name] = sides.in_turns({s: sides.seconds(run) for s, run in runs.items()}, repetitions)
        print(name, flush=True)
    return {"budget": budget, "width": WIDTH, "rows": rows}


def render(result: dict) -> str:
    """The table of the book's page."""
    head = ["selection", "ours, seconds", "the peer's / ours", "ours / reading all features"]
    body = [
        [name, sides.spread(row["ours"], 3), sides.ratio(row.get("peer"), row["ours"]),
         sides.ratio(row["ours"], row.get("limit"))]
        for name, row in result["rows"].items()
    ]  # fmt: skip
    text = f"{result['budget']} examples chosen by features of width {result['width']}, one core. "
    return "\n".join([*sides.table(head, body), "", text + sides.origin(result), ""])


if __name__ == "__main__":
    sides.main("selection", measure, render, *PEERS.values(), repetitions=3)
