"""Checks of arguments. They give nothing back and change nothing, so no record depends on them."""

import math
import re
import sys
from functools import cache
from numbers import Integral, Real

import torch

_items = cache(re.compile(r"((\w+)(?: ([a-z]\w*))?(?: (\(.*?\))| (>=?) (\S+))?)(?:, |$)").findall)
_letters = cache(re.compile(r"\w+").findall)
TYPES = {"generator": torch.Generator, "model": torch.nn.Module}  # other names: list or tuple
HINTS = {"generator": "torch.Generator().manual_seed(0)", "model": "a torch.nn.Module"}


def fit(expected: str, *values) -> None:
    """Refuse values that are not as expected, in one sentence: TypeError, or ValueError.

    Such as "images uint8 (N, 3, H, W), labels int (N,), steps >= 1, rate > 0.0, model". A letter is
    one size throughout. No value of a tensor is read: a step on a GPU would wait. Numbers are
    finite, whole where the bound is, and may be several, "distinct" ones. A mere name is of a type.
    """
    sizes: dict[str, int] = {}
    for (item, name, kind, shape, sign, bound), x in zip(_items(expected), values, strict=True):
        if shape:
            typed = isinstance(x, torch.Tensor) and kind in str(x.dtype)  # "int" is in "uint8"
            good = typed and len(_letters(shape)) == x.ndim
            for k, n in zip(_letters(shape), x.shape, strict=True) if good else ():
                good &= n == (int(k) if k.isdigit() else sizes.setdefault(k, n))
        elif sign:
            several = x if isinstance(x, list | tuple) else [x]
            number, least = (Real, float(bound)) if "." in bound else (Integral, int(bound))
            typed = all(isinstance(v, number) and not isinstance(v, bool) for v in several)
            good = typed and all(least <= v < math.inf for v in several)
            good = good and (not kind or 0 < len(several) == len(set(several)))
            good = good and not (sign == ">" and least in several)
        else:
            typed = good = isinstance(x, TYPES.get(name, list | tuple))
        if not good:
            hint = "finite" if "." in bound else "whole" if sign else HINTS.get(name, "a list")
            where = ", ".join(f"{k} = {n}" for k, n in sizes.items()) if shape else hint
            found = f"{tuple(x.shape)} of {x.dtype}" if getattr(x, "ndim", 0) else repr(x)[:60]
            who, error = sys._getframe(1).f_code.co_qualname, ValueError if typed else TypeError
            raise error(f"{who} expects {item}{where and f' ({where})'}, got {found}")
