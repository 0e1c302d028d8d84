"""What Python source says, without running it: a normal form, and the names that it looks up."""

import ast
import builtins

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IMPORTS = (ast.Import, ast.ImportFrom)
EDITS = set(
    """format join lower lstrip partition removeprefix removesuffix replace rpartition rsplit rstrip
    split strip upper""".split()
)
MESSAGES = {"print", "warnings.warn", "labutils.progress.log"}  # their text is only read
ERRORS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


def normalised(source):
    """Return a text that stays the same unless a source does something else than before.

    Comments, layout, docstrings, annotations and messages do not count. The text does not depend on
    the version of Python. A source that is no Python stays as it is.
    """
    try:
        return dump(parse(source))
    except SyntaxError:
        return source


def parse(source, package=""):
    """Return the syntax tree without what cannot change a value; relative imports made absolute.

    package: the one that holds the source's module. Raises SyntaxError.
    """
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level:
            parents = package.split(".")
            parents = parents[: len(parents) - node.level + 1]
            node.module = ".".join([*parents, *([node.module] if node.module else [])])
            node.level = 0
    return _Strip(nodes).visit(tree)


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


def bound(nodes):
    """Return {name: paths} of what nodes bind in their own scope.

    paths: dotted paths of what is imported under the name; empty for every other way.
    """
    names, elsewhere, queue = {}, set(), list(nodes)
    while queue:
        node = queue.pop()
        if isinstance(node, IMPORTS):
            for alias in node.names:
                name, path = alias.asname or alias.name, alias.name
                if isinstance(node, ast.ImportFrom):
                    path = f"{node.module}.{alias.name}"
                elif not alias.asname:
                    name = path = name.partition(".")[0]
                names.setdefault(name, set()).add(path)
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names.setdefault(node.id, set())
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            names.setdefault(node.name, set())
        elif isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere.update(node.names)
        elif not isinstance(node, INNER):
            if isinstance(node, ast.ExceptHandler) and node.name:
                names.setdefault(node.name, set())
            queue += ast.iter_child_nodes(node)
    return {name: paths for name, paths in names.items() if name not in elsewhere}


class _Strip(ast.NodeTransformer):
    """Takes out what only people read. Messages of errors go, since a finished run raised none."""

    def __init__(self, nodes):
        self.imported = bound(node for node in nodes if isinstance(node, IMPORTS))
        classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
        own = {node.name for node in nodes if isinstance(node, (*FUNCTIONS, ast.ClassDef))}
        own |= {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        self.messages = MESSAGES - own
        self.errors = ERRORS - own
        for name, paths in self.imported.items():
            if name.endswith("Error") and all(path.startswith("labutils.") for path in paths):
                self.errors.add(name)
        for _ in classes:  # an error may be based on another one
            based = [c for c in classes if {dotted(base) for base in c.bases} & self.errors]
            self.errors |= {c.name for c in based}
        self.in_class = False

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):  # docstrings, and strings used as comments
            return None
        if isinstance(node.value, ast.Call):
            root, _, rest = (dotted(node.value.func) or "").partition(".")
            paths = [f"{p}.{rest}".strip(".") for p in self.imported.get(root, [root])]
            if set(paths) <= self.messages:
                node.value = _without_text(node.value, computed=True)
        return self.generic_visit(node)

    def visit_Pass(self, node):
        return None

    def visit_ImportFrom(self, node):
        return None if node.module == "__future__" else node

    def visit_Raise(self, node):
        node.cause = None
        if isinstance(node.exc, ast.Call):
            node.exc = _without_text(node.exc)
        return self.generic_visit(node)

    def visit_Call(self, node):
        return self.generic_visit(_without_text(node) if dotted(node.func) in self.errors else node)

    def visit_Assert(self, node):
        node.msg = None
        return self.generic_visit(node)

    def visit_ClassDef(self, node, in_class=True):
        before, self.in_class = self.in_class, in_class
        self.generic_visit(node)
        self.in_class = before
        return node

    def visit_FunctionDef(self, node):
        # functools.singledispatch chooses by annotations
        if not any((dotted(d) or "").endswith(".register") for d in node.decorator_list):
            node.returns = None
            for argument in ast.iter_child_nodes(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
        return self.visit_ClassDef(node, in_class=False)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_AnnAssign(self, node):
        if self.in_class:  # a dataclass asks whether there is an annotation, and for these three
            special = ("ClassVar", "InitVar", "KW_ONLY")
            if not any(word in ast.unparse(node.annotation) for word in special):
                node.annotation = ast.Constant(None)
            return self.generic_visit(node)
        return node.value and self.visit_Assign(ast.Assign([node.target], node.value))

    def visit_Assign(self, node):
        rows = getattr(node.value, "values", [])
        target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
        if dotted(target) == "SETTINGS" and rows:
            lengths = {len(row.elts) if isinstance(row, ast.Tuple) else 0 for row in rows}
            if lengths in ({4}, {5}):  # what the paper says, and why
                for row in rows:
                    row.elts[-2:] = [cell for cell in row.elts[-2:] if not _is_text(cell)]
        return self.generic_visit(node)

    visit_AugAssign = visit_Assign


def _without_text(call, computed=False):
    """A call without its arguments that are text; computed: what an f-string computes stays."""
    kept = []
    for argument in call.args:
        if isinstance(argument, ast.JoinedStr) and computed:
            kept += [v.value for v in argument.values if isinstance(v, ast.FormattedValue)]
        elif not _is_text(argument):
            kept.append(argument)
    return ast.Call(call.func, kept, call.keywords)


def _is_text(node):
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


class References(ast.NodeVisitor):
    """What a piece of parsed code looks up outside itself.

    names: {(dotted global name, use)}; paths: the same for names that functions import, as absolute
    paths. use: "item" for `X[key]` and `X.get(key)`, "member" for `key in X`, both with a star if
    the code edits texts, which may be keys; else "whole". loads: paths of the imports. texts: its
    strings; fragments: strings that others are put together from. unclear: whether it looks up
    names that are made while it runs.
    """

    def __init__(self, node):
        self.names, self.paths, self.loads = set(), set(), set()
        self.texts, self.fragments, self.unclear = set(), set(), False
        self._scopes = []  # (is of a class, {name: paths})
        self._edits = False
        self.visit(node)
        if self._edits:
            for found in (self.names, self.paths):
                parts = {pair for pair in found if pair[1] != "whole"}
                found -= parts
                found |= {(name, f"{use}*") for name, use in parts}

    def _look_up(self, name, use):
        root, _, rest = name.partition(".")
        for depth, (of_class, names) in enumerate(reversed(self._scopes)):
            if root in names and not (of_class and depth):
                self.paths |= {(f"{path}.{rest}".strip("."), use) for path in names[root]}
                return
        self.names.add((name, use))

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            self._look_up(node.id, "whole")

    def visit_Attribute(self, node, use="whole"):
        name = dotted(node)
        self.unclear |= node.attr in ("__subclasses__", "__globals__") or name == "sys.modules"
        if name:
            self._look_up(name, use)
        else:
            self.generic_visit(node)

    def _visit_used(self, node, use):
        if isinstance(node, ast.Name):
            self._look_up(node.id, use)
        elif isinstance(node, ast.Attribute):
            self.visit_Attribute(node, use)
        else:
            self.visit(node)

    def visit_Subscript(self, node):
        self._visit_used(node.value, "item" if isinstance(node.ctx, ast.Load) else "whole")
        self.visit(node.slice)

    def visit_Compare(self, node):
        self.visit(node.left)
        for operator, value in zip(node.ops, node.comparators, strict=True):
            member = isinstance(operator, ast.In | ast.NotIn)
            self._visit_used(value, "member" if member else "whole")

    def visit_Call(self, node):
        function = dotted(node.func) or ""
        last = getattr(node.func, "attr", function)
        self._edits |= last in EDITS
        if function in ("globals", "eval", "exec") or (
            function in ("vars", "locals", "dir") and not node.args
        ):
            self.unclear = True
        elif last in ("import_module", "__import__"):
            start = _beginning(node.args[0]) if node.args else ""
            if start.startswith(".") or "labutils".startswith(start[:8]):
                self.paths.add(("labutils", "whole"))
        elif last == "format" and isinstance(node.func, ast.Attribute):
            self.fragments.add(_beginning(node.func.value).partition("{")[0])
        self._visit_used(node.func, "item" if last == "get" else "whole")
        self._visit_all(node.args, node.keywords)

    def visit_AugAssign(self, node):
        self._visit_used(node.target, "whole")
        self.visit(node.value)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.texts.add(node.value)

    def visit_JoinedStr(self, node):
        self.fragments |= {v.value for v in node.values if isinstance(v, ast.Constant)}
        self.generic_visit(node)

    def visit_BinOp(self, node):
        self.fragments |= {_beginning(node.left), _beginning(node.right)}
        self.generic_visit(node)

    def visit_Import(self, node):
        self.loads |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node):
        self.loads |= {f"{node.module}.{alias.name}" for alias in node.names}

    def visit_FunctionDef(self, node):
        arguments = list(ast.iter_child_nodes(node.args))
        body = node.body if isinstance(node.body, list) else [node.body]  # of a lambda
        names = {a.arg: set() for a in arguments if isinstance(a, ast.arg)}
        self._visit_all(getattr(node, "decorator_list", []), arguments)
        self._visit_within(names | bound(body), body)

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node):
        self._visit_all(node.decorator_list, node.bases, node.keywords)
        names = {}
        for statement in node.body:  # a name is the outer one until the class has its own
            self._visit_within(names, [statement], of_class=True)
            names |= bound([statement])

    def _visit_comprehension(self, node):
        first, *others = node.generators
        self.visit(first.iter)
        results = [getattr(node, field, None) for field in ("elt", "key", "value")]
        parts = [*first.ifs, *others, *filter(None, results)]
        self._visit_within(bound(g.target for g in node.generators), parts)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension

    def _visit_all(self, *groups):
        for group in groups:
            for node in group:
                self.visit(node)

    def _visit_within(self, names, nodes, of_class=False):
        self._scopes.append((of_class, names))
        self._visit_all(nodes)
        self._scopes.pop()


def _beginning(node):
    """The text that an expression surely begins with."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
