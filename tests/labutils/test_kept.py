"""Results of finished jobs: found again by code and values, kept whole, read without code."""

import os
import pickle
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from labutils import kept


def define(source, **variables):
    """A function `job` as a notebook defines it: in `__main__`, with the notebook's variables."""
    module = types.ModuleType("__main__")
    vars(module).update(variables)
    exec(source, vars(module))
    return vars(module)["job"]


JOB = """
def helper(x):
    return x + offset

def job(x, y=1):
    # a comment
    return helper(x) * y
"""


def named(source=JOB, argument=3, **variables):
    return kept.identity(define(source, **({"offset": 1} | variables)), (argument,))


# --- identity -------------------------------------------------------------------------------------


def test_the_same_code_and_values_have_the_same_identity():
    assert named() == named()
    assert named(JOB.replace("# a comment", "\n\n    # another")) == named()
    assert len(named()) == 32


@pytest.mark.parametrize(
    "other",
    [
        {"argument": 4},
        {"argument": 3.0},
        {"argument": "3"},
        {"argument": True},
        {"offset": 2},
        {"source": JOB.replace("* y", "+ y")},
        {"source": JOB.replace("y=1", "y=2")},
        {"source": JOB.replace("x + offset", "x - offset")},
    ],
)
def test_other_code_and_values_have_another_identity(other):
    assert named(**other) != named()


def test_another_torch_and_other_packaged_data_have_another_identity(monkeypatch):
    before = named()
    monkeypatch.setattr(torch, "__version__", "9.9")
    assert named() != before
    monkeypatch.undo()
    assert named() == before
    monkeypatch.setattr(kept, "_assets", lambda: "other data")
    assert named() != before


def test_identity_of_arrays_tensors_and_networks_is_that_of_their_values():
    def of(value):
        return kept.identity(abs, (value,))

    array = np.arange(12.0).reshape(3, 4)
    assert of(array) == of(array.T.copy().T)
    assert of(array) != of(array.reshape(4, 3))
    assert of(array) != of(array.astype(np.float32))
    tensor = torch.from_numpy(array)
    assert of(tensor) == of(tensor.clone())
    assert of(tensor) == of(torch.cat([tensor, tensor])[:3])
    changed = tensor.clone()
    changed[1, 1] += 1e-12
    assert of(changed) != of(tensor)
    torch.manual_seed(0)
    network, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert of(network) != of(other)
    other.load_state_dict(network.state_dict())
    assert of(network) == of(other)
    assert of(torch.ones(2, dtype=torch.bfloat16)) != of(torch.zeros(2, dtype=torch.bfloat16))
    one, two = [1, 2], [1, 2]
    assert of([one, one]) == of([one, two])  # equal, whether or not it is the same object
    generator = torch.Generator().manual_seed(1)
    before = of(generator)
    assert before == of(torch.Generator().manual_seed(1))
    torch.rand(1, generator=generator)
    assert of(generator) != before


def test_recursive_and_local_functions():
    source = "def job(n):\n    return n * job(n - 1) if n else 1"
    assert kept.identity(define(source), (3,)) == kept.identity(define(source), (3,))
    other = source.replace("else 1", "else 2")
    assert kept.identity(define(source), (3,)) != kept.identity(define(other), (3,))

    def make(step):
        return lambda x: x + step

    assert kept.identity(make(1), ()) == kept.identity(make(1), ())
    assert kept.identity(make(1), ()) != kept.identity(make(2), ())


def test_classes_of_the_notebook_count_by_their_code():
    source = """
class Model:
    def predict(self, x):
        return x + 1

def job(x):
    return Model().predict(x)
"""
    assert named(source) == named(source)
    assert named(source.replace("x + 1", "x + 2")) != named(source)


@pytest.mark.parametrize("base", ["object", "torch.nn.Module"])
def test_objects_of_the_notebook_count_by_the_code_of_their_class(base):
    source = f"""
import torch

class Model({base}):
    def predict(self, x):
        return x + 1

model = Model()
parts = torch.nn.Sequential(model) if isinstance(model, torch.nn.Module) else [model]

def job(x):
    return parts[0].predict(x)
"""
    assert named(source) == named(source)
    assert named(source.replace("x + 1", "x + 2")) != named(source)


@pytest.mark.parametrize(
    "change",
    [("x + 1", "x + 2"), ("x * 3", "x * 4"), ("x - 5", "x - 6"), ("bias = 7", "bias = 8"),
     ("ctx.scale = 2", "ctx.scale = 3")],
)  # fmt: skip
def test_every_kind_of_member_counts(change):
    source = """
import torch

class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.scale = 2
        return x * 3

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.scale

class Model:
    bias = 7

    @classmethod
    def make(cls):
        return cls()

    @property
    def shifted(self):
        return lambda x: x - 5

    @torch.no_grad()
    def predict(self, x):
        return x + 1

@torch.inference_mode()
def job(x):
    return Double.apply(Model.make().predict(x)) + Model().shifted(x) + Model.bias
"""
    assert named(source) == named(source)
    assert named(source.replace(*change)) != named(source)


def test_objects_of_packages_count_by_their_content():
    import collections
    import functools
    import re

    def of(value):
        return kept.identity(abs, (value,))

    makers = [
        lambda x: collections.deque([1, x]),
        lambda x: functools.partial(pow, x),
        lambda x: re.compile(f"a{x}"),
        lambda x: types.SimpleNamespace(x=x),
        np.random.default_rng,
        lambda x: np.array([x, "a"], dtype=object),
    ]
    for make in makers:
        assert of(make(1)) == of(make(1))
        assert of(make(1)) != of(make(2))


def test_a_cached_function_is_refused_for_its_code_is_hidden():
    source = "import functools\n@functools.cache\ndef job(x):\n    return x"
    with pytest.raises(kept.NotKept, match="cache"):
        kept.identity(define(source), (1,))


def test_another_process_finds_the_same_identity(tmp_path):
    import subprocess

    argument = {"b": {1, 2, "x"}, "a": (1.5, None)}
    code = f"from test_kept import named; print(named(argument={argument}))"
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), "PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {named(argument=argument)}


def test_what_cannot_be_told_is_refused_by_name():
    with pytest.raises(kept.NotKept, match=r"_io.TextIOWrapper"):
        kept.identity(abs, (sys.__stdout__,))


# --- files ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A result of its own kind."""

    name: str
    scores: np.ndarray


def test_results_come_back_as_they_were(tmp_path):
    file = tmp_path / "a" / "result.pt"
    result = {
        ("arm", 0.1): [1, 2.5, None, True, "text", 1e300, float("inf")],
        "tensor": torch.arange(6).reshape(2, 3),
        "row": Row("one", np.arange(3, dtype=np.float32)),
        "scalar": np.float64(0.1),
        "nested": ((1, {"x": np.array([[True]])}), {3}, []),
    }
    kept.save(result, file)
    back = kept.load(file)
    assert list(back) == list(result)
    assert back["arm", 0.1] == result["arm", 0.1]
    assert torch.equal(back["tensor"], result["tensor"])
    assert type(back["row"]) is Row
    assert back["row"].name == "one"
    assert back["row"].scores.dtype == np.float32
    assert back["row"].scores.tolist() == [0, 1, 2]
    assert type(back["scalar"]) is np.float64
    assert back["scalar"] == 0.1
    assert back["nested"] == result["nested"]
    assert [p.name for p in file.parent.iterdir()] == ["result.pt"]


def test_a_part_of_a_large_tensor_is_kept_without_the_rest(tmp_path):
    kept.save(torch.zeros(1_000_000)[:2], tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 10_000


class Outer:
    @dataclass
    class Inner:
        x: int = 1


@pytest.mark.parametrize(
    "value", [abs, torch.nn.Linear(1, 1), np.array(["a"]), [object()], Outer.Inner()]
)
def test_other_results_are_refused(tmp_path, value):
    with pytest.raises(kept.NotKept):
        kept.save(value, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_reading_executes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    kept.write(["list", [Evil()]], tmp_path / "evil.pt")
    with pytest.raises(ValueError, match=r"not a readable result .*Delete it"):
        kept.load(tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="not a readable result"):
        kept.load(tmp_path / "pickle.pt")
    assert not (tmp_path / "executed").exists()
    kept.write(["dataclass", "subprocess", "Popen", {"args": "x"}], tmp_path / "class.pt")
    with pytest.raises(ValueError, match="Popen is not a dataclass"):
        kept.load(tmp_path / "class.pt")


def test_half_a_file_is_named(tmp_path):
    file = tmp_path / "result.pt"
    kept.save([1, 2, 3], file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"result.pt is not a readable result"):
        kept.load(file)


def test_each_of_forty_flipped_bits_is_found(tmp_path):
    file, rng = tmp_path / "result.pt", np.random.default_rng(0)
    kept.save({"scores": torch.rand(200), "row": Row("one", np.arange(9.0))}, file)
    whole = file.read_bytes()
    for place in rng.choice(8 * len(whole), 40, replace=False):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << (place % 8)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"not a readable result .its digest .* Delete it"):
            kept.load(file)
    file.write_bytes(whole)
    assert kept.load(file)["row"].name == "one"
