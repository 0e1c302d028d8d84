"""The former name of `labutils.start`, for notebooks that readers have kept."""

from labutils.start import start  # noqa: F401
