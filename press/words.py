"""Times, amounts and tables as plain text for the terminal."""

import re


def duration(seconds):
    """Return a time in words: ``8.3 s``, ``4 min 05 s``, ``1 h 12 min``."""
    if seconds is None:
        return "-"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(megabytes):
    """Return an amount of memory in words, ``812 MB``."""
    return "-" if megabytes is None else f"{megabytes:.0f} MB"


def count(number, thing):
    """Return ``1 seed``, ``3 seeds``."""
    return f"{number} {thing}{'s' * (number != 1)}"


def table(header, rows):
    """Return an aligned plain-text table."""
    rows = [[str(value) for value in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    rows.insert(1, ["-" * width for width in widths])
    lines = ("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def plain(text):
    """Return a text without the colours of a terminal and without control characters."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)
