"""How good is a network, and how good are its frozen features? On plain tensors.

:func:`predict` and :func:`frozen_features` turn inputs into rows without gradients; everything else
takes rows ``(N, d)`` and labels ``(N,)``, wherever they come from.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from labutils import checks


@torch.inference_mode()
def predict(function: Callable[[Tensor], Tensor], inputs: Tensor, batch_size: int = 1000) -> Tensor:
    """`function` over `inputs` (N, ...) in batches, without gradients: rows (N, d) in float32.

    The result is an inference tensor: `.clone()` it before a layer is trained on it.
    """
    return torch.cat([function(batch).float() for batch in inputs.split(batch_size)])


def frozen_features(
    encoder: nn.Module, inputs: Tensor, *, function: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """:func:`predict` with ``encoder``, or a ``function`` of it, in evaluation mode.

    For example ``function=encoder.features``. Neither weights nor batch statistics change, and
    every module keeps the mode that it had.
    """
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        return predict(function or encoder, inputs)
    finally:
        for module, training in modes.items():
            module.training = training


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """Percent of rows of ``scores`` (N, C) whose largest entry is at ``labels`` (N,)."""
    checks.fit("scores (N, C), labels int (N,)", scores, labels)
    if not len(labels) or scores.isnan().any():
        raise ValueError(f"accuracy expects rows of scores without NaN, got {tuple(scores.shape)}")
    return 100.0 * (scores.argmax(1) == labels).sum().item() / len(labels)


def accuracy_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Percent of `inputs` (N, C, H, W) that `model` puts into their `labels` (N,)."""
    return accuracy(frozen_features(model, inputs), labels)


def linear_probe(
    features: Tensor, labels: Tensor, *, strength: float = 1.0
) -> Callable[[Tensor], Tensor]:
    """Fit multinomial logistic regression (scikit-learn, L-BFGS); return features -> logits.

    features: float ``(N, d)``; labels: int64 ``(N,)``, 0 and up; there are as many logits as the
    largest label says. A class without an example is never predicted (its logit is -inf). strength:
    scikit-learn's ``C``, the inverse of the L2 penalty on the sum of the losses. Every feature is
    scaled by its mean and standard deviation over these examples (a constant one is only shifted).

    Raises scikit-learn's ValueError for shapes that do not fit, features that are not finite, or a
    single class.
    """
    from sklearn.linear_model import LogisticRegression

    checks.fit("labels int (N,), strength > 0.0", labels, strength)
    if (labels < 0).any():
        raise ValueError(f"linear_probe expects labels 0 and up, got {labels.min()}")
    features = features.detach().float()
    mean, std = features.mean(0), features.std(0, correction=0)
    std = torch.where(std > 1e-6, std, 1.0)

    def scaled(features: Tensor) -> np.ndarray:
        return ((features.float() - mean) / std).cpu().double().numpy()

    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(scaled(features), labels.cpu().numpy())

    def logits(features: Tensor) -> Tensor:
        result = mean.new_full((len(features), model.classes_[-1] + 1), -torch.inf)
        found = torch.from_numpy(model.predict_log_proba(scaled(features)))
        result[:, model.classes_] = found.to(result)
        return result

    return logits
