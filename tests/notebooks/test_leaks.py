"""Labels that a method may not see change no bit of what it learns.

A case draws the data of a notebook, hands the hidden labels to `hide`, and trains. It returns what
must stay the same when `hide` gives the labels back in another order, and what must not: the arms
that look at them, or a score. So a case also fails when it hides nothing.

Those of five notebooks stand beside their other tests: dro-ssl (the truth is deleted), fixmatch-saa
(all other labels wrong), look (classes exchanged), lls (worlds without labels), simclrv2. In rs2
and the notebooks on images and text, nothing that is trained has labels to hide.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector

from labutils import data
from press import technique

for folder in Path(__file__).parent.iterdir():
    if folder.is_dir():
        sys.path.append(str(folder))  # whatever the import mode of pytest


def weights(network):
    return parameters_to_vector(network.parameters()).detach().clone()


def without(images, hide):
    return data.Images(images.images, hide(images.labels))


def iomatch(lab, hide):
    nothing = torch.Generator()
    dataset = data.load("fashion-mnist-mini", num_validation=0, generator=nothing)
    draw = lab.load(dataset, 0, "near", 2)
    draw.inlier, draw.judged = hide(draw.inlier), without(draw.judged, hide)
    blind = ("supervised", "FixMatch", "soft FixMatch", "filter", "random filter", "IOMatch")
    nets = {arm: weights(lab.fit(draw, arm, (0.1, 0.3))) for arm in (*blind, "oracle filter")}
    return [nets[arm] for arm in blind], [nets["oracle filter"]]


def simcore(lab, hide):
    world = lab.draw(3)
    world.kinds = hide(world.kinds)
    for part in ("known", "validation", "test"):
        images, labels = vars(world)[part]
        vars(world)[part] = images, hide(labels)
    lab.draw = lambda seed: world
    found = lab.choose(3)["found"]
    seeing = [found.pop(kind) for kind in lab.KINDS if kind in found]
    rows = found["SimCore"]
    return [*found.values(), weights(lab.pretrain(world, world.pool[rows], 0.1))], seeing


def rad(lab, hide):
    world, students, fit = lab.load(3), [], lab.fit
    start = fit(world, [], torch.zeros(0, 10), 0.05, 3)
    says = torch.rand(len(world.pool.labels), 10, generator=torch.Generator().manual_seed(1))
    world.pool, world.test = (without(part, hide) for part in (world.pool, world.test))
    scored = world.validation.images.float() / 255, world.validation.labels

    def watched(world, rows, *rest):
        students.append(fit(world, rows, *rest))
        return students[-1]

    def taught(arm):
        students.clear()
        lab.play(arm, start, world, says.softmax(1), 0.5, 0.05, 3, scored)
        return [weights(student) for student in students]

    lab.fit = watched
    blind = [net for arm in lab.ARMS if arm != "oracle" for net in taught(arm)]
    return blind, taught("oracle")[-1:]


def diversification(lab, hide):
    a = lab.draw(1, lab.WORLDS[0.5], "test")
    for part in (a.unlabelled, a.judged):
        part.y, part.cue = hide(part.y), hide(part.cue)
    erm = lab.fit(a, (1,))
    models = [*erm, *lab.fit(a, (2,)), *lab.fit(a, (2, 3, 10)), *lab.fit(a, (1, 0.1), erm)]
    right = lab.shares(erm, a.judged.x)[0].argmax(1) == a.judged.y
    return [weights(model) for model in models], [right]


def laf(lab, hide):
    world, net = beside("laf").small_world(lab)
    world.y, world.unseen_y = hide(world.y), hide(world.unseen_y)
    hs = lab.autoencoders(net, world, "sigmoid", lab.lab.streams(3))
    forgotten = {
        arm: weights(lab.unlearned(net, hs, world, {"kappa": 5}, arm, value, 3))
        for arm, value in (
            ("LAF", 2), ("only L_UE", 2), ("ascent, own labels", 1e-2), ("second choice", 1e-2),
            ("fine-tuning, own labels", 1e-2), ("ascent, true labels", 1e-2),
        )
    }  # fmt: skip
    seeing = [forgotten.pop("ascent, true labels")]
    return list(forgotten.values()), seeing


def t_jepa(lab, hide):
    world = lab.draw(3, "breast cancer")
    world.y = hide(world.y)
    found = [lab.pretrain(arm, world, 1e-3, [0]) for arm in lab.ENCODERS]
    return [z for steps in found for z in steps.values()], [world.y]


def ssld(lab, hide):
    world, found = lab.draw(3), {}
    world.labels, world.test = hide(world.labels), without(world.test, hide)
    for arm in ("soft, labelled", "soft, all", "half Jeffreys", "pseudo-labels", "hard labels"):
        streams = lab.lab.streams(3)
        student = lab.models.build(lab.S.model, 1, 10, streams.initialisation)
        lab.fit(student, world, arm, 0.1, 3, streams)
        found[arm] = weights(student)
    seeing = [found.pop("hard labels")]
    return list(found.values()), seeing


CASES = {
    case.__name__: case for case in (iomatch, simcore, rad, diversification, laf, t_jepa, ssld)
}


def beside(name):
    try:
        return importlib.import_module(f"test_{name}_experiment")
    except ModuleNotFoundError:
        return importlib.import_module(f"test_{name}")


def permuted(labels):
    order = torch.randperm(labels.numel(), generator=torch.Generator().manual_seed(7))
    return labels.reshape(-1)[order].reshape(labels.shape)


@pytest.mark.parametrize("name", CASES)
def test_hidden_labels_in_another_order_change_no_bit(name):
    tests, found = beside(name), []
    for hide in (lambda labels: labels, permuted):
        given = tests.given() if hasattr(tests, "given") else {"lab": tests.LAB, "S": tests.S}
        lab = technique.load(name.replace("_", "-"), tags=("technique", "experiment"), given=given)
        found.append(CASES[name](lab, hide))
    (blind, seeing), (blind_too, seeing_too) = found
    assert len(blind) == len(blind_too) > 0
    for place, (one, two) in enumerate(zip(blind, blind_too, strict=True)):
        np.testing.assert_array_equal(one, two, err_msg=f"result {place}")
    for one, two in zip(seeing, seeing_too, strict=True):
        assert not np.array_equal(one, two), "nothing was hidden"
