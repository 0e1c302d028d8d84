"""Contrastive training of a chapter on several devices, one process each.

Started by torchrun, for example on two GPUs::

    torchrun --nproc-per-node 2 -m studies.distributed simclrv2 --profile full

Loss and networks are the chapter's own technique cells. A contrastive loss compares all examples
of the global batch, so that features are gathered across the processes, with their gradients, and
batch normalisation takes its statistics over all of them. A global batch consists of `BLOCKS`
blocks with random numbers of their own: any number of processes that divides them sees the same.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.nn.functional as collective
from torch import Tensor, nn

from labutils import PROFILES, data, models
from labutils.augment import views
from labutils.training import cosine_schedule, train
from press import technique

BLOCKS = 8


# --- across processes -----------------------------------------------------------------------------


def gather(rows: Tensor) -> Tensor:
    """Rows (n, ...) of all processes in the order of their ranks, (world n, ...), with gradients.

    When every process computes the same loss of the result, the mean over processes of the
    gradients, which DistributedDataParallel takes, is the gradient of that loss.
    """
    return torch.cat(collective.all_gather(rows)) if dist.is_initialized() else rows


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes; on CPUs too.

    torch's SyncBatchNorm, which `use_global_statistics` takes on GPUs, exists for GPUs only. The
    processes' batches must have equal sizes.
    """

    def _check_input_dim(self, x):
        pass

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C, ...); the same shape."""
        if not self.training:
            return super().forward(x)
        over = [axis for axis in range(x.ndim) if axis != 1]
        world = dist.get_world_size()
        count = world * x.numel() // x.shape[1]
        mean = collective.all_reduce(x.mean(over)) / world
        centred = x - _per_channel(mean, x)
        variance = collective.all_reduce(centred.square().mean(over)) / world
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scaled = centred * _per_channel((variance + self.eps).rsqrt() * self.weight, x)
        return scaled + _per_channel(self.bias, x)


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def use_global_statistics(network: nn.Module) -> nn.Module:
    """Replace every batch normalisation by one over all processes; weights and statistics stay."""
    if next(network.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                shared = GlobalBatchNorm(child.num_features, child.eps, child.momentum)
                shared._parameters, shared._buffers = child._parameters, child._buffers
                setattr(module, name, shared)
    return network


# --- what the chapters train ----------------------------------------------------------------------


@dataclass
class Task:
    """A network, its batches and its loss.

    batch(step, block): a tuple of tensors, the arguments of the network. The network returns a
    tuple; entries with rows, one per example, are gathered before they become the arguments of
    loss. after: called between two steps, and at the end.
    """

    network: nn.Module
    batch: Callable[[int, int], tuple[Tensor, ...]]
    loss: Callable[..., Tensor]
    optimizer: torch.optim.Optimizer
    learning_rate: float
    after: Callable[[], None] = lambda: None


class _Views(nn.Module):
    """Encoder and head on both views in one forward pass, as the chapter's step does."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, first, second):
        return self.head(self.encoder.features(torch.cat([first, second]))).chunk(2)


def simclr(code: ModuleType, S: SimpleNamespace, seed: int, device: torch.device) -> Task:
    """Pretraining of the SimCLRv2 chapter."""
    generator = _generator(seed)
    dataset = data.load(S.dataset, num_validation=S.num_validation, generator=generator)
    images = dataset.train.images.to(device)
    widths = tuple(S.widths[-1] * 2**k for k in range(S.stages))
    shape = images.shape[1], len(dataset.class_names)
    encoder = models.ResNet(*shape, widths, S.blocks, S.stem_stride)
    head = code.ProjectionHead(encoder.classifier.in_features, S.output)
    for part in (encoder, head):
        models.initialise(part, generator)
    encoder.classifier.requires_grad_(False)  # no part of this loss
    network = _Views(encoder, head).to(device)
    recipe = views.Recipe(scale=tuple(S.crop), strength=S.strength, blur_probability=0.0)
    size = _block_size(S.pretraining_batch)

    def batch(step, block):
        draw = _generator(seed, step, block)
        chosen = torch.randint(len(images), (size,), generator=draw).to(device)
        return views.two_views(images[chosen], recipe, draw)

    optimizer = torch.optim.SGD(
        [p for p in network.parameters() if p.requires_grad], S.pretraining_rate, momentum=0.9,
        nesterov=True, weight_decay=S.pretraining_decay,
    )  # fmt: skip
    return Task(
        network, batch, lambda z0, z1: code.nt_xent_loss(z0, z1, S.temperature),
        optimizer, S.pretraining_rate,
    )  # fmt: skip


def clip(code: ModuleType, S: SimpleNamespace, seed: int, device: torch.device) -> Task:
    """Training in the manner of the CLIP chapter: one picture of each of a batch's concepts.

    Simpler than the chapter's own: a concept has one caption, its name with all keywords; all
    pictures of all artists but one are trained on; the learning rate is the middle one of the
    chapter's choices.
    """
    from labutils.data import emoji

    generator = _generator(seed)
    dataset = emoji.load(emoji.CORE)
    concepts, white = dataset.concepts, torch.tensor([255, 255, 255])
    pictures = emoji.on_background(dataset.rgba, white).to(device)
    train_set = (dataset.style != emoji.CORE.index("twemoji")).nonzero()[:, 0]
    merges = code.learn_merges([" ".join([c.name, *c.keywords]) for c in concepts], S.merges)
    tokenizer = code.Tokenizer(merges, S.context)
    captions = tokenizer([", ".join([c.name, *c.keywords]) for c in concepts]).to(device)
    visual = code.ConvTower(emoji.SIZE, S.main_widths, S.output)
    text = code.BagOfTokens(tokenizer.vocab_size, S.text_width, S.output)
    for part in (visual, text):
        models.initialise(part, generator)
    nn.init.normal_(text.token_embedding.weight, std=0.02, generator=generator)
    model = code.CLIP(visual, text).to(device)
    recipe = views.Recipe(
        scale=(0.8, 1.0), flip_probability=0.0, strength=0.25, grey_probability=0.05,
        blur_probability=0.0,
    )  # fmt: skip
    of_concept = {}
    for index in train_set.tolist():
        of_concept.setdefault(int(dataset.concept[index]), []).append(index)
    known, size = sorted(of_concept), _block_size(S.batch)

    def batch(step, block):
        # no concept twice in a global batch: the order is that of the step, not of the block
        order = torch.randperm(len(known), generator=_generator(seed, step))
        chosen = [known[k] for k in order[block * size : (block + 1) * size]]
        draw = _generator(seed, step, block)
        places = torch.rand(len(chosen), generator=draw)
        own = [of_concept[c] for c in chosen]
        indices = [found[int(u * len(found))] for found, u in zip(own, places, strict=True)]
        images = views.random_view(pictures[indices], recipe, draw)
        return 4 * images - 2, captions[chosen]

    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": S.decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    rate = S.rates[len(S.rates) // 2]
    optimizer = torch.optim.AdamW(groups, rate, betas=(0.9, S.beta2), eps=1e-6)
    return Task(model, batch, code.clip_loss, optimizer, rate, model.bound_scale)


TASKS = {"clip": clip, "simclrv2": simclr}


def _generator(*numbers: int) -> torch.Generator:
    state = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    return torch.Generator().manual_seed(state)


def _block_size(batch: int) -> int:
    if batch % BLOCKS:
        raise click.ClickException(f"the batch of {batch} is not a multiple of {BLOCKS} blocks")
    return batch // BLOCKS


# --- training -------------------------------------------------------------------------------------


def run(task: Task, num_steps: int, description: str = ""):
    """Train the task on this process's share of every batch; return the History of the loss."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    if BLOCKS % world:
        raise click.ClickException(f"{world} processes do not divide {BLOCKS} blocks of a batch")
    own = range(rank * BLOCKS // world, (rank + 1) * BLOCKS // world)
    network = task.network
    if world > 1:
        network = nn.parallel.DistributedDataParallel(network)

    def step_loss(step):
        if step:
            task.after()
        blocks = [task.batch(step, block) for block in own]
        outputs = network(*map(torch.cat, zip(*blocks, strict=True)))
        return task.loss(*(gather(x) if x.ndim else x for x in outputs))

    schedule = cosine_schedule(task.learning_rate, num_steps, warmup_steps=num_steps // 20)
    history = train(
        network, step_loss, num_steps, task.optimizer, schedule, precision="auto",
        description="" if rank else description,
    )  # fmt: skip
    task.after()
    return history


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("chapter", type=click.Choice(list(TASKS)))
@click.option("--profile", type=click.Choice(PROFILES), default="small", show_default=True)
@click.option("--steps", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="Weights, losses.")
def main(chapter, profile, steps, seed, output):
    """Pretrain in the manner of CHAPTER, on all processes that torchrun started."""
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
    if world > 1:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        code = technique.load(chapter)
        settings = SimpleNamespace(**technique.settings(chapter, profile))
        task = TASKS[chapter](code, settings, seed, device)
        if world > 1:
            use_global_statistics(task.network)
        history = run(task, steps, f"{chapter} on {world} x {device.type}")
        if rank == 0:
            first, last = history.losses[0].item(), history.losses[-1].item()
            print(f"loss {first:.4f} -> {last:.4f} in {history.seconds[steps]:.1f} s")
            if output:
                output.parent.mkdir(parents=True, exist_ok=True)
                weights = task.network.state_dict()
                torch.save({"losses": history.losses, "network": weights}, output)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
