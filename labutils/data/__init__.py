"""Data sets as whole tensors: photographs by `load`, drawings of emoji in `labutils.data.emoji`."""

from labutils.data.images import (  # noqa: F401
    MINI,
    NAMES,
    SOURCES,
    DataError,
    Dataset,
    Images,
    cache_folder,
    fetch,
    load,
)
from labutils.data.splits import few_labels, stratified_split  # noqa: F401
