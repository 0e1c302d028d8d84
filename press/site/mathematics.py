"""Mathematics by KaTeX, which comes with the site: the renderer `katex` and its scripts.

Pages hold the formulas as TeX; katex-init.js typesets them in the browser. Equation numbers are
Sphinx's own, so that cross-references show the number that stands beside the formula.
"""

from html import escape

from docutils import nodes
from sphinx.locale import _
from sphinx.util.math import get_node_equation_number

FOLDER = "katex-0.19.1"


def inline(self, node):
    self.body.append(self.starttag(node, "span", "", CLASS="tex"))
    self.body.append(f"{escape(node.astext(), quote=False)}</span>")
    raise nodes.SkipNode


def display(self, node):
    self.body.append(self.starttag(node, "div", "", CLASS="equation"))
    self.body.append(f'<div class="tex">{escape(tex_of(node), quote=False)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, _("Link to this equation"))
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def tex_of(node):
    """The formula as one group: a blank line starts an equation, `\\\\` a line of one."""
    text = node.astext()
    if node.get("nowrap") or node.get("no-wrap"):
        return text
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{p}\end{{split}}" if r"\\" in p else p for p in parts]
    if len(parts) < 2:
        return "".join(parts)
    return r"\begin{gathered}" + r"\\".join(parts) + r"\end{gathered}"


def add_assets(app, pagename, templatename, context, doctree):
    if doctree is not None and next(doctree.findall(is_formula), None) is not None:
        app.add_css_file(f"{FOLDER}/katex.min.css")
        app.add_js_file(f"{FOLDER}/katex.min.js", loading_method="defer")
        app.add_js_file("katex-init.js", loading_method="defer")


def is_formula(node):
    return isinstance(node, nodes.math | nodes.math_block)


def setup(app):
    app.add_html_math_renderer("katex", (inline, None), (display, None))
    app.connect("html-page-context", add_assets)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
