"""How DDFA's steps after the network grow: discretise, factorise and adjust on many examples.

Measures the chapter's own `ddfa` and `predict` on synthetic domain posteriors, one thread, each
measurement in a process of its own, so that its peak memory is its own. Seconds are without the
making of the data; memory is with it, and with Python and its libraries.

Run ``python -m benchmarks.lls_scaling`` (or ``make bench``) on a quiet machine. It writes
``lls_scaling.json`` beside this file and the table and figure of the book page.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULT = HERE / "lls_scaling.json"
GENERATED = HERE.parent / "book" / "generated"

NUM_CLASSES = 20
# The point that the others vary: a million examples, fifty domains.
BASE = {"n": 1_000_000, "r": 50, "m": 60}
GROWTH = {
    "n": [10_000, 30_000, 100_000, 300_000, 1_000_000],
    "m": [20, 60, 120, 240],
    "r": [20, 50, 100, 200],
}
LIMITS = {"seconds": 30.0, "memory_gb": 4.0}  # at BASE


def synthetic(n: int, r: int, seed: int = 0):
    """Posteriors float32 (n, r) near NUM_CLASSES corners, and domain ids drawn from them."""
    import numpy as np

    rng = np.random.default_rng(seed)
    corners = rng.dirichlet(np.full(r, 0.3), NUM_CLASSES).astype(np.float32)
    posteriors = np.empty((n, r), np.float32)
    ids = np.empty(n, np.int64)
    for start in range(0, n, 50_000):
        part = slice(start, min(start + 50_000, n))
        size = part.stop - part.start
        mixing = rng.dirichlet(np.full(NUM_CLASSES, 0.05), size).astype(np.float32)
        posteriors[part] = mixing @ corners
        draws = rng.random((size, 1), dtype=np.float32)
        ids[part] = (posteriors[part].cumsum(1) < draws).sum(1).clip(max=r - 1)
    posteriors /= posteriors.sum(1, keepdims=True)
    return posteriors, ids


def measure_here(n: int, r: int, m: int) -> dict:
    """Seconds of `ddfa` and of `predict`, and the peak memory of this process in GB."""
    import numpy as np

    from press import technique

    lls = technique.load("lls")
    posteriors, ids = synthetic(n, r)
    lls.ddfa(posteriors[:2000], np.arange(2000) % r, 2, 4)  # loads what loads late
    started = time.perf_counter()
    model = lls.ddfa(posteriors, ids, NUM_CLASSES, m)
    fitted = time.perf_counter()
    model.predict(posteriors, ids)
    done = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return {
        "n": n, "r": r, "m": m,
        "fit_s": round(fitted - started, 3), "predict_s": round(done - fitted, 3),
        "seconds": round(done - started, 3), "memory_gb": round(peak * unit / 1e9, 3),
    }  # fmt: skip


def measure(point: dict) -> dict:
    """`measure_here` in a fresh process with one thread."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, "-m", "benchmarks.lls_scaling", "--point", json.dumps(point)]
    done = subprocess.run(
        command, env={**os.environ, **threads}, cwd=HERE.parent, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the measurement of {point} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_all(growth: dict = GROWTH, base: dict = BASE) -> dict:
    """All measurements, the base point once."""
    import sklearn

    measured: dict[str, dict] = {}
    curves: dict[str, list] = {}
    for name, values in growth.items():
        for value in values:
            point = {**base, name: value}
            key = json.dumps(point)
            if key not in measured:
                measured[key] = measure(point)
                print(measured[key], flush=True)
            curves.setdefault(name, []).append(measured[key])
    return {
        "what": "seconds and memory of discretise, factorise and adjust, by n, m and r",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, one used",
        "python": platform.python_version(),
        "scikit_learn": sklearn.__version__,
        "classes": NUM_CLASSES,
        "base": measure(base) if json.dumps(base) not in measured else measured[json.dumps(base)],
        "limits": LIMITS,
        "curves": curves,
    }


def render(result: dict) -> str:
    """The sentence of the book page that states the base point."""
    base = result["base"]
    return (
        f"One million examples, {base['r']} domains, {base['m']} cells and {result['classes']} "
        f"classes take {base['seconds']:.1f} s ({base['fit_s']:.1f} s to fit, "
        f"{base['predict_s']:.1f} s to predict) and {base['memory_gb']:.1f} GB at most, data "
        f"included. {result['machine']}; scikit-learn {result['scikit_learn']}, "
        f"Python {result['python']}; {result['date']}.\n"
    )


def write_page(result: dict, folder: Path = GENERATED) -> None:
    """Draw the figure and write the sentence into `folder`."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    names = {"n": "examples n", "m": "cells m", "r": "domains r"}
    plt.rcParams["svg.hashsalt"] = "learning-from-less"
    fig, axes = plt.subplots(1, 3, figsize=(9, 2.8), layout="constrained", facecolor="white")
    for ax, (name, points) in zip(axes, result["curves"].items(), strict=True):
        x = [p[name] for p in points]
        ax.plot(x, [p["seconds"] for p in points], color="#0072B2", marker="o", label="seconds")
        ax.plot(x, [p["memory_gb"] for p in points], color="#D55E00", marker="s", label="GB")
        ax.set(xscale="log", yscale="log", xlabel=names[name])
        ax.set_xticks(x, [f"{v:,}" if v < 10_000 else f"{v / 1000:,.0f} k" for v in x], fontsize=8)
        ax.minorticks_off()
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("seconds, or GB")
    axes[0].legend(frameon=False, fontsize=8)
    fig.savefig(folder / "lls_scaling.svg", metadata={"Date": None})
    plt.close(fig)
    (folder / "lls_scaling.md").write_text(render(result), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--point", help=argparse.SUPPRESS)
    parser.add_argument("--page", action="store_true", help="draw the stored result anew")
    options = parser.parse_args()
    if options.point:
        print(json.dumps(measure_here(**json.loads(options.point))))
        return
    if not options.page:
        RESULT.write_text(json.dumps(measure_all(), indent=1) + "\n", encoding="utf-8")
    write_page(json.loads(RESULT.read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
