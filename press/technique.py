"""The technique cells of a notebook as a module, and its table of settings, without running it."""

import ast
import builtins
import functools
import linecache
import re
import symtable
import sys
import types

from labutils import PROFILES
from press.notebooks import NotebookError, code_cells, path, read
from press.notebooks import tags as tags_of


def load(slug, root=None, tags=("technique",), given=None):
    """Return a module made of the notebook's cells that have one of ``tags``, in their order.

    The imports that these cells use are taken from all code cells; nothing else is executed. So
    tests call the code that readers read. given: further names that the cells may use, such as
    ``{"lab": lab, "S": lab.settings}`` for the cells tagged ``experiment``. Without them, a module
    is made once for each content of its cells. Tracebacks and ``inspect.getsource`` show them.

    Raises ``NotebookError`` naming the notebook and the cell if there is no such cell, a cell is
    not valid Python, fails, or uses a name that neither these cells nor an import defines.
    """
    file = path(slug, root).resolve()
    cells = code_cells(read(file))
    chosen = [(n, cell["source"]) for n, cell in cells if tags_of(cell) & set(tags)]
    if not chosen:
        wanted = " or ".join(f"`{tag}`" for tag in tags)
        raise NotebookError(f"{slug} has no code cell with the tag {wanted}")
    trees = {number: _parse(slug, number, source) for number, source in chosen}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    imports = set()
    for number, cell in cells:
        if number not in trees and tags_of(cell).isdisjoint({"setup", "parameters"}):
            for node in _parse(slug, number, cell["source"]).body:
                imports |= {line for name, line in bindings(node) if name in used}
    parts = str(file), slug, sorted_imports(imports), tuple(chosen)
    return _make_module(*parts) if given is None else _make_module.__wrapped__(*parts, given)


def _parse(chapter, number, source):
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise NotebookError(
            f"{chapter}, cell {number} is not valid Python: {error.msg} (line {error.lineno})"
        ) from None


def bindings(node):
    """Yield (name, (module, name in it or None, as)) of an import statement."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            inside = isinstance(node, ast.ImportFrom)
            path = (node.module, alias.name) if inside else (alias.name, None)
            yield alias.asname or alias.name.partition(".")[0], (*path, alias.asname)


def sorted_imports(lines):
    """Import statements, the standard library's first."""
    groups = []
    own = {line for line in lines if line[0].partition(".")[0] in sys.stdlib_module_names}
    for group in (own, lines - own):
        whole = sorted(f"import {m}" + f" as {a}" * bool(a) for m, name, a in group if not name)
        members = {}
        for module, name, alias in sorted(x for x in group if x[1]):
            members.setdefault(module, []).append(name + f" as {alias}" * bool(alias))
        whole += [f"from {module} import {', '.join(names)}" for module, names in members.items()]
        groups.append("\n".join(whole))
    return "\n\n".join(filter(None, groups))


@functools.lru_cache(maxsize=32)
def _make_module(file, chapter, imports, technique, given=()):
    name = "notebook_" + chapter.replace("-", "_")
    parts = {f"{file}, imports": f"# imports of {chapter}\n{imports}"}
    parts |= {f"{file}, cell {number}": source for number, source in technique}
    module = types.ModuleType(name, f"Technique cells of notebooks/{chapter}.ipynb.")
    # One text of all cells under the module's own file name: inspect looks for classes there.
    module.__file__, text = f"{file}, technique cells", "\n\n".join(parts.values())
    for place, source in {**parts, module.__file__: text}.items():
        linecache.cache[place] = (len(source), None, source.splitlines(True), place)
    vars(module).update(given)
    previous, sys.modules[name] = sys.modules.get(name), module
    try:
        used = {}
        for place, source in parts.items():
            label = f"{chapter}, {place.rpartition(', ')[2]}"
            names = used_globals(symtable.symtable(source, place, "exec"))
            used = dict.fromkeys(names, label) | used
            try:
                exec(compile(source, place, "exec"), vars(module))
            except NameError as error:
                raise _undefined(label, error.name or str(error)) from error
            except Exception as error:
                raise NotebookError(f"{label}: {type(error).__name__}: {error}") from error
        for missing in sorted(used.keys() - vars(module).keys() - set(dir(builtins))):
            raise _undefined(used[missing], missing)
        for at in re.finditer(r"(?m)^class (\w+)[:(]", text):  # Python 3.13 looks at this line
            vars(module)[at[1]].__firstlineno__ = 1 + text.count("\n", 0, at.start())
    except NotebookError:
        sys.modules[name] = previous  # None: Python finds no module of this name
        raise
    return module


def used_globals(scope):
    """The names that the functions and classes of a scope use and do not define."""
    names = {s.get_name() for s in scope.get_symbols() if s.is_global() and not s.is_local()}
    return names.union(*map(used_globals, scope.get_children()))


def _undefined(label, name):
    return NotebookError(
        f"{label} uses `{name}`, which no technique cell and no import defines. Define it in a "
        "technique cell, import it, or pass it as an argument."
    )


def settings(slug, profile, root=None):
    """Return the column of a profile in the notebook's table ``SETTINGS``, a dict.

    Of the cells that assign to it (or extend it), the assignments up to there are executed, and
    nothing else. Raises ``NotebookError`` if there is no table, it fails, or lacks the profile.
    """
    names, place = {}, f"{slug} has no table SETTINGS"
    for number, cell in code_cells(read(path(slug, root))):
        lines = _parse(slug, number, cell["source"]).body
        lines = [line for line in lines if isinstance(line, ast.Assign | ast.AugAssign)]
        targets = [getattr(line, "target", None) or line.targets[0] for line in lines]
        tables = [k for k, target in enumerate(targets) if ast.unparse(target) == "SETTINGS"]
        if not tables:
            continue
        place = f"{slug}, cell {number}"
        try:
            exec(compile(ast.Module(lines[: tables[-1] + 1], []), slug, "exec"), names)
        except Exception as error:
            raise _no_settings(place, profile, f"{type(error).__name__}: {error}") from error
    rows = names.get("SETTINGS", {})
    widths = {len(row) if isinstance(row, tuple) else 0 for row in rows.values()}
    if widths not in ({len(PROFILES) + 2}, {len(PROFILES) + 1}):
        raise _no_settings(place, profile, "expected rows (smoke, small, full, paper, why)")
    profiles = PROFILES[: widths.pop() - 2]
    if profile not in profiles:
        raise _no_settings(place, profile, f"it has {', '.join(profiles)}")
    return {name: row[profiles.index(profile)] for name, row in rows.items()}


def _no_settings(place, profile, problem):
    return NotebookError(f"{place}: no settings of the profile {profile} ({problem})")
