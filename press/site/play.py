"""Directive play: a figure that readers can play with. Its caption is the content.

book/_static/play.js draws it in the page and computes its numbers there.
"""

from press.site.templates import TemplateDirective

FIGURES = ("nt-xent", "rs2", "lls")


class Play(TemplateDirective):
    """The figure that the argument names."""

    required_arguments = 1
    has_content = True

    def content_nodes(self):
        name = self.arguments[0]
        if name not in FIGURES:
            raise self.error(f"no figure {name!r} to play with; there are {', '.join(FIGURES)}")
        return self.render("play.html", name=name, caption=" ".join(self.content))


def setup(app):
    app.add_directive("play", Play)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
