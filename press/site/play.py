"""Directive play: a figure that readers can play with. Its caption is the content.

book/_static/play.js draws it in the page and computes its numbers there.
"""

import json

from press.site.templates import TemplateDirective

FIGURES = ("nt-xent", "rs2", "lls", "fixmatch", "emoji")
DATA = {"fixmatch": "book/generated/fixmatch_confidences.json"}  # whose moments a figure shows


class Play(TemplateDirective):
    """The figure that the argument names."""

    required_arguments = 1
    has_content = True

    def content_nodes(self):
        name = self.arguments[0]
        if name not in FIGURES:
            raise self.error(f"no figure {name!r} to play with; there are {', '.join(FIGURES)}")
        data = None
        if name in DATA:
            data = json.loads((self.root / DATA[name]).read_text("utf-8"))["moments"]
        return self.render("play.html", name=name, data=data, caption=" ".join(self.content))
