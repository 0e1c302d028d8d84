"""Pages tell the browser what they may load and run: the site's own files, and their own scripts.

After everything else has written the pages, each gets a content security policy that names its
inline scripts, and the handlers of events of all pages, by their digests.
"""

import base64
import hashlib
import html
import re
from pathlib import Path

# Styles may stand in a page, since formulas and tables have many.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-hashes'{}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'self'; form-action 'self'"
)
SCRIPT = re.compile(r"<script(?![^>]*(?:\ssrc=|json))[^>]*>(.*?)</script>", re.DOTALL)
HANDLER = re.compile(r'<[a-z][^>]* on[a-z]+="([^"]*)"')
PLACE = re.compile(r"<head[^>]*>(?:\s*<meta charset=[^>]*>)?")


def with_policy(page, handlers=()):
    """The text of a page with its policy, which stands before the first script."""
    digests = [hashlib.sha256(x.encode()).digest() for x in {*SCRIPT.findall(page), *handlers}]
    content = POLICY.format(
        "".join(sorted(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests))
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{content}">'
    return PLACE.sub(lambda match: match[0] + meta, page, count=1)


def write_policies(app):
    files = [file for file in Path(app.outdir).rglob("*.html") if "_static" not in file.parts]
    pages = {file: file.read_text("utf-8") for file in files}
    # The search reads other pages, handlers and all, to quote them.
    handlers = {html.unescape(x) for page in pages.values() for x in HANDLER.findall(page)}
    for file, page in pages.items():
        file.write_text(with_policy(page, handlers), "utf-8")
