"""Imports: no circle of files, none hidden in a function, one file that knows torch.distributed; no name thrice."""

import ast
from collections import defaultdict
from pathlib import Path

import maskwright

PACKAGE = Path(maskwright.__file__).parent
FILES = {
    "maskwright." + str(file.relative_to(PACKAGE).with_suffix("")).replace("/", "."): file
    for file in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in FILES.items()}

LATE: dict[str, str] = {}
"""Files that may import within a function, each with its reason; none needs to at present. What is loaded by name goes
by importlib through `core/discovery.py`, `core/optional.py`, `cli/main.py` and `__init__.py`."""


def imported(tree: ast.AST) -> set[str]:
    """Return the modules that a file names in import statements, also those of single names in a package."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def graph() -> dict[str, set[str]]:
    """Return which of the package's files each file imports."""
    named = {name: imported(tree) for name, tree in TREES.items()}
    whole = {name.removesuffix(".__init__"): name for name in FILES}
    return {name: {whole[each] for each in modules if each in whole} - {name} for name, modules in named.items()}


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Return groups of files that import each other (strongly connected components of two or more; Tarjan 1972)."""
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(edges[name]):
            if other not in index:
                visit(other)
            if other in stack:
                lowest[name] = min(lowest[name], lowest[other])
        if lowest[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append(sorted(group))

    for name in sorted(edges):
        if name not in index:
            visit(name)
    return found


def test_no_files_import_each_other_in_a_circle():
    assert circles(graph()) == []


def test_the_search_for_circles_finds_them():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_imports_stand_at_the_top():
    """Neither within a function nor for the type checker alone."""
    hidden = []
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            within = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            checking = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            if (within or checking) and imported(ast.Module(body=node.body, type_ignores=[])) and name not in LATE:
                hidden.append(f"{name}:{node.lineno}")
    assert hidden == []


def test_torch_distributed_is_known_to_one_file():
    users = [
        name for name, tree in TREES.items() if any(each.startswith("torch.distributed") for each in imported(tree))
    ]
    assert users == ["maskwright.training.distributed"]


def test_no_base_name_occurs_in_three_folders():
    folders: dict[str, list[str]] = defaultdict(list)
    for name in FILES:
        folders[name.rpartition(".")[2]].append(name)
    often = {base: names for base, names in folders.items() if len(names) > 2 and base not in ("__init__", "base")}
    assert often == {}
