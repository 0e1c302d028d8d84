"""Chapters as source: their cells, technique modules, code fingerprints and the chapter contract.

Everything here reads the notebooks as files and imports neither torch nor Jupyter, so that tests,
the site and the pipeline can use it alike. ``root`` is always the book's folder (the one that holds
``_config.yml`` and ``labutils/``); left out, it is found from the working folder upwards, then from
this package.
"""

import ast
import builtins
import dis
import functools
import hashlib
import io
import json
import linecache
import os
import re
import sys
import tempfile
import tokenize
import types
from pathlib import Path

# Modules that cannot change a result: the package's front page, figures and the pipeline itself.
NOT_IN_FINGERPRINT = {
    "__init__", "__main__", "formats", "notebooks", "pipeline", "plots", "report", "sweep",
}  # fmt: skip

CHAPTER_NAME = re.compile(r"\d\d-[a-z0-9]+(-[a-z0-9]+)*")
MAX_LINES, MAX_TECHNIQUE_LINES, MAX_PRINTED_LINES = 40, 30, 20
COLOURED_NAME = re.compile(r'"(?!color")[^"\n]+"[:,] \(?plots\.(?!COLOURS)[A-Z]+')
REQUIRED_TAGS = ("technique", "check", "claims")
VOLATILE_METADATA = ("papermill", "execution", "ExecuteTime", "widgets")


class NotebookError(Exception):
    """A chapter cannot be found, read or loaded; the message says which one and what to do."""


def find_root(start=None):
    """Return the book's folder as a ``Path``, or None (the package is installed without the book).

    Looked for in ``start`` (default: the working folder), its parents, then around this package.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[1]):
        if (folder / "_config.yml").is_file() and (folder / "labutils" / "__init__.py").is_file():
            return folder
    return None


def book_root(root=None):
    """Like ``find_root``, but ``root`` itself if given, and ``NotebookError`` instead of None."""
    root = Path(root) if root else find_root()
    if root is None:
        raise NotebookError(
            f"the book's folder was not found from {Path.cwd()}: expected a folder that holds "
            "_config.yml and labutils/. Run this inside a clone of the book."
        )
    return root


def chapters(root=None):
    """Return the names of all chapters, ``["01-clip", ...]``, in the order of the book."""
    return sorted(path.stem for path in (book_root(root) / "notebooks").glob("*.ipynb"))


def path(chapter, root=None):
    """Return the chapter's file. Raises ``NotebookError`` with the valid names if there is none."""
    root = book_root(root)
    file = root / "notebooks" / f"{chapter}.ipynb"
    if not file.is_file():
        valid = ", ".join(chapters(root)) or "none yet"
        raise NotebookError(f"unknown chapter {chapter!r}; the chapters are: {valid}")
    return file


def read(file):
    """Return a notebook (nbformat 4) as a dict with every source and output text as one string."""
    file = Path(file)
    try:
        notebook = json.loads(file.read_text(encoding="utf-8"))
        cells = notebook["cells"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookError(
            f"{file} is not a Jupyter notebook ({error}); restore it, for example with "
            f"`git checkout -- {file.name}` in its folder"
        ) from None
    for cell in cells:
        cell["source"] = _text(cell["source"])
        for output in cell.get("outputs", ()):
            if "text" in output:
                output["text"] = _text(output["text"])
            data = output.get("data", {})
            for mime in data:
                if not mime.endswith("json"):
                    data[mime] = _text(data[mime])
    return notebook


def write(notebook, file):
    """Write a notebook in Jupyter's own layout. The file appears whole or not at all."""
    import nbformat

    text = nbformat.writes(nbformat.from_dict(notebook), version=4)
    write_text(text.rstrip("\n") + "\n", file)


def write_text(text, file):
    """Write UTF-8 text through a temporary neighbour; the file appears whole or not at all."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, file.stat().st_mode & 0o777 if file.exists() else 0o644)
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _text(value):
    return value if isinstance(value, str) else "".join(value)


def tags(cell):
    """Return the set of a cell's tags."""
    return set(cell.get("metadata", {}).get("tags", ()))


def code_cells(notebook):
    """Return ``[(number, cell), ...]`` of the code cells; numbers count all cells from 1."""
    return [
        (number, cell)
        for number, cell in enumerate(notebook["cells"], 1)
        if cell["cell_type"] == "code"
    ]


# --- technique cells as a module -----------------------------------------------------------------


def load(chapter, root=None):
    """Return a module made of the chapter's cells tagged ``technique``, in their order.

    The imports that these cells use are taken from all code cells; nothing else is executed. So
    tests call the code that readers read. The module is made once for each content of these cells.
    Tracebacks and ``inspect.getsource`` show the cells' source.

    Raises ``NotebookError`` naming the chapter and the cell if there is no technique cell, a cell
    is not valid Python, fails, or uses a name that neither a technique cell nor an import defines.
    """
    file = path(chapter, root).resolve()
    notebook = read(file)
    technique = [
        (n, cell["source"]) for n, cell in code_cells(notebook) if "technique" in tags(cell)
    ]
    if not technique:
        raise NotebookError(f"{chapter} has no code cell with the tag `technique`")
    trees = {number: _parse(chapter, number, source) for number, source in technique}
    used = {
        node.id for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.Name)
    }
    imports = []
    for number, cell in code_cells(notebook):
        if number not in trees and tags(cell).isdisjoint({"setup", "parameters"}):
            imports += _imports(_parse(chapter, number, cell["source"]), used)
    return _make_module(str(file), chapter, tuple(dict.fromkeys(imports)), tuple(technique))


def _parse(chapter, number, source):
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise NotebookError(
            f"{chapter}, cell {number} is not valid Python: {error.msg} (line {error.lineno})"
        ) from None


def _imports(tree, names):
    """Yield the top-level import statements of a cell, cut down to what binds one of ``names``."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = [a for a in node.names if (a.asname or a.name.split(".")[0]) in names]
            if kept:
                yield ast.unparse(
                    ast.Import(kept)
                    if isinstance(node, ast.Import)
                    else ast.ImportFrom(node.module, kept, node.level)
                )


@functools.lru_cache(maxsize=32)
def _make_module(file, chapter, imports, technique):
    name = "notebook_" + chapter.replace("-", "_")
    header = f"# imports of {chapter}\n" + "\n".join(imports)
    parts = [(f"{file}, imports", header)]
    parts += [(f"{file}, cell {number}", source) for number, source in technique]
    # One text of all cells under the module's own file name: inspect looks for classes there.
    whole = f"{file}, technique cells"
    module = types.ModuleType(name, f"Technique cells of notebooks/{chapter}.ipynb.")
    module.__file__ = whole
    text = "\n\n".join(source for _, source in parts)
    for filename, source in [*parts, (whole, text)]:
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    previous, sys.modules[name] = sys.modules.get(name), module
    try:
        needed = {}
        for filename, source in parts:
            label = f"{chapter}, {filename.rpartition(', ')[2]}"
            code = compile(source, filename, "exec")
            for used in global_names(code):
                needed.setdefault(used, label)
            try:
                exec(code, module.__dict__)
            except NameError as error:
                raise _undefined(label, error.name or str(error)) from error
            except Exception as error:
                raise NotebookError(f"{label}: {type(error).__name__}: {error}") from error
        for used, label in needed.items():
            if used not in module.__dict__ and not hasattr(builtins, used):
                raise _undefined(label, used)
    except NotebookError:
        sys.modules.pop(name)
        if previous is not None:
            sys.modules[name] = previous
        raise
    return module


def _undefined(label, name):
    return NotebookError(
        f"{label} uses `{name}`, which no technique cell and no import defines. Define it in a "
        "technique cell, import it, or pass it as an argument."
    )


def global_names(code):
    """Yield the names that a code object and everything inside it look up as globals."""
    instructions = list(dis.get_instructions(code))
    own = {i.argval for i in instructions if i.opname == "STORE_NAME"}  # of a class body
    for instruction in instructions:
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
        elif instruction.opname == "LOAD_NAME" and instruction.argval not in own:
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from global_names(constant)


def settings(chapter, profile, root=None):
    """Return the row of a profile in the chapter's table ``SETTINGS``, a dict.

    Assignments in front of the table, in the same cell, are executed; nothing else is. Raises
    ``NotebookError`` where there is no table, or it cannot be made, or lacks the profile.
    """
    for number, cell in code_cells(read(path(chapter, root))):
        names, lines = {}, _parse(chapter, number, cell["source"]).body
        assigned = [line for line in lines if isinstance(line, ast.Assign)]
        targets = [ast.unparse(line.targets[0]) for line in assigned]
        if "SETTINGS" not in targets:
            continue
        table = ast.Module(assigned[: targets.index("SETTINGS") + 1], [])
        try:
            exec(compile(table, chapter, "exec"), names)
            return names["SETTINGS"][profile]
        except Exception as error:
            raise NotebookError(
                f"{chapter}, cell {number}: SETTINGS gives no settings of the profile {profile} "
                f"({type(error).__name__}: {error})"
            ) from error
    raise NotebookError(f"{chapter} has no table SETTINGS")


# --- fingerprint ---------------------------------------------------------------------------------


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
    if root is None or not (root / "notebooks" / f"{chapter}.ipynb").is_file():
        return None
    notebook = read(root / "notebooks" / f"{chapter}.ipynb")
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


def package_digest():
    """Return 16 hex digits that change when code of the installed package changes."""
    files = sorted(Path(__file__).parent.glob("*.py"))
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


# --- setup cell ----------------------------------------------------------------------------------

_SETUP = """\
# Installs the book's package where it is absent (Colab, Kaggle); does nothing elsewhere.
import importlib.util
import subprocess
import sys
import tempfile
from importlib import metadata

if importlib.util.find_spec("labutils") is None:
    host = [f"{name}=={metadata.version(name)}" for name in ("torch", "torchvision", "numpy")]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as constraints:
        constraints.write("\\n".join(host))  # keeps the host's own torch
    book = "labutils @ git+{url}@{ref}"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints.name]
    subprocess.run([*pip, book], check=True)"""


def repository(root=None):
    """Return the book's public address and the tag or branch that its pages are rendered from.

    Both stand in ``_config.yml``, as ``repository.url`` and ``repository.branch``.
    """
    import yaml

    file = book_root(root) / "_config.yml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))["repository"]
        return found["url"].rstrip("/"), found["branch"].strip()
    except (OSError, KeyError, TypeError, AttributeError):
        raise NotebookError(
            f"{file} does not give the book's public address; expected\n"
            "repository:\n  url: https://github.com/OWNER/REPOSITORY\n  branch: TAG or BRANCH"
        ) from None


def setup_cell(root=None):
    """Return the source that the ``setup`` cell of every chapter must have."""
    url, ref = repository(root)
    return _SETUP.replace("{url}", url).replace("{ref}", ref)


def rewrite_setup_cells(root=None):
    """Give every chapter the current setup cell; return the names of the chapters that changed."""
    root = book_root(root)
    source, changed = setup_cell(root), []
    for chapter in chapters(root):
        notebook = read(path(chapter, root))
        found = [cell for _, cell in code_cells(notebook) if "setup" in tags(cell)]
        if any(cell["source"] != source for cell in found):
            for cell in found:
                cell["source"] = source
            write(notebook, path(chapter, root))
            changed.append(chapter)
    return changed


# --- contract ------------------------------------------------------------------------------------


def problems(chapter, root=None):
    """Return what is wrong with a chapter by the book's contract, one line each; empty if nothing.

    The contract: name ``NN-name``; first the setup cell (as ``setup_cell`` gives it), then the one
    parameters cell (``profile = "small"``, ``seeds = None``); technique, check and claims cells;
    plain Python in cells of at most 40 lines (technique: 30); stored outputs of one run from top to
    bottom without errors, warnings and more than 20 printed lines; alternative text for figures;
    methods coloured by ``plots.COLOURS``; unique cell ids; no traces of the execution in the
    metadata.
    """
    root = book_root(root)
    notebook = read(path(chapter, root))
    cells = code_cells(notebook)
    found = []
    if not CHAPTER_NAME.fullmatch(chapter):
        found.append(f"the name {chapter!r} is not of the form NN-name, such as 04-rs2")
    found += _opening_problems(cells, root)
    for tag in REQUIRED_TAGS:
        if not any(tag in tags(cell) for _, cell in cells):
            found.append(f"no code cell has the tag `{tag}`")
    ids = [cell.get("id") for cell in notebook["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        found.append("cell ids are missing or not unique (nbformat 4.5 is needed)")
    if set(VOLATILE_METADATA) & set(notebook.get("metadata", {})):
        found.append("the notebook's metadata holds traces of an execution; store it by `execute`")
    counts = [cell.get("execution_count") for _, cell in cells if cell["source"].strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append("the stored outputs are not those of one run from top to bottom; execute it")
    for number, cell in cells:
        found += [f"cell {number}: {problem}" for problem in _cell_problems(cell)]
    return found


def _opening_problems(cells, root):
    setup = [number for number, cell in cells if "setup" in tags(cell)]
    parameters = [number for number, cell in cells if "parameters" in tags(cell)]
    if len(setup) != 1:
        yield f"expected exactly one setup cell, found {len(setup)}"
    if len(parameters) != 1:
        yield f"expected exactly one parameters cell, found {len(parameters)}"
    if len(setup) == len(parameters) == 1:
        if setup + parameters != [number for number, _ in cells[:2]]:
            yield "the first two code cells must be the setup cell and the parameters cell"
        source = dict(cells)[parameters[0]]["source"]
        if _normalise(source) != _normalise('profile = "small"\nseeds = None'):
            yield 'the parameters cell must be `profile = "small"` and `seeds = None`'
        if dict(cells)[setup[0]]["source"] != setup_cell(root):
            yield "the setup cell is not the current one; run `python -m labutils setup-cells`"


def _cell_problems(cell):
    source, lines = cell["source"], len(cell["source"].splitlines())
    limit = MAX_TECHNIQUE_LINES if "technique" in tags(cell) else MAX_LINES
    if lines > limit:
        yield f"{lines} lines, at most {limit} are allowed"
    try:
        ast.parse(source)
    except SyntaxError as error:
        yield f"not plain Python: {error.msg} (line {error.lineno})"
    if match := COLOURED_NAME.search(source):
        yield f"{match[0]}...: colours of methods come from `plots.COLOURS`, one for the whole book"
    if set(VOLATILE_METADATA) & set(cell.get("metadata", {})):
        yield "the metadata holds traces of an execution"
    outputs = cell.get("outputs", [])
    for output in outputs:
        if output["output_type"] == "error" and "raises-exception" not in tags(cell):
            yield f"a stored error: {output['ename']}: {output['evalue']}"
        if output.get("name") == "stderr":
            yield f"stored warnings: {output['text'].strip().splitlines()[-1]}"
    printed = sum(
        len(output["text"].splitlines()) for output in outputs if output.get("name") == "stdout"
    )
    if printed > MAX_PRINTED_LINES:
        yield f"prints {printed} lines, at most {MAX_PRINTED_LINES} are allowed"
    mystnb = cell.get("metadata", {}).get("mystnb", {})
    figures = any(
        mime.startswith("image/") for output in outputs for mime in output.get("data", {})
    )
    if (figures or "figure" in mystnb) and not mystnb.get("image", {}).get("alt", "").strip():
        yield "a figure without alternative text (metadata: mystnb.image.alt)"
