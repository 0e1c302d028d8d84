"""Networks for images of 28 to 32 pixels.

All models have one interface: ``model(x)`` gives logits ``(N, num_classes)``,
``model.features(x)`` the input ``(N, d)`` of the last layer; ``model.classifier`` is that layer,
so that ``model(x)`` equals ``model.classifier(model.features(x))``.

Models are made by :func:`build`, which draws the initial weights from a given generator.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labutils import checks


class Classifier(nn.Module):
    """Base of all models: logits are a linear layer on top of ``features``."""

    classifier: nn.Linear
    memory_format = torch.channels_last  # 1.15 to 1.45 times faster on a CPU, more with a GPU's AMP

    def features(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)``, floating point, to features ``(N, d)``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(N, C, H, W)``, floating point, to logits ``(N, num_classes)``."""
        checks.fit("images float (N, C, H, W)", x)
        return self.classifier(self.features(x))


class TinyCNN(Classifier):
    """The fastest useful network: one convolution of 7x7 patches, then two linear layers.

    The patches do not overlap, so that 28x28 pixels become 4x4 positions at once: on a CPU, every
    layer at high resolution costs more than all that follows. (Of 32x32 pixels, the last four rows
    and columns are not seen.) Batch normalisation stands only where it is cheap, after the hidden
    layer. ``features`` has ``d = 64``.
    """

    memory_format = torch.contiguous_format  # channels_last is slower on nets this small

    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.patches = nn.Conv2d(in_channels, 32, 7, stride=7)
        self.hidden = nn.Linear(32 * 4 * 4, 64, bias=False)
        self.bn = nn.BatchNorm1d(64)
        self.classifier = nn.Linear(64, num_classes)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.patches(x)).flatten(1)
        return F.relu(self.bn(self.hidden(x)))


class ResNet(Classifier):
    """Residual network with a 3x3 stem and no max-pooling (He et al. 2016, for small images).

    ``widths[i]`` channels in stage ``i`` with ``blocks`` blocks each (two 3x3 convolutions and a
    shortcut, their Figure 2); every stage but the first halves the resolution, and so does the stem
    when ``stem_stride`` is 2. Blocks, and the names of the parameters, are those of torchvision's
    ``resnet18``, except that the last layer is called ``classifier``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        widths: tuple[int, ...],
        blocks: int,
        stem_stride: int,
    ):
        from torchvision.models.resnet import BasicBlock, conv1x1  # two seconds to import

        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.num_stages = len(widths)
        channels = widths[0]
        for stage, width in enumerate(widths, start=1):
            layer = nn.Sequential()
            for block in range(blocks):
                stride, shortcut = 2 if stage > 1 and block == 0 else 1, None
                if stride > 1 or channels != width:
                    shortcut = nn.Sequential(
                        conv1x1(channels, width, stride), nn.BatchNorm2d(width)
                    )
                layer.append(BasicBlock(channels, width, stride, shortcut))
                channels = width
            self.add_module(f"layer{stage}", layer)
        self.classifier = nn.Linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(1, self.num_stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
        return x.mean(dim=(2, 3))


MODELS: dict[str, Callable[[int, int], Classifier]] = {
    "cnn-tiny": TinyCNN,
    "resnet-16-32-64": lambda c, k: ResNet(c, k, widths=(16, 32, 64), blocks=1, stem_stride=2),
    "resnet18": lambda c, k: ResNet(c, k, widths=(64, 128, 256, 512), blocks=2, stem_stride=1),
}


def build(name: str, in_channels: int, num_classes: int, generator: torch.Generator) -> Classifier:
    """Make the model ``name``, on the CPU, initialised from ``generator``.

    Names are the keys of :data:`MODELS`. The state of torch's global generator is left as it was.
    Raises ``ValueError`` for an unknown name.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}; expected one of: {', '.join(MODELS)}")
    checks.fit("in_channels >= 1, num_classes >= 1", in_channels, num_classes)
    with torch.random.fork_rng(devices=[]):  # layers draw from the global generator when made
        model = MODELS[name](in_channels, num_classes)
    initialise(model, generator)
    return model.to(memory_format=model.memory_format)  # type: ignore[call-overload]


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights of ``model`` anew from ``generator`` (a CPU generator), in place.

    Convolutions: normal with variance 2 / fan-out (He et al. 2015, equation 14). Linear layers:
    uniform in +-1/sqrt(fan-in), biases zero. Batch normalisation: scale one, shift zero.
    """
    checks.fit("model, generator", model, generator)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(
                module.weight, mode="fan_out", nonlinearity="relu", generator=generator
            )
        elif isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            nn.init.uniform_(module.weight, -bound, bound, generator=generator)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.ones_(module.weight)
        bias = getattr(module, "bias", None)
        if isinstance(bias, nn.Parameter):
            nn.init.zeros_(bias)
