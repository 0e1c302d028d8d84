"""Give records of schema 2 the digests of schema 3, once: ``python -m press.stamp``.

What is stamped was committed before records had digests. A record that does not say what its
notebook shows is refused. To be deleted when no record of schema 2 is left.
"""

import json
import sys

from labutils.claims import Claim, Record
from press import consistency, notebooks, records

OLD = 2


def stamp(root=None):
    """Stamp what is of schema 2 in ``results``; return the files, and why others were refused."""
    root, stamped, refused = notebooks.book_root(root), [], []
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
            refused.append(f"{file} is not stamped: {found[0]}")
        else:
            stamped.append(file)
    return stamped, refused


if __name__ == "__main__":
    stamped, refused = stamp()
    print(f"stamped: {', '.join(file.name for file in stamped) or 'none'}")
    sys.exit("\n".join(refused) or None)
