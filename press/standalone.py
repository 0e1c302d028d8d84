"""The technique of a notebook as one Python file that needs nothing of the book.

Of labutils it takes along short functions that need nothing else there. What uses more of it is
left out, with all that uses that, and the file says so: such definitions train or augment, which
whoever takes the file does in their own way.
"""

import ast
import re
import symtable
import sys
import textwrap
from dataclasses import dataclass
from functools import cache

from press import catalogue, notebooks
from press.technique import bindings, sorted_imports, used_globals

FOLDER = "technique"  # of the site
EXAMPLES = "book/examples"
OWN = ("labutils", "press")
PACKAGES = {"sklearn": "scikit-learn"}  # that have another name than what is imported
LICENCE = "SPDX-License-Identifier: MIT"
SHORT = 30  # lines of a function that is taken along


@dataclass(frozen=True)
class Technique:
    """What the technique cells of a notebook define, and what the file of it is made from.

    defined: {name: ("function", "class" or "data", first sentence of its docstring)} of what is in
    the file. left_out: names. needs: packages. body: imports and code. example: "" without one.
    """

    slug: str
    defined: dict[str, tuple[str, str]]
    left_out: list[str]
    needs: list[str]
    body: str
    example: str

    @property
    def module(self):
        return self.slug.replace("-", "_")

    @property
    def use(self):
        """The example without what prepares it: its imports of the file, and its last lines."""
        lines = [line for line in self.example.splitlines() if line.startswith(self.line)]
        return "\n".join([*lines, "", self.example.rpartition("\n\n")[2]]).strip()

    @property
    def line(self):
        """How the example's imports of the file begin."""
        return f"from {self.module} import "


def shown(source, numbers):
    """A cell as readers see it: no comments for tools, equations by their numbers on the page."""
    source = re.sub(r"[ \t]*# (?:fmt: \w+|noqa\b.*|ruff: .*)$", "", source, flags=re.MULTILINE)
    return re.sub(r"\{eq\}`([\w-]+)`", lambda m: f"({numbers.get(m[1], m[1])})", source)


def equation_numbers(notebook):
    """{label: number on the page} of a notebook's equations."""
    prose = "\n".join(c["source"] for c in notebook["cells"] if c["cell_type"] == "markdown")
    labels = re.findall(r"^:label: (eq-[\w-]+)|^\$\$ *\((eq-[\w-]+)\)", prose, re.MULTILINE)
    return {first or second: number for number, (first, second) in enumerate(labels, 1)}


@cache
def of(slug, root):
    """The Technique of a notebook, None if no cell has this tag.

    Raises NotebookError if nothing of it can stand alone.
    """
    notebook = notebooks.read(notebooks.path(slug, root))
    numbers, imports, parts = equation_numbers(notebook), {}, []
    cells = [(notebooks.tags(cell), cell["source"]) for _, cell in notebooks.code_cells(notebook)]
    cells = [cell for cell in cells if cell[0].isdisjoint({"setup", "parameters"})]
    for _, source in sorted(cells, key=lambda cell: "technique" not in cell[0]):
        for node in ast.parse(source).body:
            for name, line in bindings(node):
                imports.setdefault(name, line)
    for tags, source in cells:
        if "technique" in tags:
            parts.append([_Part(*piece) for piece in _pieces(shown(source, numbers))])
    if not parts:
        return None
    every = [part for cell in parts for part in cell]
    for name in {name for part in every for name in part.bound}:
        imports.pop(name, None)
    helpers = _helpers(imports, notebooks.book_root(root))
    kept, left_out = _apart(every, imports)
    if not kept:
        raise notebooks.NotebookError(
            f"{slug}: every technique cell needs labutils, so no file of it can stand alone; pass "
            "what they need as arguments"
        )
    used = set().union(*(part.used for part in kept))
    helpers = [part for part in helpers if used.intersection(part.bound)]
    used = used.union(*(part.used for part in helpers))
    lines = {imports[name] for name in used & imports.keys()}
    code = [f"# A helper of the book.\n{part.text.strip()}" for part in helpers]
    code += ["\n".join(p.text for p in cell if p in kept).strip("\n") for cell in parts]
    body = f"{sorted_imports(lines)}\n\n\n" + "\n\n\n".join(filter(None, code))
    needs = {line[0].partition(".")[0] for line in lines} - set(sys.stdlib_module_names)
    file = notebooks.book_root(root) / EXAMPLES / f"{slug}.py"
    example = file.read_text("utf-8").strip() if file.is_file() else ""
    defined = {name: part.described for part in kept for name in part.bound if name[0] != "_"}
    needs = sorted(PACKAGES.get(name, name) for name in needs)
    return Technique(slug, defined, sorted(left_out), needs, body, example)


class _Part:
    """A statement of a cell with the comments before it. used, bound: its names of the module."""

    def __init__(self, node, text):
        self.node, self.text = node, text
        table = symtable.symtable(text, "technique", "exec")
        self.used = used_globals(table)
        self.bound = [s.get_name() for s in table.get_symbols() if s.is_assigned()]
        for inner in ast.walk(node):
            self.used |= {line[0].partition(".")[0] for _, line in bindings(inner)} & set(OWN)

    @property
    def described(self):
        """(kind, first sentence of the docstring)."""
        if not isinstance(self.node, ast.FunctionDef | ast.ClassDef):
            return "data", ""
        first = " ".join((ast.get_docstring(self.node) or "").partition("\n\n")[0].split())
        sentence = re.match(r".+?[.](?= [A-Z]|$)|.+", first)
        kind = "class" if isinstance(self.node, ast.ClassDef) else "function"
        return kind, sentence[0] if sentence else ""


def _pieces(source):
    """Yield (statement, its text and that between it and the one before), but for imports."""
    lines, start = source.splitlines(), 0
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            yield node, "\n".join(lines[start : node.end_lineno])
        start = node.end_lineno


def defined(source):
    """The names that a cell defines at its top level."""
    return [name for piece in _pieces(source) for name in _Part(*piece).bound]


def _helpers(imports, root):
    """Short functions of labutils that need nothing else of it, as parts.

    They go from the imports, and what they import themselves comes in.
    """
    found = []
    for name, (module, inside, alias) in list(imports.items()):
        file = root.joinpath(*module.split(".")).with_suffix(".py")
        if module.partition(".")[0] not in OWN or not inside or alias or not file.is_file():
            continue
        source = file.read_text("utf-8")
        own = {bound: line for node in ast.parse(source).body for bound, line in bindings(node)}
        pieces = [_Part(*piece) for piece in _pieces(source)]
        others = {bound for part in pieces for bound in part.bound if bound != name}
        others |= {bound for bound, line in own.items() if line[0].partition(".")[0] in OWN}
        for part in pieces:
            short = isinstance(part.node, ast.FunctionDef) and part.text.count("\n") <= SHORT
            if name in part.bound and short and not part.used & (others | set(OWN)):
                found.append(part)
                del imports[name]
                imports |= {k: v for k, v in own.items() if k in part.used and k not in imports}
    return found


def _apart(parts, imports):
    """(parts that stand alone, names that do not): what uses the book's packages, and its users."""
    away = {name for name, line in imports.items() if line[0].partition(".")[0] in OWN} | set(OWN)
    kept = parts
    while len(found := [part for part in kept if not part.used & away]) < len(kept):
        away |= {name for part in kept if part not in found for name in part.bound}
        kept = found
    return kept, away & {name for part in parts for name in part.bound}


# --- the file ------------------------------------------------------------------------------------


def tests(slug, root):
    """The files that test a notebook's technique: those that load nothing else, or all."""
    files = (root / "tests" / "notebooks").glob(f"*/test_{slug.replace('-', '_')}*.py")
    texts = {file: file.read_text("utf-8") for file in sorted(files)}
    alone = [file for file in texts if f'technique.load("{slug}")' in texts[file]]
    return alone or [file for file in texts if f'technique.load("{slug}"' in texts[file]]


def text(paper, root):
    """The file of a paper's technique: header, imports, code, and an example that it runs."""
    found, (url, tag) = of(paper.slug, root), notebooks.repository(root)
    return catalogue.filled(
        root, "technique.txt", paper=paper, found=found, url=url, tag=tag, licence=LICENCE,
        address=notebooks.public_address(url), version=notebooks.version(root), main=_main(found),
    )  # fmt: skip


def _main(found):
    """The example as what the file does when it is run."""
    if not found.example:
        return ""
    there = {found.line, *found.body.splitlines()}
    lines = [line for line in found.example.splitlines()
             if not line or not (line in there or line.startswith(found.line))]  # fmt: skip
    block = textwrap.indent("\n".join(lines).strip("\n"), "    ")
    return f'\n\nif __name__ == "__main__":\n{block}\n'


def write(folder, root=None, names=None):
    """Write the files of notebooks (default: all that have a technique); return their paths."""
    root = notebooks.book_root(root)
    known = catalogue.load(root)
    papers = [known.paper(slug) for slug in names or notebooks.chapters(root)]
    made = [(of(paper.slug, root), paper) for paper in papers]
    files = {folder / f"{found.module}.py": text(paper, root) for found, paper in made if found}
    notebooks.write(files)
    return list(files)
