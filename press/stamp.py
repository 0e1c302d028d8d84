"""Give records of schema 2 the digests of schema 3, once: ``python -m press.stamp``.

What is stamped was committed before records had digests. A record that does not say what its
notebook shows is refused. To be deleted when no record of schema 2 is left.
"""

import json
import sys

from labutils.claims import Claim, Record
from press import PressError, consistency, notebooks, records

OLD = 2


def stamp(root=None):
    """Stamp what is of schema 2 in ``results``; return the files. Raises ``PressError``."""
    root, stamped = notebooks.book_root(root), []
    for file in sorted((root / "results").glob("*/*.json")):
        before = file.read_text(encoding="utf-8")
        content = json.loads(before)
        if content["schema"] != OLD:
            continue
        claims = [Claim(**claim) for claim in content.pop("claims")]
        record = Record(claims=claims, **content | {"schema": OLD + 1})
        slug, profile, *device = file.stem.split(".")
        own = profile == "small" and not device
        if own:
            shown = notebooks.read(notebooks.path(slug, root))
            history = records.history_path(slug, profile, root)
            text = history.read_text(encoding="utf-8") if history.is_file() else ""
            record = records.sealed(record, shown, text)
        notebooks.write({file: record.to_json()})
        if found := consistency.problems(slug, root) if own else []:
            notebooks.write({file: before})
            raise PressError(f"{file} is not stamped: {found[0]}")
        stamped.append(file)
    return stamped


if __name__ == "__main__":
    try:
        print(f"stamped: {', '.join(file.name for file in stamp()) or 'none'}")
    except PressError as error:
        sys.exit(f"Error: {error}")
