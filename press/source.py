"""What Python source says, without running it: its meaning as text, and the names it looks up."""

import ast
import builtins

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
INNER = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
IMPORTS = (ast.Import, ast.ImportFrom)
MESSAGES = {"print", "warnings.warn", "labutils.progress.log"}  # their text is only read
ERRORS = {
    name
    for name, value in vars(builtins).items()
    if isinstance(value, type) and issubclass(value, BaseException)
}


def parse(source, package=""):
    """Return the syntax tree without what cannot change a value; relative imports made absolute.

    Left out are docstrings, annotations and messages. package: the one that holds the source's
    module. Raises SyntaxError.
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
        own = {n.name for n in nodes if isinstance(n, (*FUNCTIONS, ast.ClassDef))}
        own |= {n.id for n in nodes if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        self.messages, self.errors = MESSAGES - own, ERRORS - own
        for name, paths in self.imported.items():
            if name.endswith("Error") and all(path.startswith("labutils.") for path in paths):
                self.errors.add(name)
        for node in nodes:  # in the order in which they stand: a base comes first
            if isinstance(node, ast.ClassDef) and self.errors & set(map(dotted, node.bases)):
                self.errors.add(node.name)
        self.in_class = False

    def visit_Expr(self, node):
        if isinstance(node.value, ast.Constant):  # docstrings, and strings used as comments
            return None
        if isinstance(node.value, ast.Call):
            root, _, rest = (dotted(node.value.func) or "").partition(".")
            paths = {f"{path}.{rest}".strip(".") for path in self.imported.get(root, [root])}
            if paths <= self.messages:
                node.value = _without_text(node.value, computed=True)
        return self.generic_visit(node)

    def visit_Pass(self, node):
        return None

    def visit_ImportFrom(self, node):
        return None if node.module == "__future__" else node

    def visit_Raise(self, node):
        exception = node.exc
        node.exc = _without_text(exception) if isinstance(exception, ast.Call) else exception
        node.cause = None
        return self.generic_visit(node)

    def visit_Call(self, node):
        error = dotted(node.func) in self.errors
        return self.generic_visit(_without_text(node) if error else node)

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
        if not self.in_class:
            return node.value and self.visit_Assign(ast.Assign([node.target], node.value))
        # a dataclass asks whether there is an annotation, and for these three
        if not any(w in ast.unparse(node.annotation) for w in ("ClassVar", "InitVar", "KW_ONLY")):
            node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_Assign(self, node):
        target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
        rows = getattr(node.value, "values", []) if dotted(target) == "SETTINGS" else []
        if {len(getattr(row, "elts", [])) for row in rows} in ({4}, {5}):
            for row in rows:  # what the paper says, and why
                row.elts[-2:] = [cell for cell in row.elts[-2:] if not _is_text(cell)]
        return self.generic_visit(node)

    visit_AugAssign = visit_Assign


def _without_text(call, computed=False):
    """A call without its arguments that are text; computed: what an f-string computes stays."""
    kept = [argument for argument in call.args if not _is_text(argument)]
    for text in call.args if computed else ():
        kept += [v.value for v in getattr(text, "values", []) if isinstance(v, ast.FormattedValue)]
    return ast.Call(call.func, kept, call.keywords)


def _is_text(node):
    constant = isinstance(node, ast.Constant) and isinstance(node.value, str)
    return constant or isinstance(node, ast.JoinedStr)


class References(ast.NodeVisitor):
    """What a piece of parsed code looks up outside itself.

    names: {(dotted global name, use)}; paths: the same for names that functions import, as absolute
    paths. use: "item" for `X[key]` and `X.get(key)`, "member" for `key in X`, else "whole". loads:
    paths of the imports. texts: its strings. unclear: whether it looks up names that are made while
    it runs.
    """

    def __init__(self, node):
        self.names, self.paths, self.loads, self.texts = set(), set(), set(), set()
        self.unclear = False
        self._scopes = []  # (is of a class, {name: paths})
        self.visit(node)

    def _look_up(self, node, use):
        name = dotted(node)
        if name is None:
            return self.generic_visit(node) if isinstance(node, ast.Attribute) else self.visit(node)
        root, _, rest = name.partition(".")
        self.unclear |= name in ("globals", "eval", "exec", "sys.modules")
        for depth, (of_class, names) in enumerate(reversed(self._scopes)):
            if root in names and not (of_class and depth):
                self.paths |= {(f"{path}.{rest}".strip("."), use) for path in names[root]}
                return None
        return self.names.add((name, use))

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            self._look_up(node, "whole")

    def visit_Attribute(self, node):
        self.unclear |= node.attr in ("__subclasses__", "__globals__")
        self._look_up(node, "whole")

    def visit_Subscript(self, node):
        self._look_up(node.value, "item" if isinstance(node.ctx, ast.Load) else "whole")
        self.visit(node.slice)

    def visit_Compare(self, node):
        self.visit(node.left)
        for operator, value in zip(node.ops, node.comparators, strict=True):
            member = isinstance(operator, ast.In | ast.NotIn)
            self._look_up(value, "member" if member else "whole")

    def visit_AugAssign(self, node):
        self._look_up(node.target, "whole")
        self.visit(node.value)

    def visit_Call(self, node):
        last = getattr(node.func, "attr", dotted(node.func))
        if last in ("import_module", "__import__"):
            name = node.args and node.args[0]
            if isinstance(name, ast.JoinedStr) and name.values:
                name = name.values[0]  # what the name surely begins with
            start = name.value if isinstance(name, ast.Constant) else ""
            if start.startswith(".") or "labutils".startswith(start[:8]):
                self.paths.add(("labutils", "whole"))
        self.unclear |= last in ("vars", "locals", "dir") and not node.args
        self._look_up(node.func, "item" if last == "get" else "whole")
        self._visit_all(node.args, node.keywords)

    def visit_Constant(self, node):
        if isinstance(node.value, str):
            self.texts.add(node.value)

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
