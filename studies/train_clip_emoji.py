"""The small CLIP that labs on images and texts share: trained once, shipped with the book.

``python -m studies.train_clip_emoji`` learns merges and captions as the chapter on CLIP does, with
the chapter's own functions, tries rates and augmentations in short runs that emojione judges, and
trains with the best. It writes ``labutils/assets/clip-emoji.npz`` (float16) and its record. A
stopped run goes on. The styles that the record calls tested judge nothing before the network is
finished.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import math
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from labutils import clip_emoji, models
from labutils.augment import views
from labutils.data import emoji
from labutils.training import cosine_schedule, train
from press import technique

ASSETS = Path(__file__).parent.parent / "labutils" / "assets"
JUDGE = "emojione"  # chooses; the other styles that are not trained on are tested
SEED, UNSEEN_SHARE, MERGES, VARIANTS, BATCH = 0, 0.04, 4000, 48, 128
PAIRS, TRIED_PAIRS = 1_024_000, 64_000
MADE = ("lab", "DATA", "WHITE", "CONCEPTS", "FAMILY", "TOKENIZER", "CAPTIONS", "IN_TEMPLATES",
        "NAMES", "KIND", "LOG_PRIOR", "choices")  # fmt: skip
GENTLE = {"grey_probability": 0.05, "strength": 0.25}  # the chapter's
STRONG = {"grey_probability": 0.2, "strength": 0.5}
TRIED = [(2e-3, GENTLE), (1e-3, GENTLE), (4e-3, GENTLE), (2e-3, STRONG)]


def chapter(data):
    """The chapter's functions, for pictures `data`; its settings are those of `small`."""
    settings = SimpleNamespace(**technique.settings("clip", "small"))
    given = dict.fromkeys(MADE) | {"S": settings, "DATA": data}
    return technique.load("clip", tags=("technique", "experiment"), given=given)


def captions(code, concepts, generator) -> list[str]:
    """VARIANTS of each concept: names and keywords in turns, a third of them in a template."""
    plain = [code.caption(c, k, generator) for c in concepts for k in range(VARIANTS)]
    chosen = torch.randint(len(code.TEMPLATES), (len(plain),), generator=generator).tolist()
    return [
        code.TEMPLATES[t].format(text) if k // 2 % 3 == 0 else text
        for k, (t, text) in enumerate(zip(chosen, plain, strict=True))
    ]


class Study:
    """Pictures, captions and what is held out; `train` and `scores` on them."""

    def __init__(self):
        self.data = emoji.load(emoji.STYLES)
        self.white = emoji.on_background(self.data.rgba, (255, 255, 255))
        self.code, concepts = chapter(self.data), self.data.concepts
        words = [" ".join([c.name, *c.keywords]) for c in concepts]
        self.merges = list(self.code.learn_merges([*words, *self.code.TEMPLATES], MERGES))
        self.tokenizer = clip_emoji.Tokenizer(self.merges)
        draw = torch.Generator().manual_seed(SEED)
        family = torch.tensor([concept.family for concept in concepts])
        count = int(family.max()) + 1
        unseen = torch.randperm(count, generator=draw)[: round(UNSEEN_SHARE * count)]
        self.held_out = torch.isin(family, unseen)  # (concepts,)
        self.tokens = self.tokenizer(captions(self.code, concepts, draw))
        known = torch.isin(self.data.style, torch.tensor(self.styles(clip_emoji.STYLES)))
        self.indices = (known & ~self.held_out[self.data.concept]).nonzero()[:, 0]
        self.seen = self.data.concept[self.indices].bincount(minlength=len(concepts)) > 0

    def styles(self, names) -> list[int]:
        return [self.data.style_names.index(name) for name in names]

    def new_model(self, generator) -> clip_emoji.ClipEmoji:
        with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made
            model = clip_emoji.ClipEmoji(self.merges, self.seen)
        models.initialise(model, generator)
        nn.init.normal_(model.token_embedding.weight, std=0.02, generator=generator)
        nn.init.xavier_uniform_(model.block.self_attn.in_proj_weight, generator=generator)
        return model.to(memory_format=torch.channels_last)

    def train(self, pairs, rate, augmentation, checkpoint=None) -> clip_emoji.ClipEmoji:
        """The network after `pairs` pairs."""
        draw, steps = torch.Generator().manual_seed(SEED + 1), pairs // BATCH
        model = self.new_model(draw)
        recipe = dataclasses.replace(self.code.RECIPE, **augmentation)
        pictures = self.code.draw_batches(self.indices, steps, BATCH, draw)
        variants = torch.randint(VARIANTS, (steps, BATCH), generator=draw)

        def step_loss(chosen, variant):
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            images = views.random_view(self.white[chosen], recipe, draw)
            tokens = self.tokens[self.data.concept[chosen] * VARIANTS + variant]
            u = model.encode_image(255 * images)
            return self.code.clip_loss(u, model.encode_text(tokens), model.logit_scale.exp())

        train(
            model, step_loss, steps, self.code.optimiser(model, rate),
            cosine_schedule(rate, steps, warmup_steps=steps // 20), inputs=(pictures, variants),
            generators=[draw], checkpoint=checkpoint, checkpoint_seconds=60, description="pairs",
        )  # fmt: skip
        return model.eval()

    @torch.no_grad()
    def scores(self, model, style) -> dict[str, float]:
        """Percent right: names of seen concepts, and the chapter's kinds by their sentences.

        The names to choose from are those of all concepts outside the held-out families.
        """
        mine = self.data.style == self.data.style_names.index(style)
        concept, u = self.data.concept[mine], model.encode_image(self.white[mine])
        names = (~self.held_out).nonzero()[:, 0]
        v = model.encode_text(self.tokenizer([self.data.concepts[c].name for c in names]))
        asked, found = self.seen[concept], {"names": len(names)}
        right = concept[asked][:, None] == names
        for k in (1, 5):
            found[f"r{k}"] = 100 * self.code.recall_at_k(u[asked] @ v.T, right, k)
        kind = self.code.kinds_of(self.data.concepts)[concept]
        kinds = model.encode_text(self.tokenizer([line for _, line in self.code.KINDS.values()]))
        sorts = (u @ kinds.T).argmax(1) == kind
        found["kinds"] = 100 * sorts[(kind >= 0) & asked].double().mean().item()
        return {"pictures": int(asked.sum())} | {k: round(x, 2) for k, x in found.items()}


def choose(study, folder) -> list[dict]:
    """What short runs scored on the judge's pictures, the best first."""
    file = folder / "tried.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    for rate, augmentation in TRIED[len(rows) :]:
        model = study.train(TRIED_PAIRS, rate, augmentation)
        rows.append({"rate": rate, "augmentation": augmentation} | study.scores(model, JUDGE))
        print(rows[-1], flush=True)
        file.write_text(json.dumps(rows))
    return sorted(rows, key=lambda row: -row["r5"])


def pack(study, model, tried, seconds) -> dict:
    """Write the shipped file and its record."""
    arrays = {"merges": np.array(study.merges, dtype=np.int16), "seen": study.seen.numpy()}
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            arrays[name] = value.contiguous().numpy().astype(np.float16)
    path = ASSETS / f"{clip_emoji.NAME}.npz"
    np.savez_compressed(path, **arrays)
    record = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "command": "python -m studies.train_clip_emoji",
        "styles": {"trained": clip_emoji.STYLES, "chooses": JUDGE},
        "settings": {"seed": SEED, "pairs": PAIRS, "batch": BATCH, "merges": MERGES,
                     "variants": VARIANTS, "unseen_share": UNSEEN_SHARE}
        | {name: tried[0][name] for name in ("rate", "augmentation")},
        "tried": {"pairs": TRIED_PAIRS, "runs": tried},
        "held_out": [study.data.concepts[c].name for c in study.held_out.nonzero()[:, 0]],
        "kinds": study.code.KINDS,
        "templates": study.code.TEMPLATES,
        "cpu_seconds": round(seconds),
        "storage": "float16",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "torch": torch.__version__.split("+")[0],
    }  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    shipped = clip_emoji.load_clip()  # scores are those of what a reader gets
    record["scores"] = {style: study.scores(shipped, style) for style in emoji.STYLES}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("_build/clip-emoji"))
    folder = parser.parse_args().folder
    os.environ.setdefault("LABUTILS_HEADLESS", "1")
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    study = Study()
    tried, spent, started = choose(study, folder), folder / "seconds.json", time.process_time()
    model = study.train(PAIRS, tried[0]["rate"], tried[0]["augmentation"], folder / "clip.pt")
    seconds = json.loads(spent.read_text()) if spent.exists() else time.process_time() - started
    spent.write_text(json.dumps(seconds))
    record = pack(study, model, tried, seconds)
    print(f"{record['bytes']:,} bytes; {record['scores']}")


if __name__ == "__main__":
    main()
