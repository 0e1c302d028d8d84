"""How good is a network, and how good are its frozen features? On plain tensors.

:func:`predict` and :func:`frozen_features` turn inputs into rows without gradients; everything else
takes rows ``(N, d)`` and labels ``(N,)``, wherever they come from.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


@torch.inference_mode()
def predict(function: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = 1000) -> Tensor:
    """`function` over `inputs` (N, ...) in batches, without gradients: rows (N, d) in float32.

    The result is an inference tensor: `.clone()` it before a layer is trained on it.
    """
    return torch.cat([function(batch).float() for batch in inputs.split(batch_size)])


def frozen_features(
    encoder: nn.Module,
    inputs: Tensor,
    *,
    function: Callable[[Tensor], Tensor] | None = None,
    batch_size: int = 1000,
) -> Tensor:
    """:func:`predict` with ``encoder``, or a ``function`` of it, in evaluation mode.

    For example ``function=encoder.features``. Neither weights nor batch statistics change, and
    every module keeps the mode that it had.
    """
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        return predict(function or encoder, inputs, batch_size)
    finally:
        for module, training in modes.items():
            module.training = training


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percent of rows of ``scores`` (N, C) whose largest entry is at ``labels`` (N,)."""
    return 100.0 * (scores.argmax(1) == labels).sum().item() / len(labels)


def accuracy_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Percent of `inputs` (N, C, H, W) that `model` puts into their `labels` (N,)."""
    return accuracy(frozen_features(model, inputs), labels)


def linear_probe(
    features: Tensor,
    labels: Tensor,
    *,
    num_classes: int | None = None,
    strength: float = 1.0,
    standardise: bool = True,
    max_iterations: int = 1000,
) -> Callable[[Tensor], Tensor]:
    """Fit multinomial logistic regression (scikit-learn, L-BFGS); return features -> logits.

    features: float ``(N, d)``; labels: int64 ``(N,)`` in 0..num_classes-1 (default: the largest
    label + 1). A class without an example is never predicted (its logit is -inf). strength:
    scikit-learn's ``C``, the inverse of the L2 penalty on the sum of the losses. standardise: scale
    every feature by its mean and standard deviation over these examples (a constant feature is only
    shifted).

    Raises ValueError for shapes that do not fit, features that are not finite, or a single class.
    """
    from sklearn.linear_model import LogisticRegression

    _check(features, labels)
    present = labels.unique()
    num_classes = int(labels.max()) + 1 if num_classes is None else num_classes
    if len(present) < 2 or int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise ValueError(
            f"linear_probe expects labels of at least 2 classes in 0..{num_classes - 1}, "
            f"got {present.tolist()}"
        )
    features = features.detach().float()
    mean, std = torch.zeros_like(features[0]), torch.ones_like(features[0])
    if standardise:
        mean, std = features.mean(0), features.std(0, correction=0)
        std = torch.where(std > 1e-6, std, 1.0)
    inputs = ((features - mean) / std).cpu().double().numpy()
    model = LogisticRegression(C=strength, max_iter=max_iterations)
    model.fit(inputs, labels.cpu().numpy())
    rows, shift = model.coef_, model.intercept_
    if len(present) == 2:  # scikit-learn keeps one row for two classes
        rows, shift = np.concatenate([-rows, rows]) / 2, np.concatenate([-shift, shift]) / 2
    weight = features.new_zeros(num_classes, features.shape[1])
    bias = features.new_full((num_classes,), -torch.inf)  # a class never seen is never predicted
    weight[present] = torch.from_numpy(rows).float().to(weight.device)
    bias[present] = torch.from_numpy(shift).float().to(bias.device)
    return lambda features: ((features.float() - mean) / std) @ weight.T + bias


def _check(features: Tensor, labels: Tensor) -> None:
    if features.ndim != 2 or labels.ndim != 1 or len(features) != len(labels) or not len(labels):
        raise ValueError(
            f"expected features (N, d) and labels (N,) with N >= 1, got {tuple(features.shape)} "
            f"and {tuple(labels.shape)}"
        )
    if not features.isfinite().all():
        raise ValueError("expected finite features; some are NaN or infinite")
