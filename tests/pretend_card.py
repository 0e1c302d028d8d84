"""A GPU that is not there: tensors that say they are on one, and mix with others as CUDA's do.

They compute on the CPU, and are refused where CUDA's would be: together with tensors of the CPU, as
numpy arrays, with a generator of the other side. Steps that could be captured are, by a stand-in
(`tape`), and what makes them wait for the host is noticed. So code that never saw a card shows on
any machine whether it would stop or slow down there. Kernels and speed only a card can show.

    import pretend_card

    with pretend_card.here():
        ...  # torch.cuda.is_available() is True
"""

import contextlib
import inspect
import sys
from collections import Counter
from unittest import mock

import tape
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from labutils import capture

CARD, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
BRIDGES = {aten.copy_, aten._to_copy, aten.set_}  # take tensors of both sides
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # CPU indices, too
WAITS = {
    aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.masked_select, aten.nonzero,
    aten.unique_dim, aten._unique2,
}  # fmt: skip
TO = {torch.Tensor.to: None, torch.Tensor.cpu: CPU, torch.Tensor.cuda: CARD}
COMPOSED = (torch.nn.functional.one_hot,)  # make tensors beside their argument, where torch thinks
OldGenerator, old_parameter = torch.Generator, torch.nn.Parameter.__new__
OFTEN, recordings = 4, Counter()  # by the code of the loss
old_grouped = torch.optim.Optimizer._group_tensors_by_device_and_dtype
waits = []  # places in the code that asked the card for a value, or handed it one


class OtherDeviceError(RuntimeError):
    """Tensors or a generator of another device than expected."""


class Tensor(torch.Tensor):
    """A tensor on the card; `inside` holds its numbers, on the CPU."""

    @staticmethod
    def __new__(cls, inside):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inside.size(), strides=inside.stride(), storage_offset=inside.storage_offset(),
            dtype=inside.dtype, layout=inside.layout, device=CPU,
        )  # fmt: skip
        made.inside = inside
        return made

    device, is_cuda = CARD, True

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_, **__):
        self.numpy()

    def tolist(self):
        return moved(self, CPU).tolist()

    def __format__(self, form):
        return format(moved(self, CPU), form)

    def __repr__(self):
        return f"{self.inside!r} on the card"

    def __deepcopy__(self, memo):
        if id(self) not in memo:
            memo[id(self)] = new = Tensor(self.inside.clone()).requires_grad_(self.requires_grad)
            new._is_param = getattr(self, "_is_param", False)
            if self.grad is not None:
                new.grad = Tensor(self.grad.inside.clone())
        return memo[id(self)]

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, function.overloadpacket
        given = tensors(args[0], *args[2:3]) if packet in INDEXING else tensors(args, kwargs)
        strangers = [x for x in given if not isinstance(x, Tensor) and x.ndim]
        if strangers and packet not in BRIDGES:
            shapes = ", ".join(str(tuple(x.shape)) for x in strangers)
            raise OtherDeviceError(f"{packet} of tensors on the card got {shapes} on the CPU")
        if packet in WAITS or strangers or (packet in INDEXING and waiting(args[1])):
            notice()
        known = {id(x.inside): x for x in given if isinstance(x, Tensor)}
        result = function(*unwrapped(args), **unwrapped(kwargs))
        if packet is aten.copy_ and not isinstance(args[0], Tensor):
            return args[0]  # from the card into a tensor of the CPU
        if torch.Tag.inplace_view in function.tags:  # the shape outside changes, too
            with no_dispatch():
                function(*args, **kwargs)
        return tree_map(lambda x: known[id(x)] if id(x) in known else wrapped(x), result)


def tree_map(function, tree):
    """Apply to all tensors in lists, tuples and dicts; several times as fast as torch's own."""
    if isinstance(tree, torch.Tensor):
        return function(tree)
    if isinstance(tree, list | tuple):
        return type(tree)([tree_map(function, x) for x in tree]) if tree else tree
    if isinstance(tree, dict):
        return {name: tree_map(function, x) for name, x in tree.items()}
    return tree


def tensors(*trees):
    found = []
    tree_map(found.append, trees)
    return found


def wrapped(x):
    return x if isinstance(x, Tensor) else Tensor(x)


def unwrapped(tree):
    return tree_map(lambda x: x.inside if isinstance(x, Tensor) else x, tree)


def waiting(indices):
    """A selection by a mask, or by indices that lie on the CPU."""
    given = tensors(indices)
    return any(not isinstance(x, Tensor) or x.dtype in (torch.bool, torch.uint8) for x in given)


def moved(x, device):
    """A tensor on the other side."""
    if isinstance(x, Tensor) == (device.type == "cuda"):
        return x
    if x.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError("gradients across devices")
    notice()
    return x.detach().inside.clone() if isinstance(x, Tensor) else Tensor(x.detach().clone())


def notice():
    """Remember the line of the code that waits."""
    frame = sys._getframe()
    while any(part in frame.f_code.co_filename for part in ("/torch/", __file__, tape.__file__)):
        frame = frame.f_back
    waits.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")


class Generator(OldGenerator):
    """A generator that remembers its side."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, "cpu")
        made.side = CARD if torch.device(device).type == "cuda" else CPU
        return made

    @property
    def device(self):
        return self.side


class Mode(TorchFunctionMode):
    """Sees every function of torch before its arguments are read."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in TO:
            return converted(TO[function], args, kwargs)
        if function is torch.Tensor.backward and isinstance(args[0], Tensor):
            given = [kwargs.get(n) for n in ("gradient", "retain_graph", "create_graph")]
            with self, Factories():
                return torch.autograd.backward(args[0], *given, inputs=kwargs.get("inputs"))
        if function in COMPOSED and isinstance(args[0], Tensor):
            return tree_map(wrapped, function(*unwrapped(args), **unwrapped(kwargs)))
        device = kwargs.get("device")
        device = torch.device(device) if isinstance(device, str | int) else device
        if generator := kwargs.get("generator"):
            first = next(iter(tensors(args)), None)
            side = device or (CPU if first is None else first.device)
            if generator.device.type != side.type:
                name = function.__name__
                raise OtherDeviceError(f"{name} on {side} got a generator on {generator.device}")
        if device is None:
            return function(*args, **kwargs)
        kwargs["device"] = CPU
        if device.type == "cpu":
            return function(*unwrapped(args), **unwrapped(kwargs))
        if function in (torch.tensor, torch.as_tensor):
            notice()
        result = function(*args, **kwargs)
        grad = kwargs.get("requires_grad", False)
        return tree_map(lambda x: wrapped(x.detach()).requires_grad_(grad), result)


def converted(device, args, options):
    """A tensor on another device, of another type, or both: Tensor.to and its like."""
    x, *rest = args
    dtype, device = options.get("dtype"), options.get("device") or device
    for value in [*rest, options.get("other")]:
        if isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, torch.Tensor):
            dtype, device = value.dtype, value.device
        elif isinstance(value, str | torch.device):
            device = value
    x = x if device is None else moved(x, torch.device(device))
    layout = {name: options[name] for name in ("memory_format", "copy") if name in options}
    return x if dtype is None and not layout else torch.Tensor.to(x, dtype or x.dtype, **layout)


class Factories(TorchDispatchMode):
    """A tensor that is made from nothing is on the card, as autograd makes zeros there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        return result if tensors(args, kwargs) else tree_map(wrapped, result)


def parameter(cls, data=None, requires_grad=True):
    """As torch.nn.Parameter, which would make a tensor of the CPU out of one on the card."""
    if not isinstance(data, Tensor):
        return old_parameter(cls, data, requires_grad)
    made = data.detach().requires_grad_(requires_grad)
    made._is_param = True
    return made


def inference_mode(mode=True):
    """No gradients, and no more: views of wrapped tensors cannot be made in inference mode."""
    return torch.no_grad() if mode else contextlib.nullcontext()


def grouped(lists, with_indices=False):
    """As an optimiser groups its tensors, by the device that they say."""
    found = old_grouped(lists, with_indices)
    return {(lists[0][0].device, dtype): group for (_, dtype), group in found.items()}


def watched(step, stream):
    waits.clear()
    step()
    return list(waits)


def recorded(step, stream, generators):
    """The replay of a step; after a few of the same loss the step itself, which is faster."""
    loss = inspect.getclosurevars(step).nonlocals["step_loss"]
    recordings[getattr(loss, "__code__", loss)] += 1
    often = recordings[getattr(loss, "__code__", loss)] > OFTEN
    return step if often else tape.record(step, stream, generators)


ANSWERS = {
    "is_available": True, "device_count": 1, "get_device_name": "no card", "synchronize": None,
    "max_memory_reserved": 2**30, "mem_get_info": (80 * 2**30,) * 2, "Stream": None,
    "get_rng_state_all": [], "is_bf16_supported": True, "manual_seed_all": None,
    "is_current_stream_capturing": False,
}  # fmt: skip


@contextlib.contextmanager
def here():
    """Within, torch sees the card. Jobs run one after the other, in this process."""
    changes = {
        torch: {"Generator": Generator, "inference_mode": inference_mode},
        torch.cuda: {name: lambda *_, a=answer, **__: a for name, answer in ANSWERS.items()},
        torch.nn.Parameter: {"__new__": parameter},
        torch.optim.Optimizer: {"_group_tensors_by_device_and_dtype": staticmethod(grouped)},
        torch.nn.RNNBase: {"flatten_parameters": lambda self: None},  # for cuDNN
        capture: {
            "WARM_UP": 2, "WORTHWHILE": 5,  # smoke has few steps
            "_watched": watched, "_record": recorded, "workers": lambda *_: 1,
        },
    }  # fmt: skip
    recordings.clear()
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    with contextlib.ExitStack() as stack:
        for owner, names in changes.items():
            for name, value in names.items():
                stack.enter_context(mock.patch.object(owner, name, value))
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(Mode())
        yield


def stay():
    """What `here` does, until the process ends: for the first cell of a notebook."""
    contexts.enter_context(here())


contexts = contextlib.ExitStack()
