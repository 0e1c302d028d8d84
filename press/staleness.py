"""Whether a record's code is still the code at hand.

A fingerprint is made in three steps. `press.source` reads modules as lists of definitions, without
what changes no number. `_Reach` begins with the notebook's code and follows every name of it that
stands for a definition of `labutils`, and every name in there, and so on. What it came by is
digested, part by part; so are the packaged files that the reached code names.

When in doubt, more counts. A name counts wherever it stands, as a local name too. An import counts
what its module does then. A module that is handed around counts as a whole, as in `getattr(module,
name)` or `from module import *`; so does the package where names are made while code runs (`eval`).
Of a table, {text: value}, those entries count that a text of the reached code names, or all.

Guards of the package, which refuse bad input, do not count: the run of a record passed them. Those
of a notebook do, for they say something of its numbers. Where a notebook catches errors, all do.
"""

import functools
import hashlib
import json
import re

from press import notebooks
from press.source import Code, Module, parse

# What may change without changing a number, and why.
NOT_COUNTED = {
    "labutils.plots": "draws numbers that stand already",
    "labutils.formats": "writes numbers as text",
    "labutils.progress": "tells whoever waits",
    "labutils.capture": "does the same steps and jobs faster; its own tests hold it to that",
    "labutils.claims": "stores values as they are given; verdicts are derived when they are read",
    "labutils.kept": "gives back what a job computed; its own tests hold it to that",
    "labutils.__version__": "a release is a name for what counts already",
}
PACKAGE = "labutils"
CATCHES = re.compile(r"ExceptHandler\(|[.'](suppress|__exit__|contextmanager)'")  # in a `dump`
SHORTEST = 3  # letters of a text that can be a part of a key


def fingerprint(notebook, root=None):
    """Return 16 hex digits that change when something changes that a notebook's numbers depend on.

    The value does not depend on the version of Python.
    """
    return _digest(json.dumps(fingerprint_parts(notebook, root), sort_keys=True).encode())


def fingerprint_parts(notebook, root=None):
    """Return what the fingerprint is made of, {what counts: digest}.

    "notebook": all code cells but the setup cell. "labutils.models.TinyCNN": a definition, or an
    import. "labutils.models.MODELS['cnn-tiny']": table entry. "labutils.models, when imported":
    what the module does to others then. "assets/emoji.json": a packaged file.
    """
    root = notebooks.book_root(root)
    cells = notebooks.code_cells(notebooks.read(notebooks.path(notebook, root)))
    sources = [cell["source"] for _, cell in cells if "setup" not in notebooks.tags(cell)]
    return _Reach(root, "\n".join(sources)).digests()


def _digest(content):
    return hashlib.sha256(content).hexdigest()[:16]


_parsed = functools.lru_cache(maxsize=512)(Module)


class _Reach:
    """What a notebook's source reaches in the package that lies in a folder."""

    def __init__(self, root, source):
        self.root = root
        self.modules = {}  # name -> Module that is imported, or None where there is none
        self.parts = {}  # what counts -> its Code
        self.tables = {}  # name of a table that is asked for keys -> its Module
        self.found = set()  # (path, use) that are followed
        self.texts = set()  # of the code that counts
        self.queue = []  # arguments of _follow
        try:
            tree = parse(source)
        except SyntaxError:  # such as `%run x`: it may do anything
            tree = parse(f"eval({source!r})")
        notebook = Code(tree)
        self.guards = bool(CATCHES.search(notebook.text))
        self._count("notebook", [notebook])
        if notebook.unclear:
            self._find(PACKAGE)
        while self.queue or self._choose_entries():
            self._follow(*self.queue.pop())

    def digests(self):
        """Return {what counts: digest}."""
        texts = {name: "\n".join(c.text for c in codes) for name, codes in self.parts.items()}
        return {name: _digest(text.encode()) for name, text in texts.items()} | self._assets()

    def _assets(self):
        """Digests of the packaged files whose names begin with a text of the reached code."""
        files = (self.root / PACKAGE / "assets").rglob("*")
        data = [f for f in files if f.is_file() and not f.name.endswith("LICENSE.txt")]
        beginnings = tuple(text for text in self.texts if len(text) >= SHORTEST)
        named = [file for file in data if file.name.startswith(beginnings)]
        counted = named or (data if "assets" in self.texts else [])
        return {f"assets/{file.name}": _digest(file.read_bytes()) for file in counted}

    def _count(self, part, codes, module=None, use=None):
        """Let a part count, and all that its code looks up in its module and elsewhere."""
        self.parts[part] = codes
        self.queue += [(code, module, use) for code in codes]

    def _follow(self, code, module, use):
        """Find what code looks up; use: how it uses that, if not as the code says."""
        self.texts |= code.texts
        for path in code.loads:
            self._find(path, "import")
        for path in code.imports.get("*", ()):
            self._find(path.removesuffix(".*"))
        for name, own_use in code.names:
            root, dot, rest = name.partition(".")
            paths = [path + dot + rest for path in code.imports.get(root, ())]
            if module and root in module.definitions:
                paths.append(f"{module.name}.{name}")
            for path in paths:
                self._find(path, use or own_use)

    def _module(self, name):
        """Return a module or None; the first time, count what it does when it is imported."""
        if name not in self.modules:
            base = self.root.joinpath(*name.split("."))
            package = name if base.is_dir() else name.rpartition(".")[0]
            file = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
            text = file.read_text("utf-8") if file.is_file() else None
            module = None if text is None else _parsed(name, text, package, self.guards)
            self.modules[name] = module
            if module and module.effects:
                self._count(f"{name}, when imported", module.effects, module)
            if module and module.unclear and name not in NOT_COUNTED:
                self._find(PACKAGE)
            for path in module.loads if module else ():
                self._find(path, "import")
        return self.modules[name]

    def _find(self, path, use="whole"):
        """Count what an absolute path stands for: a definition, what it imports, or a module.

        use: "import" if only the modules on the path are imported; else see `Code.names`.
        """
        pieces = path.split(".")
        if pieces[0] != PACKAGE or (path, use) in self.found:
            return
        self.found.add((path, use))
        for stop in range(1, len(pieces) + 1):
            name, rest = ".".join(pieces[:stop]), pieces[stop:]
            module = self._module(name)
            if module is None:
                return
            if use == "import" or name in NOT_COUNTED:
                continue
            if rest and rest[0] in module.definitions:
                self._find_definition(module, rest[0], rest[1:], use)
            elif not rest or self._module(f"{name}.{rest[0]}") is None:
                self._find_all(module)

    def _find_definition(self, module, name, rest, use):
        path, codes = f"{module.name}.{name}", module.definitions[name]
        if path in NOT_COUNTED:
            return
        by_key = rest == ["get"] or (use != "whole" and not rest)
        if by_key and name in module.tables:
            self.tables[path] = module
        else:
            listed = use == "member" and not rest and name in module.lists
            self._count(path, codes, module, use if listed else None)
        for target in {target for code in codes for target in code.imports.get(name, ())}:
            self._find(".".join([target, *rest]), use)

    def _find_all(self, module):
        """Count a whole module: its definitions, what it imports, and the modules below it."""
        for name in module.definitions:
            self._find(f"{module.name}.{name}")
        for file in self.root.joinpath(*module.name.split(".")).glob("*"):
            if file.stem != "__init__" and self._module(f"{module.name}.{file.stem}"):
                self._find(f"{module.name}.{file.stem}")

    def _choose_entries(self):
        """Count the entries of tables that texts name; return whether there is more to follow.

        A text names the key that it equals. Others name all keys that they hold or are part of,
        since keys may be cut out of texts or put together. A table without such a key counts whole.
        """
        unnamed = []
        for path, module in self.tables.items():
            table = module.tables[path.rpartition(".")[2]]
            named = {key for key in table for text in self.texts if _names(text, key, table)}
            for key in named:
                if f"{path}[{key!r}]" not in self.parts:
                    self._count(f"{path}[{key!r}]", [table[key]], module)
            if not named:
                unnamed.append(path)
        for path in unnamed if not self.queue else ():
            self._find(path)
        return bool(self.queue)


def _names(text, key, table):
    if text in table:
        return text == key
    return key in text or (len(text) >= SHORTEST and text in key)
