"""Data sets as whole tensors: photographs by `load`, drawings of emoji in `labutils.data.emoji`."""

from labutils.data.download import DataError, cache_folder  # noqa: F401
from labutils.data.images import MINI, NAMES, Dataset, Images, fetch, load  # noqa: F401
from labutils.data.splits import few_labels, stratified_split  # noqa: F401
