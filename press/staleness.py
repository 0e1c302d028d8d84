"""Whether a record's code is still the code at hand."""

import ast
import hashlib
import io
import json
import tokenize
from pathlib import Path

from labutils import find_root
from press.notebooks import NotebookError, code_cells, path, read, tags

# Modules that cannot change a result: the package's front page and figures.
NOT_IN_FINGERPRINT = {"__init__", "chapter", "formats", "plots"}


def fingerprint(chapter, root=None):
    """Return 16 hex digits that change when code changes that can change the chapter's results.

    Counted are the chapter's code cells (without the ``setup`` cell) and every module of labutils
    that they import, directly or through another one; comments, blank lines, layout and docstrings
    do not count, nor do the modules in ``NOT_IN_FINGERPRINT``. The value does not depend on the
    Python version. None if the chapter's source is not at hand (package installed without book).
    """
    parts = fingerprint_parts(chapter, root)
    if parts is None:
        return None
    return _digest(json.dumps(parts, sort_keys=True))


def fingerprint_parts(chapter, root=None):
    """Return ``{"notebook": digest, "labutils.data": digest, ...}``, or None without the source."""
    root = Path(root) if root else find_root()
    if root is None:
        return None
    try:
        notebook = read(path(chapter, root))
    except NotebookError:
        return None
    cells = [cell["source"] for _, cell in code_cells(notebook) if "setup" not in tags(cell)]
    parts = {"notebook": _digest("\n%%\n".join(_normalise(source) for source in cells))}
    queue = sorted({name for source in cells for name in _labutils_imports(source, root, ())})
    while queue:
        name = queue.pop()
        if name in parts or name.removeprefix("labutils.") in NOT_IN_FINGERPRINT:
            continue
        file = _module_file(name, root)
        source = file.read_text(encoding="utf-8")
        parts[name] = _digest(_normalise(source))
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        queue += _labutils_imports(source, root, tuple(package.split(".")))
    return parts


def package_digest(root=None):
    """Return 16 hex digits that change when code of the reader's package changes."""
    folder = Path(__file__).resolve().parents[1] / "labutils"
    files = sorted(folder.rglob("*.py"))
    return _digest("\n".join(_normalise(file.read_text(encoding="utf-8")) for file in files))


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _module_file(name, root):
    base = root.joinpath(*name.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _labutils_imports(source, root, package):
    """Return the modules of labutils that a source imports; ``package`` resolves relative ones."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in node.names)
    found = set()
    for name in names:
        pieces = name.split(".")
        if pieces[0] == "labutils":
            for stop in range(2, len(pieces) + 1):
                if _module_file(".".join(pieces[:stop]), root):
                    found.add(".".join(pieces[:stop]))
    return found


def _normalise(source):
    """Return a source as its tokens, one per line, without comments, layout and docstrings.

    Written on tokens since the dump of a syntax tree differs between versions of Python; f-strings,
    which Python 3.12 splits into tokens, count as the text between their quotes on every version.
    """
    source = source.rstrip() + "\n"
    try:
        docstrings = _docstring_positions(ast.parse(source))
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return source
    lines = source.splitlines(keepends=True)
    layout = {tokenize.INDENT: "<indent>", tokenize.DEDENT: "<dedent>", tokenize.NEWLINE: "<line>"}
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.ENDMARKER}
    out, fstring_depth, fstring_start, after_docstring = [], 0, None, False
    for token in tokens:
        kind = tokenize.tok_name[token.type]
        if kind in ("FSTRING_START", "TSTRING_START"):
            fstring_start = fstring_start if fstring_depth else token.start
            fstring_depth += 1
        elif kind in ("FSTRING_END", "TSTRING_END"):
            fstring_depth -= 1
            if not fstring_depth:
                out.append(repr(_between(lines, fstring_start, token.end)))
        elif fstring_depth or token.type in skipped:
            continue
        elif token.type == tokenize.STRING and token.start in docstrings:
            after_docstring = True
        elif after_docstring and token.type == tokenize.NEWLINE:
            after_docstring = False
        elif token.type in layout:
            out.append(layout[token.type])
        else:
            out.append(repr(token.string))
    return "\n".join(out)


def _docstring_positions(tree):
    """Return the start positions of the string tokens of all docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    positions = set()
    for node in ast.walk(tree):
        if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
            positions.add((node.body[0].lineno, node.body[0].col_offset))
    return positions


def _between(lines, start, end):
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    return lines[first - 1][left:] + "".join(lines[first : last - 1]) + lines[last - 1][:right]
