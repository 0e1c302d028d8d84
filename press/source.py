"""Python source without running it: what it says, what it defines, and what it looks up."""

import ast
import builtins
import re

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Calls that leave nothing but their value. Others may fill a register of functions, say.
QUIET = set(dir(builtins)) - {"__import__", "delattr", "eval", "exec", "next", "open", "setattr"}
QUIET |= {
    "Path", "compile", "split", "keys", "values", "items", "join", "tensor", "arange", "zeros",
    "ones", "unbind", "no_grad", "inference_mode", "dataclass", "field", "cache", "lru_cache",
    "cached_property", "contextmanager", "wraps", "Source",
}  # fmt: skip
CHECKS = "labutils.checks"  # its functions refuse bad input, and change nothing
# What may stand in the condition of a guard. Of calls those of HARMLESS, of `x[k]` `x.shape[k]`;
# `in` only a list written out, or a constant, for it would use up an iterator.
PLAIN = (
    ast.Name, ast.Attribute, ast.Constant, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp,
    ast.Tuple, ast.List, ast.Set, ast.Call, ast.keyword, ast.Subscript, ast.expr_context,
    ast.operator, ast.unaryop, ast.boolop, ast.cmpop,
)  # fmt: skip
HARMLESS = {"len", "isinstance", "type", "abs", "is_floating_point", "isfinite", "isnan"}
HARMLESS_METHODS = HARMLESS | {"any", "all", "min", "max", "item", "numel"}
REFUSALS = {"ValueError", "TypeError"}  # others may be a message to the caller: StopIteration
# How `dump` writes what may reach more than the source names. The last line: an import by a text,
# unless the text surely begins with another package.
UNCLEAR = re.compile(
    r"id='(eval|exec|globals|locals)'|'__(import|subclasses|init_subclass|globals)__'|'metaclass'"
    r"|Call\(func=Name\(id='(vars|dir)'\)\)|id='sys'\),attr='modules'|'sys\.modules'|'builtins"
    r"|import_module'(?!\),args=\[(str '(?!labutils)\w+[.']|\w+\(values=\[str '(?!labutils)\w+\.))"
)


def parse(source, package="", guards=True):
    """Return the syntax tree without what changes no value.

    Left out are docstrings, annotations and messages of errors. All imports take one form, `import
    a.b as c`. package: the one that holds the source's module. guards: False leaves out statements
    that only check and refuse, for they cannot change what a run gives that came to its end. Raises
    SyntaxError.
    """
    return _Strip(package, guards).visit(ast.parse(source))


class _Strip(ast.NodeTransformer):
    def __init__(self, package, guards):
        self.package, self.guards = package.split("."), guards
        self.checks = None  # the name of CHECKS in this module

    def visit_Import(self, node):
        return [ast.Import([alias]) for alias in node.names]

    def visit_ImportFrom(self, node):
        if node.module == "__future__":
            return None
        parents = self.package[: len(self.package) - node.level + 1] if node.level else []
        module = ".".join(filter(None, [*parents, node.module]))
        names = [ast.alias(f"{module}.{a.name}", a.asname or a.name) for a in node.names]
        self.checks = next((n.asname for n in names if n.name == CHECKS), self.checks)
        names = [name for name in names if self.guards or name.name != CHECKS]
        return [ast.Import([name]) for name in names]

    def visit_Expr(self, node):  # docstrings, strings used as comments, and checks
        left_out, call = isinstance(node.value, ast.Constant), node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and not self.guards:
            known = self.checks and dotted(call.func.value) == self.checks
            left_out = known and all(map(_quiet, [*call.args, *call.keywords]))
        return None if left_out else self.generic_visit(node)

    def visit_If(self, node):
        refuses = not node.orelse and all(map(_refuses, node.body))
        left_out = refuses and not self.guards and _quiet(node.test)
        return None if left_out else self.generic_visit(node)

    def _catches(self, node):  # what a guard in it raises may be the way to go on
        before, self.guards = self.guards, True
        self.generic_visit(node)
        self.guards = before
        return node

    visit_Try = visit_TryStar = visit_With = visit_AsyncWith = _catches

    def visit_Raise(self, node):
        if isinstance(node.exc, ast.Call):
            node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
        node.cause = None
        return self.generic_visit(node)

    def visit_Assert(self, node):
        node.msg = None
        left_out = not self.guards and _quiet(node.test)
        return None if left_out else self.generic_visit(node)

    def visit_FunctionDef(self, node):
        # functools.singledispatch chooses by annotations
        if "register" not in " ".join(map(ast.unparse, node.decorator_list)):
            node.returns = None
            for argument in ast.iter_child_nodes(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node):
        # a dataclass asks whether there is an annotation, and for these three
        if not any(w in ast.unparse(node.annotation) for w in ("ClassVar", "InitVar", "KW_ONLY")):
            node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _refuses(node):
    error = getattr(node, "exc", None) if isinstance(node, ast.Raise) else None
    return dotted(error.func if isinstance(error, ast.Call) else error) in REFUSALS


def _quiet(node):
    """Whether to work out an expression surely changes nothing."""
    if isinstance(node, ast.Call):
        known = HARMLESS if isinstance(node.func, ast.Name) else HARMLESS_METHODS
        good = getattr(node.func, "attr", dotted(node.func)) in known
    elif isinstance(node, ast.Subscript):
        good = getattr(node.value, "attr", "") == "shape"
    elif isinstance(node, ast.Compare) and {*map(type, node.ops)} & {ast.In, ast.NotIn}:
        lists = [c for c in node.comparators if not isinstance(c, ast.Tuple | ast.List | ast.Set)]
        good = all((dotted(c) or "").rpartition(".")[2].isupper() for c in lists)
    else:
        good = isinstance(node, PLAIN)
    return good and all(map(_quiet, ast.iter_child_nodes(node)))


def _is_text(node):
    return isinstance(node, ast.JoinedStr) or isinstance(getattr(node, "value", None), str)


def dump(node):
    """Return a node as text that is the same on every version of Python (`ast.dump` is not)."""
    if isinstance(node, list):
        return "[" + ",".join([dump(item) for item in node]) + "]"
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__} {node.value!a}"
    if not isinstance(node, ast.AST):
        return ascii(node)
    if isinstance(node, ast.JoinedStr):  # Python 3.12 adds empty texts
        node.values = [v for v in node.values if getattr(v, "value", None) != ""]
    ignored = ("ctx", "kind", "type_comment", "type_ignores", "type_params")
    fields = [
        f"{name}={dump(value)}"
        for name, value in ast.iter_fields(node)
        if value is not None and value != [] and name not in ignored
    ]
    return f"{type(node).__name__}({','.join(fields)})"


def dotted(node):
    """Return `a.b.c` of a name with attributes, None of anything else."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else None


class Code(ast.NodeVisitor):
    """A piece of parsed code: what it says, and all that it may look up.

    text: what it says. names: {(dotted name, use)}, local ones too, since a name that is also one
    of the module may mean that; use: "item" for `X[key]`, "member" for `key in X`, else "whole".
    bound: names that it binds, local ones too. imports: {name: paths that it stands for}. loads:
    paths that are imported. texts: its strings. unclear: whether it reaches more by other ways.
    """

    def __init__(self, node):
        self.node, self.text = node, dump(node)
        self.unclear = bool(UNCLEAR.search(self.text))
        self.names, self.imports, self.loads, self.texts = set(), {}, set(), set()
        self.bound = set()
        self.visit(node)

    def _look_up(self, node, use="whole"):
        if name := dotted(node):
            self.names.add((name, use))
        else:
            self.visit(node.value if isinstance(node, ast.Attribute) else node)

    visit_Attribute = _look_up

    def visit_Name(self, node):
        self.names.add((node.id, "whole"))
        if not isinstance(node.ctx, ast.Load):
            self.bound.add(node.id)

    def visit_FunctionDef(self, node):
        self.bound.add(node.name)
        self.generic_visit(node)

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_Subscript(self, node):
        self._look_up(node.value, "item" if isinstance(node.ctx, ast.Load) else "whole")
        self.visit(node.slice)

    def visit_Compare(self, node):
        self.visit(node.left)
        for operator, value in zip(node.ops, node.comparators, strict=True):
            member = isinstance(operator, ast.In | ast.NotIn)
            self._look_up(value, "member" if member else "whole")

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def visit_Import(self, node):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            self.imports.setdefault(name, set()).add(alias.name if alias.asname else name)
            self.loads.add(alias.name)


class Module:
    """The top level of a module.

    definitions: {name: Code of the statements that bind it, imports too}. tables: {name: {key:
    Code}} of literal dicts with texts as keys. lists: names of literal lists of names and
    constants, such as `(*TABLE, "more")`. effects: Code that changes more than the names that it
    binds. loads: paths that are imported. unclear: whether some of its Code is.
    """

    def __init__(self, name, source, package, guards=True):
        tree = parse(source, package, guards)
        self.name, self.effects, self.loads, self.unclear = name, [], set(), False
        self.definitions, self.tables, self.lists = {}, {}, set()
        for statement in tree.body:
            code = Code(statement)
            self.loads |= code.loads
            self.unclear |= code.unclear
            if "*" in code.imports or _acts(statement):
                self.effects.append(code)
            definition = isinstance(statement, (*FUNCTIONS, ast.ClassDef))
            for bound in [statement.name] if definition else {*code.bound, *code.imports}:
                self.definitions.setdefault(bound, []).append(code)
        for name, codes in self.definitions.items():
            if len(codes) == 1:
                self._note(name, codes[0].node)

    def _note(self, name, node):
        """Note whether a name that one statement binds is a table or a list."""
        targets = [*getattr(node, "targets", ()), getattr(node, "target", None)]
        plain = isinstance(node, ast.Assign | ast.AnnAssign) and name in map(dotted, targets)
        value = node.value if plain else None
        if isinstance(value, ast.Dict):
            keys = [getattr(key, "value", None) for key in value.keys]
            if all(isinstance(key, str) for key in keys):
                self.tables[name] = dict(zip(keys, map(Code, value.values), strict=True))
        elif isinstance(value, ast.Tuple | ast.List | ast.Set):
            items = [item.value if isinstance(item, ast.Starred) else item for item in value.elts]
            if all(isinstance(item, ast.Name | ast.Constant) for item in items):
                self.lists.add(name)


def _acts(node):
    """Whether running a statement may change more than the names that it binds."""
    decorators = getattr(node, "decorator_list", [])
    called = [d for d in decorators if not isinstance(d, ast.Call)]
    called += [node.func] if isinstance(node, ast.Call) else []
    stores = isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load)
    told = isinstance(node, ast.ClassDef) and node.keywords
    changes = stores or told or isinstance(node, ast.AugAssign | ast.Delete | ast.With)
    if changes or {getattr(c, "attr", dotted(c)) for c in called} - QUIET:
        return True
    later = isinstance(node, (*FUNCTIONS, ast.Lambda))  # the body does not run yet
    parts = [*decorators, node.args] if later else ast.iter_child_nodes(node)
    return any(map(_acts, parts))
