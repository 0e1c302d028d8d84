"""Results of finished jobs on disk, so that an interrupted notebook goes on where it stopped.

A result is found again by what it was computed from: the job's function with everything of the
notebook that it uses, and its arguments, with which torch and which packaged data. An edited cell
or other data therefore never meets an old result. Files hold plain values only, are read without
executing code, and end with a digest, so that a damaged one never gives other numbers.
"""

import contextlib
import copyreg
import dataclasses
import dis
import functools
import hashlib
import io
import os
import pathlib
import pickle
import sys
import types
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from labutils.claims import digest, place

PLAIN = (type(None), bool, int, float, complex, str, bytes)
NAMED = (torch.dtype, torch.device, torch.Size, np.dtype, range, slice, pathlib.PurePath)
DIGITS = 64  # of a file's sha256
OF_PACKAGES = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, np.ufunc)


class NotKept(TypeError):
    """A result or argument of a kind that cannot be kept; the message names it."""


# --- what a result was computed from --------------------------------------------------------------


def identity(function: Callable, job: tuple, known: dict | None = None) -> str:
    """32 hex digits that stand for ``function(*job)``: equal values give equal digits.

    Counted are the code of functions and classes that the notebook defines, their defaults and the
    notebook's variables that they use; what comes from a package counts by its name. So do torch's
    version and this package's data. An object may say by its method `identity_parts` what it stands
    for. known: shared by the jobs of one map, {id of an object: (object, its digest)}. Raises
    NotKept for an object of unknown content.
    """
    value = function, job, str(torch.__version__), _assets()
    return _digest(value, {} if known is None else known, []).hex()[:32]


@functools.cache
def _assets() -> str:
    """A digest of the data that come with this package."""
    files = sorted((pathlib.Path(__file__).parent / "assets").iterdir())
    return digest([[f.name, hashlib.sha256(f.read_bytes()).hexdigest()] for f in files])


def _digest(value, known: dict, path: list[int]) -> bytes:
    if id(value) in known:
        return known[id(value)][1]
    kind = type(value)
    digest = hashlib.sha256(f"{kind.__module__}.{kind.__qualname__}".encode())
    if isinstance(value, (*PLAIN, *NAMED)):
        digest.update(repr(value).encode())
        return digest.digest()
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Tensor):
        digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    elif id(value) in path:  # a function that calls itself
        return f"up {len(path) - path.index(id(value))}".encode()
    else:
        for part in _parts(value):
            digest.update(_digest(part, known, [*path, id(value)]))
    known[id(value)] = value, digest.digest()  # the object too: another must not take its id
    return digest.digest()


def _parts(value):
    """What an object consists of, as a sequence of simpler ones."""
    if hasattr(type(value), "identity_parts"):
        return value.identity_parts()
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget, value.fset]
    if isinstance(value, types.CodeType):
        return [value.co_code, value.co_names, value.co_varnames, value.co_consts]
    if isinstance(value, types.FunctionType) and _own(value):
        return _parts_of_function(value)
    if isinstance(value, type) and _own(value):
        return [value.__qualname__, *value.__bases__, *_parts_of_class(value)]
    if isinstance(value, OF_PACKAGES):
        return [getattr(value, "__module__", ""), getattr(value, "__qualname__", value.__name__)]
    return _parts_of_object(value)


def _own(value) -> bool:
    """Whether a function or class is the notebook's own, so that its code can change under us."""
    return value.__module__ == "__main__" or "<locals>" in value.__qualname__


def _parts_of_function(function):
    names = sorted(set(_global_names(function.__code__)))
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    used = {name: function.__globals__[name] for name in names if name in function.__globals__}
    return [function.__code__, function.__defaults__, function.__kwdefaults__, cells, used]


def _global_names(code):
    """Yield the names that a code object and everything inside it look up as globals."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _parts_of_class(kind):
    """Methods and plain constants; what Python adds by itself (its place in a file) is no part."""
    counted = (*PLAIN, list, tuple, dict, staticmethod, classmethod, property)
    return [
        part
        for name, value in vars(kind).items()
        if callable(value) or (isinstance(value, counted) and not name.startswith("__"))
        for part in (name, value)
    ]


def _parts_of_object(value):
    """Class and state, as pickle would take the object apart."""
    reduce = copyreg.dispatch_table.get(type(value))
    with contextlib.suppress(Exception):
        parts = reduce(value) if reduce else value.__reduce_ex__(4)
        if not isinstance(parts, str):
            return [*parts[:3], *(list(items or ()) for items in parts[3:5])]  # of a container
        if not _own(value):
            return [value.__module__, parts]
    raise NotKept(f"{type(value).__module__}.{type(value).__qualname__}")


# --- files ----------------------------------------------------------------------------------------


def save(result, path: pathlib.Path) -> None:
    """Write a result: numbers, text, arrays, tensors, and containers and dataclasses of them.

    The file appears whole or not at all. Raises NotKept for anything else.
    """
    write(_encode(result), path)


def write(content, path: pathlib.Path) -> None:
    """`torch.save` to a file that appears whole or not at all; its sha256 is the zip's comment."""
    stream = io.BytesIO()
    torch.save(content, stream)
    body = stream.getvalue()[:-2] + DIGITS.to_bytes(2, "little")  # the length of the comment
    folder = pathlib.Path(os.environ.get("LABUTILS_CHECKPOINTS", "")).expanduser()
    if folder in path.parents and (folder.is_file() or not folder.parent.is_dir()):
        raise NotADirectoryError(
            f"nothing can be kept in {folder}, which LABUTILS_CHECKPOINTS names: it is no folder, "
            f"or {folder.parent} is not there. Mount the drive, or name another folder."
        )
    place(body + hashlib.sha256(body).hexdigest().encode(), path)


def load(path: pathlib.Path):
    """Read what `save` wrote; ValueError if it is damaged or its dataclass is not known."""
    try:
        return _decode(read(path))
    except Exception as error:
        raise ValueError(
            f"{path} is not a readable result ({reason(error)}). Delete it to compute it again."
        ) from error


def read(path: pathlib.Path):
    """What `write` was given, on the CPU. Raises ValueError if the digest does not fit."""
    content = path.read_bytes()
    if hashlib.sha256(content[:-DIGITS]).hexdigest().encode() != content[-DIGITS:]:
        raise ValueError("its digest does not fit: it was damaged or changed")
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def reason(error: Exception) -> str:
    """Why a file cannot be read, in a line; torch's own words advise to load it with its code."""
    code = isinstance(error, pickle.UnpicklingError)
    return "it holds more than values" if code else str(error).partition("\n")[0]


def _encode(value):
    kind = type(value)
    if kind in PLAIN:
        return value
    if isinstance(value, Tensor):
        return value.detach().clone()  # not the whole storage that it may be a part of
    if isinstance(value, np.ndarray | np.generic):
        try:
            return ["array", kind is not np.ndarray, torch.from_numpy(np.array(value))]
        except TypeError:
            raise NotKept(f"numpy array of {value.dtype}") from None
    if kind in (list, tuple, set):
        return [kind.__name__, [_encode(item) for item in value]]
    if kind is dict:
        return ["dict", [[_encode(key), _encode(item)] for key, item in value.items()]]
    if dataclasses.is_dataclass(kind) and "." not in kind.__qualname__:  # `load` finds no inner one
        fields = {f.name: _encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return ["dataclass", kind.__module__, kind.__qualname__, fields]
    raise NotKept(f"{kind.__module__}.{kind.__qualname__}")


def _decode(content):
    if not isinstance(content, list):
        return content
    name, *rest = content
    if name == "array":
        array = rest[1].numpy()
        return array[()] if rest[0] else array
    if name in ("list", "tuple", "set"):
        return {"list": list, "tuple": tuple, "set": set}[name](map(_decode, rest[0]))
    if name == "dict":
        return {_decode(key): _decode(item) for key, item in rest[0]}
    module, qualname, fields = rest  # a dataclass that is loaded already; nothing is imported
    kind = getattr(sys.modules[module], qualname)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise TypeError(f"{module}.{qualname} is not a dataclass")
    result = object.__new__(kind)
    for field, item in fields.items():
        object.__setattr__(result, field, _decode(item))
    return result
