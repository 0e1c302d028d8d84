"""Whether a record's code is still the code at hand.

A fingerprint counts what the numbers of a notebook depend on: its code, the definitions of
`labutils` that this code reaches by their names, and the packaged data that is named. Names are
followed through modules, re-exports and imports inside functions, but not into other packages.
What reading cannot tell counts as a whole: a module that is handed around, as in `getattr(module,
name)`, `from module import *`, names made while code runs, a table of which no key is named.
"""

import ast
import builtins
import functools
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from labutils import find_root
from press import notebooks
from press.source import FUNCTIONS, IMPORTS, References, bound, dotted, dump, parse

# What may change without changing a number, and why.
NOT_COUNTED = {
    "labutils.plots": "draws numbers that stand already",
    "labutils.formats": "writes numbers as text",
    "labutils.progress": "tells whoever waits",
    "labutils.claims": "stores values as they are given; verdicts are derived when they are read",
    "labutils.kept": "gives back what a job computed; its own tests hold it to that",
    "labutils.__version__": "a release is a name for what counts already",
}
# Calls that leave nothing behind but their value: what is defined by them counts where it is used.
# Every other call at the top of a module counts as soon as the module is imported.
QUIET = set(
    """tuple list dict set frozenset range sorted len zip enumerate map min max sum str int float
    bool type Path compile split keys values items join tensor arange array linspace zeros ones
    unbind dataclass field no_grad inference_mode cache lru_cache cached_property property setter
    staticmethod classmethod contextmanager abstractmethod wraps""".split()
)
MODULE_NAMES = {"__file__", "__name__", "__doc__", "__path__", "__spec__"}
SHORTEST = 3  # letters of a text that can be a part of a key


def fingerprint(notebook, root=None):
    """Return 16 hex digits that change when something changes that a notebook's numbers depend on.

    None if the notebook's source is not at hand (package installed without book). The value does
    not depend on the version of Python.
    """
    parts = fingerprint_parts(notebook, root)
    return None if parts is None else _digest(json.dumps(parts, sort_keys=True))


def fingerprint_parts(notebook, root=None):
    """Return what the fingerprint is made of, {what counts: digest}, or None without the source.

    "notebook": all code cells but the setup cell. "labutils.models.TinyCNN": a definition.
    "labutils.models, when imported": what the module does to others then. "labutils.models": its
    imports, where the module counts as a whole. "assets/emoji.json": a packaged file.
    """
    root = Path(root) if root else find_root()
    if root is None:
        return None
    try:
        cells = notebooks.code_cells(notebooks.read(notebooks.path(notebook, root)))
    except notebooks.NotebookError:
        return None
    sources = [cell["source"] for _, cell in cells if "setup" not in notebooks.tags(cell)]
    return _Reach(root / "labutils", "\n".join(sources)).parts()


def _digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@functools.cache
def _file_digest(file, _size, _changed):
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


# --- modules --------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Module:
    """The top level of a module.

    statements: {name: those that define it}; imports: {name: paths}; effects: statements that
    change more than the names that they define; loads: paths that are imported with the module;
    registers: whether its classes may learn of their subclasses.
    """

    name: str
    tree: ast.Module
    statements: dict
    imports: dict
    effects: list
    loads: set
    registers: bool


@functools.lru_cache(maxsize=512)
def _read(name, package, source):
    tree = parse(source, package)
    made = {"__init__", "__post_init__", "__new__"}
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.bases]
    quiet = QUIET | {node.name for node in classes if not made & set(bound(node.body))}
    statements, imports, effects, loads = {}, {}, [], set()
    for statement in tree.body:
        for defined, paths in bound([statement]).items():
            if paths:
                imports.setdefault(defined, set()).update(paths)
            if not isinstance(statement, IMPORTS):
                statements.setdefault(defined, []).append(statement)
        if not isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
            loads |= _references(statement).loads
        if _acts(statement, quiet):
            effects.append(statement)
    registers = "__init_subclass__" in source or "metaclass" in source
    return _Module(name, tree, statements, imports, effects, loads, registers)


_references = functools.cache(References)
_dumped = functools.cache(dump)


def _acts(statement, quiet):
    """Whether a statement at the top of a module may change more than the names that it binds."""
    queue = [statement]
    while queue:
        node = queue.pop()
        decorators = getattr(node, "decorator_list", [])
        called = [d for d in decorators if not isinstance(d, ast.Call)]
        called += [node.func] if isinstance(node, ast.Call) else []
        changing = isinstance(node, ast.AugAssign | ast.Delete | ast.With) or (
            isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
        )
        told = isinstance(node, ast.ClassDef) and node.keywords
        if changing or told or {getattr(c, "attr", dotted(c)) for c in called} - quiet:
            return True
        if isinstance(node, (*FUNCTIONS, ast.Lambda)):  # the body does not run yet
            queue += [*decorators, node.args]
        else:
            queue += ast.iter_child_nodes(node)
    return False


def _table(statements):
    """{key: node} of a definition that is a literal dict with texts as keys, else None."""
    value = getattr(statements[0], "value", None)
    if len(statements) > 1 or not isinstance(value, ast.Dict):
        return None
    keys = [getattr(key, "value", None) for key in value.keys]
    if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
        return None
    return dict(zip(keys, value.values, strict=True))


def _lists_names(statements):
    """Whether a definition is a literal list of names and constants, such as `(*TABLE, "more")`."""
    items = getattr(getattr(statements[0], "value", None), "elts", [None])
    plain = [item.value if isinstance(item, ast.Starred) else item for item in items]
    named = all(isinstance(item, ast.Name | ast.Constant) for item in plain)
    return len(statements) == 1 and named


# --- reach ----------------------------------------------------------------------------------------


class _Reach:
    """What a notebook's source reaches in the package that lies in a folder."""

    def __init__(self, folder, source):
        self.folder = folder
        self.modules = {}  # name -> _Module, or None where there is no such module
        self.loaded = {}  # name -> _Module that is imported
        self.wholes = {}  # name of a module that counts as a whole -> what its imports stand for
        self.reached = {}  # (_Module, name) -> whether only a part of the definition counts
        self.chosen = {}  # (_Module, name of a table) -> {key that is named: node}
        self.resolved = {}  # node -> what the imported names in it stand for
        self.texts = set()
        self.queue = []
        try:
            self.notebook = _read("notebook", "", source)
        except SyntaxError:
            self.notebook = _read(
                "notebook", "", repr(source) + "\nimport labutils\neval(labutils)"
            )
        self._follow(self.notebook, self.notebook.tree)
        while self.queue or self._choose_entries() or self._give_up():
            while self.queue:
                self._visit(*self.queue.pop())

    def parts(self):
        """Return {what counts: digest}."""
        parts = {name: _digest("\n".join(found)) for name, found in self.wholes.items()}
        parts["notebook"] = self._digest([self.notebook.tree])
        for (module, name), partly in self.reached.items():
            nodes = module.statements[name]
            if partly and (module, name) in self.chosen:
                chosen = sorted(self.chosen[module, name].items())
                nodes = [node for key, value in chosen for node in (ast.Constant(key), value)]
            parts[f"{module.name}.{name}"] = self._digest(nodes)
        for name, module in self.loaded.items():
            if module.effects:
                parts[f"{name}, when imported"] = self._digest(module.effects)
        return parts | self._assets()

    def _digest(self, nodes):
        lines = [line for node in nodes for line in (_dumped(node), *self.resolved.get(node, ()))]
        return _digest("\n".join(lines))

    def _assets(self):
        """Digests of the packaged files whose names begin with a text of the reached code."""
        beginnings = tuple(text for text in self.texts if len(text) >= SHORTEST)
        found = [f for f in sorted((self.folder / "assets").rglob("*")) if f.is_file()]
        data = [file for file in found if not file.name.endswith("LICENSE.txt")]
        named = [file for file in data if file.name.startswith(beginnings)]
        digests = {}
        for file in named or (data if "assets" in self.texts else []):
            status = file.stat()
            digests[f"assets/{file.name}"] = _file_digest(file, status.st_size, status.st_mtime_ns)
        return digests

    def _module(self, name):
        if name not in self.modules:
            base = self.folder.parent.joinpath(*name.split("."))
            package = (base / "__init__.py").is_file()
            file = base / "__init__.py" if package else base.with_suffix(".py")
            holder = name if package else name.rpartition(".")[0]
            found = _read(name, holder, file.read_text("utf-8")) if file.is_file() else None
            self.modules[name] = found
        return self.modules[name]

    def _load(self, path):
        """Count what modules do while an import of this path runs."""
        pieces = path.split(".")
        for stop in range(1, len(pieces) + 1) if pieces[0] == "labutils" else ():
            name = ".".join(pieces[:stop])
            if name not in self.loaded and (module := self._module(name)):
                self.loaded[name] = module
                for further in module.loads:
                    self._load(further)
                for statement in module.effects:
                    self._follow(module, statement)

    def _follow(self, module, node, use=None):
        """Reach what a piece of code of a module looks up; use: instead of what the code says."""
        references, found = _references(node), set()
        self.texts |= references.texts
        for path in references.loads:
            self._load(path)
        for name, its_use in references.names:
            root = name.partition(".")[0]
            if root in module.imports or (
                root in module.statements and module is not self.notebook
            ):
                targets = self._within(module, name.split("."), use or its_use)
                found |= {f"{name} is {target}" for target in targets if root in module.imports}
            elif module is not self.notebook and root not in MODULE_NAMES | set(dir(builtins)):
                self._reach_whole(module)
        for path, its_use in references.paths:
            found |= {f"{path} is {target}" for target in self._stands_for(path, its_use)}
        if references.unclear:
            self._reach_whole(module)
        for path in module.imports.get("*", ()):
            self._stands_for(path, "whole")
        self.resolved[node] = sorted(found)

    def _stands_for(self, path, use, seen=()):
        """Reach the definitions that an absolute path stands for; return their names."""
        pieces = path.split(".")
        if pieces[0] != "labutils":
            return {path}
        self._load(path)
        return self._within(self._module("labutils"), pieces[1:], use, seen)

    def _within(self, module, pieces, use, seen=()):
        """The same for a dotted name in a module."""
        if module is None or module.name in NOT_COUNTED:
            return set()
        if pieces in ([], ["*"]):
            self._reach_whole(module)
            return {module.name}
        (name, *rest), found = pieces, set()
        if f"{module.name}.{name}" in NOT_COUNTED:
            return set()
        if name in module.statements and module is not self.notebook:
            self._reach(module, name, use if rest in ([], ["get"]) else "whole")
            found.add(f"{module.name}.{name}")
        for path in module.imports.get(name, ()) if (module, name) not in seen else ():
            longer = ".".join([path, *rest])
            found |= self._stands_for(longer, use, (*seen, (module, name)))
        inner = None if module is self.notebook else self._module(f"{module.name}.{name}")
        if inner:
            found |= self._within(inner, rest, use, seen)
        elif name not in {*module.statements, *module.imports, *MODULE_NAMES}:
            self._reach_whole(module)
            found.add(module.name)
        return found

    def _reach(self, module, name, use):
        statements = module.statements[name]
        partly = (use != "whole" and _table(statements) is not None) or (
            use == "member" and _lists_names(statements)
        )
        before = self.reached.get((module, name))
        if before is None or (before and not partly):
            self.reached[module, name] = partly
            self.queue.append((module, name))

    def _reach_whole(self, module):
        """Count all of a module: definitions, what it imports, and the modules below it."""
        if module.name in self.wholes or module.name in NOT_COUNTED:
            return
        self.wholes[module.name] = ()
        if module is not self.notebook:
            for name in module.statements:
                self._within(module, [name], "whole")
        found = set()
        for name, paths in module.imports.items():
            targets = {target for path in paths for target in self._stands_for(path, "whole")}
            found |= {f"{name} is {target}" for target in targets}
        self.wholes[module.name] = sorted(found)
        for file in self.folder.parent.joinpath(*module.name.split(".")).glob("*"):
            if inner := self._module(f"{module.name}.{file.stem}"):
                self._load(inner.name)
                self._reach_whole(inner)

    def _visit(self, module, name):
        statements, partly = module.statements[name], self.reached[module, name]
        if partly and _table(statements) is not None:
            self.chosen.setdefault((module, name), {})
        else:
            for statement in statements:
                self._follow(module, statement, "member" if partly else None)

    def _choose_entries(self):
        """Follow the entries of tables whose keys are named; return whether there are new ones.

        A key is named by a text that holds it as a word, or with which it begins or ends: it may be
        cut out of texts or put together from them.
        """
        new, words = [], "\n".join(self.texts)
        for (module, name), chosen in self.chosen.items():
            table = _table(module.statements[name])
            parts = tuple(t for t in self.texts if len(t) >= SHORTEST and t not in table)
            for key in table.keys() - chosen.keys():
                whole = re.search(rf"(?<!\w){re.escape(key)}(?!\w)", words)
                if whole or key.startswith(parts) or key.endswith(parts):
                    new.append((module, name, key, table[key]))
        for module, name, key, node in new:
            self.chosen[module, name][key] = node
            self._follow(module, node)
        return bool(new)

    def _give_up(self):
        """Count as a whole what cannot be told apart; return whether there is more of that.

        Tables of which no key is named, and all classes where one may learn of its subclasses.
        """
        before = len(self.reached), sum(self.reached.values())
        for (module, name), chosen in self.chosen.items():
            if not chosen:
                self._reach(module, name, "whole")
        modules = [*self.loaded.values()]
        for module in modules if any(module.registers for module in modules) else ():
            for statement in module.tree.body:
                if isinstance(statement, ast.ClassDef):
                    self._within(module, [statement.name], "whole")
        return before != (len(self.reached), sum(self.reached.values()))
