"""Counts that show how a package holds together, from its syntax trees: nothing of it is imported or run.

    python benchmarks/structure.py                   # pyro_vae
    python benchmarks/structure.py PATH --details    # another checkout, with where each is

| count | what it counts |
| --- | --- |
| questions by name | ``getattr`` with a default, ``hasattr``, ``except AttributeError`` |
| of parts | those of a prior, likelihood, posterior or part, or for one of the parts' attributes |
| Any or object | parameters annotated so |
| circles | sets of modules, and of packages, that import one another; then with imports inside functions, then all |
| blocks twice | places of six equal lines or more (without comments, docstrings and imports) that stand elsewhere too |
| long functions | those of which the body without docstring is over 40 lines |
| private names | names of torch and Pyro with an underscore: imported, or attributes that nothing here defines |
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PART = re.compile(r"\b(prior|likelihood|posterior|part)s?\b")
ATTRIBUTES = {
    *("space", "support", "classes", "points", "has_mean", "elementwise", "data", "remedy", "net_shape", "log_codes"),
    *("start_from", "started", "components", "posterior", "net"),
}
NOT_OF_TORCH = {"_replace", "_asdict", "_fields", "_make", "_actions"}  # of named tuples, and of argparse
LINES_OF_A_BLOCK, LINES_OF_A_FUNCTION, LINES_OF_A_FILE = 6, 40, 400


@dataclass
class Module:
    """One file of the package."""

    name: str
    path: Path
    lines: list[str]
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Where a node is, with its first line."""
        return f"{self.path}:{node.lineno}: {ast.unparse(node).splitlines()[0]}"


def read(root: Path) -> list[Module]:
    found = []
    for path in sorted(root.rglob("*.py")):
        parts = (root.name, *path.relative_to(root).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text.splitlines(), ast.parse(text)))
    return found


def questions(module: Module) -> Iterator[tuple[str, bool]]:
    """Each question by name, and whether it is asked of a part."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and node.type and "AttributeError" in ast.unparse(node.type):
            yield f"{module.path}:{node.lineno}: except {ast.unparse(node.type)}", False
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3):
            asked = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            yield module.at(node), bool(PART.search(ast.unparse(node.args[0]))) or asked in ATTRIBUTES


def vague(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.arg) and node.annotation and ast.unparse(node.annotation) in ("Any", "object"):
            yield module.at(node)


def imports(module: Module, names: set[str]) -> Iterator[tuple[str, str]]:
    """What of the package a module imports, and where: at the "top", in a "function", or for "types" alone."""

    def visit(node: ast.AST, where: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            yield from ((a.name, where) for a in node.names if a.name in names)
        if isinstance(node, ast.ImportFrom) and node.module in names:
            inner = (f"{node.module}.{a.name}" for a in node.names)
            yield from ((i if i in names else node.module, where) for i in inner)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            named = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            yield from ((n, where) for n in [named] if n in names)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            where = "function"
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            where = "types"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, where)

    yield from visit(module.tree, "top")


def circles(edges: set[tuple[str, str]]) -> list[list[str]]:
    """The sets of nodes, of two or more, that can be reached from one another."""
    after = defaultdict(set)
    for a, b in edges:
        after[a].add(b)

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            todo += (new := after[todo.pop()] - seen)
            seen |= new
        return seen

    reach = {node: reached(node) for node in {n for edge in edges for n in edge}}
    sets = {frozenset(m for m in reach[n] if n in reach[m]) for n in reach}
    return sorted(sorted(s) for s in sets if len(s) > 1)


def code_lines(module: Module) -> list[tuple[int, str]]:
    """Number and text of each line of code: no blank lines, comments and docstrings."""
    documents: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documents |= set(range(node.lineno, node.end_lineno + 1))
    numbered = ((i, line.strip()) for i, line in enumerate(module.lines, 1) if i not in documents)
    return [(i, line) for i, line in numbered if line and not line.startswith("#")]


def repeated(modules: list[Module]) -> list[str]:
    """The places of blocks of equal lines that stand more than once."""
    places = defaultdict(list)
    for module in modules:
        imported = {
            line
            for node in ast.walk(module.tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for line in range(node.lineno, node.end_lineno + 1)
        }
        lines = [(i, line) for i, line in code_lines(module) if i not in imported]
        for k in range(len(lines) - LINES_OF_A_BLOCK + 1):
            window = lines[k : k + LINES_OF_A_BLOCK]
            places[tuple(line for _, line in window)].append((str(module.path), k, window[0][0]))
    twice = sorted(place for found in places.values() if len(found) > 1 for place in found)
    starts = [
        p for before, p in zip([None, *twice[:-1]], twice, strict=True) if not before or before[:2] != (p[0], p[1] - 1)
    ]
    return [f"{path}:{line}" for path, _, line in starts]


def long_functions(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        lines = node.end_lineno - body[0].lineno + 1 if body else 0
        if lines > LINES_OF_A_FUNCTION:
            yield f"{module.path}:{node.lineno}: {node.name}, {lines} lines"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name != "_"


def own_names(modules: list[Module]) -> set[str]:
    """Whatever is defined, assigned or taken as an argument in the package."""
    own: set[str] = set()
    for node in (n for module in modules for n in ast.walk(module.tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            own.add(node.name)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    return own


def imported_names(module: Module) -> dict[str, str]:
    """What each imported name stands for, as a dotted path."""
    found = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {
                a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0]
                for a in node.names
            }
        if isinstance(node, ast.ImportFrom):
            found |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return found


def private_names(module: Module, own: set[str]) -> Iterator[str]:
    """The private names that code uses: as dotted paths where the import shows them, else as ``.name``.

    Names in strings count only in ``getattr`` and ``hasattr``: such strings elsewhere are lists of names.
    """
    imported = imported_names(module)
    inner = set()  # the beginnings of longer paths
    for node in ast.walk(module.tree):  # from the outside in
        if isinstance(node, ast.ImportFrom) and of_torch_or_pyro(node.module or ""):
            names = [f"{node.module}.{a.name}" for a in node.names]
            yield from (name for name in names if any(map(is_private, name.split("."))))
        if isinstance(node, ast.Attribute):
            inner.add(node.value)
            dotted = dotted_path(node, imported)
            if dotted is None:
                if is_private(node.attr) and node.attr not in own | NOT_OF_TORCH:
                    yield f".{node.attr}"
            elif node not in inner and of_torch_or_pyro(dotted) and any(map(is_private, dotted.split("."))):
                yield dotted
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            asked = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if is_private(str(asked)) and asked not in own:
                yield f".{asked}"


def dotted_path(node: ast.Attribute, imported: dict[str, str]) -> str | None:
    """The path of an attribute of something imported, else None."""
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        names.insert(0, inner.attr)
        inner = inner.value
    if isinstance(inner, ast.Name) and inner.id in imported:
        return ".".join([imported[inner.id], *names])
    return None


def of_torch_or_pyro(path: str) -> bool:
    return path.partition(".")[0] in ("torch", "pyro")


def distinct(names: set[str]) -> list[str]:
    """The names, without attributes that a dotted path ends with too, and modules of which others are members."""
    ends = {name.rpartition(".")[2] for name in names if not name.startswith(".")}
    owners = {name.rpartition(".")[0] for name in names}
    return sorted(name for name in names - owners if not (name.startswith(".") and name[1:] in ends))


def found_circles(modules: list[Module], *, packages: bool) -> list[tuple[int, list[str]]]:
    """Circles of imports at the top, then with those inside functions, then with those for types."""
    names = {module.name for module in modules}

    def node(name: str) -> str:
        return ".".join(name.split(".")[:2]) if packages else name

    edges = defaultdict(set)
    for module in modules:
        for name, where in imports(module, names):
            a, b = node(module.name), node(name)
            if a != b and "." in a and "." in b:  # the package's own __init__ imports all
                edges[where].add((a, b))
    counted, so_far = [], set()
    for where in ("top", "function", "types"):
        so_far |= edges[where]
        found = circles(so_far)
        counted.append((len(found), [" <-> ".join(circle) for circle in found]))
    return counted


def counts(modules: list[Module]) -> dict[str, tuple[object, list[str]]]:
    """Each count with its places."""
    asked = [question for module in modules for question in questions(module)]
    any_ = [place for module in modules for place in vague(module)]
    long = [place for module in modules for place in long_functions(module)]
    own = own_names(modules)
    private = distinct({name for module in modules for name in private_names(module, own)})
    large = [f"{m.path}: {len(m.lines)} lines" for m in modules if len(m.lines) > LINES_OF_A_FILE]
    blocks = repeated(modules)
    rows: dict[str, tuple[object, list[str]]] = {
        "questions by name": (len(asked), []),
        "of parts": (sum(of_part for _, of_part in asked), [place for place, of_part in asked if of_part]),
        "parameters of type Any or object": (len(any_), []),
        f"blocks of {LINES_OF_A_BLOCK} lines that stand twice": (len(blocks), blocks),
        f"functions over {LINES_OF_A_FUNCTION} lines": (len(long), long),
        "private names of torch and Pyro": (len(private), private),
        f"files over {LINES_OF_A_FILE} lines": (len(large), large),
        "lines of code": (sum(len(code_lines(m)) for m in modules), []),
        "lines": (sum(len(m.lines) for m in modules), []),
    }
    for what, packages in (("modules", False), ("packages", True)):
        for ways, (n, found) in zip(
            ("", ", with functions", ", with types"), found_circles(modules, packages=packages), strict=True
        ):
            rows[f"circles of {what}{ways}"] = (n, found)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).parents[1] / "pyro_vae"
    parser.add_argument("path", nargs="?", type=Path, default=default, help="the package's folder")
    parser.add_argument("--details", action="store_true", help="show where each is")
    arguments = parser.parse_args()
    for name, (count, places) in counts(read(arguments.path)).items():
        print(f"{name:44} {count:>7}")
        for place in places if arguments.details else ():
            print(f"    {place}")


if __name__ == "__main__":
    main()
