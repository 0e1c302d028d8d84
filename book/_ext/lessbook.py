"""Directives of this book."""


def setup(app):
    return {"parallel_read_safe": True}
