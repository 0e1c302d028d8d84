"""Plumbing of the book: data, models, training, claims ledger and the pipeline of the chapters.

Importing this package imports nothing heavy; take what you need from its modules, for example
``from labutils.chapter import start``.
"""

__version__ = "0.1.0"

PROFILES = ("smoke", "small", "full")
