"""Pretrained networks that come with the book: SimCLR on Fashion-MNIST, without labels.

The chapter on SimCLRv2 made them (``python -m studies.pretrain_simclr``). They have seen nearly all
training and validation images of Fashion-MNIST, none of its labels, and no test image.
"""

import json

import numpy as np
import torch
from torch import Tensor

from labutils import models
from labutils.data.download import ASSETS

NUM_SIMCLR = 12  # pretrainings whose widest encoder is there


def simclr_weights(start: str) -> dict[str, Tensor]:
    """The weights whose names begin with `start`, by the rest of their names; {} if there are none.

    Names are ``SEED/PRETRAINING/PART.NAME``, where part 0 is the encoder and part 1 the projection
    head, for example ``3/width 16/0.conv1.weight``. float32, stored as float16.
    """
    with np.load(ASSETS / "simclr-fashion-mnist.npz") as arrays:
        names = [name for name in arrays.files if name.startswith(start)]
        return {n.removeprefix(start): torch.from_numpy(arrays[n]).float() for n in names}


def simclr_scores() -> dict[int, dict[str, dict[float, list[float]]]]:
    """What the chapter's rates and penalties scored on validation images when they were tried.

    {labels per class: {arm: {value: [percent right, one per label draw]}}}.
    """
    record = json.loads((ASSETS / "simclr-fashion-mnist.json").read_text("utf-8"))
    return {
        int(count): {arm: {float(v): row for v, row in rows.items()} for arm, rows in arms.items()}
        for count, arms in record["scores"].items()
    }


def simclr_encoder(seed: int) -> models.Classifier:
    """A frozen encoder in evaluation mode, on the CPU; seeds take `NUM_SIMCLR` of them in turns.

    `features` turns images (N, 1, 28, 28) in 0..1 into (N, 64). The last layer is not trained.
    """
    state = simclr_weights(f"{seed % NUM_SIMCLR}/width 16/0.")
    encoder = models.build("resnet-16-32-64", 1, 10, torch.Generator())
    rest = {"classifier.weight", "classifier.bias"}  # and counters, which nothing reads
    missing, unexpected = encoder.load_state_dict(state, strict=False)
    unknown = {name for name in missing if not name.endswith("num_batches_tracked")} - rest
    if unexpected or unknown:
        raise RuntimeError(f"the shipped networks do not fit: {[*unexpected, *sorted(unknown)]}")
    return encoder.eval().requires_grad_(False)
