"""Executes, checks, builds and prints the book. No notebook imports it, and it needs no torch."""


class PressError(Exception):
    """The press was asked for something impossible; the message says what is possible."""
