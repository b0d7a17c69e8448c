"""The habits of this code that a program can check, over every file of the package; one case lists all offenders."""

import ast
import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

import maskwright
from maskwright.core.discovery import NOT_PLUG_INS, class_name_of

PACKAGE = Path(maskwright.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
PLUG_IN_FOLDERS = [
    "objectives",
    "objectives/terms",
    "masking/strategies",
    "corpus/sources",
    "tokenization/kinds",
    "batching/samplers",
    "encoders/families",
    "export/families",
    "evaluation/tasks",
]

MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_PARAMETERS = 350, 60, 9


def name_of(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


@functools.cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def offenders(find: Callable[[Path], Iterable[str]], files: Iterable[Path] = FILES) -> list[str]:
    """Return what a check finds in each file, as lines such as "core/files.py: eval"."""
    return [f"{name_of(file)}: {found}" for file in files for found in find(file)]


def functions_of(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def dotted(node: ast.AST) -> str:
    """Return "np.random.rand" for such an expression; unknown parts are empty."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe_uses(tree: ast.Module) -> Iterator[str]:
    """Yield what runs foreign code or trusts foreign paths."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            unsafe = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
            yield from (f"import {module}" for module in modules if module.partition(".")[0] in unsafe)
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func)
        if called in {"eval", "exec", "torch.load", "os.system", "os.popen"} or called.endswith((".extractall",)):
            yield called
        if called == "yaml.load" or called.endswith((".UnsafeLoader", ".FullLoader", ".Loader")):
            yield called
        for keyword in node.keywords:
            is_false = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            if keyword.arg in {"trust_remote_code", "shell", "allow_pickle"} and not is_false:
                yield f"{called}({keyword.arg}=...)"


GLOBAL_RANDOMNESS = re.compile(
    r"^(random\.\w+|(np|numpy)\.random\.(?!Generator$|Philox$)\w+|(torch|torch\.cuda)\.(manual_seed|seed)\w*)$"
)
DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "rand_like", "randn_like"}


def hidden_randomness(tree: ast.Module) -> Iterator[str]:
    """Yield draws from a generator that everybody shares."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            has_generator = any(keyword.arg == "generator" for keyword in node.keywords)
            if GLOBAL_RANDOMNESS.match(called) or (
                called.startswith("torch.") and called[6:] in DRAWS and not has_generator
            ):
                yield called


USERS_OF_DISTRIBUTED = {"training/distributed.py"}

ALLOWED_RANDOMNESS = {
    "training/step.py": {"torch.manual_seed"},  # dropout has no generator of its own; seeded before every micro-batch
    "evaluation/fine_tuning/loop.py": {"torch.manual_seed"},  # the same, before every step
    "core/hardware.py": {"torch.randn"},  # factors whose product is timed; their values are never used
}


def test_nothing_runs_foreign_code():
    assert not offenders(lambda file: unsafe_uses(tree_of(file)))


def test_no_randomness_is_hidden():
    assert not offenders(
        lambda file: set(hidden_randomness(tree_of(file))) - ALLOWED_RANDOMNESS.get(name_of(file), set())
    )


def test_processes_talk_in_one_file():
    """Everything else is handed the ranks."""

    def imports_of_distributed(file: Path) -> Iterator[str]:
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                yield from (module for module in modules if module.startswith("torch.distributed"))

    users = {file for file in FILES if list(imports_of_distributed(file))}
    assert {name_of(file) for file in users} <= USERS_OF_DISTRIBUTED


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import torch; torch.load('x')",
        "eval('1')",
        "exec('1')",
        "import yaml; yaml.load(text)",
        "archive.extractall('x')",
        "AutoModel.from_pretrained('x', trust_remote_code=True)",
        "subprocess.run('x', shell=True)",
        "np.load('x', allow_pickle=True)",
    ],
)
def test_the_search_for_unsafe_code_finds_it(code: str):
    assert list(unsafe_uses(ast.parse(code)))


@pytest.mark.parametrize("code", ["np.random.rand(3)", "random.random()", "torch.rand(3)", "np.random.seed(1)"])
def test_the_search_for_hidden_randomness_finds_it(code: str):
    assert list(hidden_randomness(ast.parse(code)))
    assert not list(hidden_randomness(ast.parse("torch.rand(3, generator=generator)")))


def test_a_module_says_what_it_is_for():
    def no_sentence(file: Path) -> Iterator[str]:
        first_line = (ast.get_docstring(tree_of(file)) or "").partition("\n")[0]
        if not first_line.endswith((".", ":")):
            yield f"{first_line!r} is no sentence"

    assert not offenders(no_sentence)


def test_everything_public_has_a_docstring_but_for_what_overrides():
    """A method that overrides a documented one has a docstring only where it says more."""
    documented: dict[str, list[tuple[list[str], set[str]]]] = {}
    for file in FILES:
        for node in tree_of(file).body:
            if isinstance(node, ast.ClassDef):
                methods = {each.name for each in node.body if is_method(each) and ast.get_docstring(each)}
                documented.setdefault(node.name, []).append((bases_of(node), methods))

    def overrides(bases: list[str], name: str, seen: tuple[str, ...] = ()) -> bool:
        return any(
            name in methods or (base not in seen and overrides(further, name, (*seen, base)))
            for base in bases
            for further, methods in documented.get(base, [])
        )

    def without_docstring(file: Path) -> Iterator[str]:
        for node in tree_of(file).body:
            yield from (each.name for each in [node] if lacks_docstring(each))
            if isinstance(node, ast.ClassDef):
                yield from (each.name for each in node.body if lacks_docstring(each) and not inherited(node, each))

    def lacks_docstring(node: ast.AST) -> bool:
        is_named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        return is_named and not ast.get_docstring(node) and not overloads(node)

    def inherited(owner: ast.ClassDef, node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef) and overrides(bases_of(owner), node.name)

    assert not offenders(without_docstring)


def is_method(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef)


def bases_of(node: ast.ClassDef) -> list[str]:
    """Return the names of a class's bases, without modules and parameters."""
    names = [dotted(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases]
    return [name.rpartition(".")[2] for name in names]


def overloads(node: ast.AST) -> bool:
    return any(dotted(decorator).endswith("overload") for decorator in getattr(node, "decorator_list", []))


def test_names_say_what_is_inside():
    vague = {"utils", "util", "common", "helpers", "helper", "misc", "parts"}
    assert not offenders(lambda file: vague & {*file.relative_to(PACKAGE).parts, file.stem})


def test_no_name_stands_in_three_folders():
    folders = Counter(file.stem for file in FILES)
    assert {name for name, count in folders.items() if count >= 3} <= {"__init__", "base"}


def test_files_and_functions_stay_readable():
    def too_long(file: Path) -> Iterator[str]:
        num_lines = len(file.read_text(encoding="utf-8").splitlines())
        if num_lines > MOST_LINES:
            yield f"{num_lines} lines"
        for function in functions_of(tree_of(file)):
            num_lines = (function.end_lineno or 0) - function.lineno + 1
            if num_lines > MOST_LINES_OF_FUNCTION:
                yield f"{function.name} has {num_lines} lines"
            arguments = function.args
            names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            parameters = [name for name in names if name not in ("self", "cls")]
            if len(parameters) > MOST_PARAMETERS:
                yield f"{function.name} has {len(parameters)} parameters"

    assert not offenders(too_long)


PLUG_INS = [
    file
    for folder in PLUG_IN_FOLDERS
    for file in sorted((PACKAGE / folder).glob("*.py"))
    if file.stem not in NOT_PLUG_INS | {"__init__"}
]


def test_a_plug_in_holds_the_class_of_its_name():
    def missing_class(file: Path) -> Iterator[str]:
        classes = [node.name for node in tree_of(file).body if isinstance(node, ast.ClassDef)]
        if class_name_of(file.stem) not in classes:
            yield class_name_of(file.stem)

    assert not offenders(missing_class, PLUG_INS)


NAMED_BY_OTHERS = {
    "mlm": {
        "training/recipe/recipe.py",
        "training/recipe/sections.py",
        "objectives/mlsm.py",
        "objectives/self_evolution.py",
        "evaluation/babylm/submission.py",
        "evaluation/babylm/years.py",
    },
}
"""The default of recipes; what mlsm has beside it and self_evolution is built on; and what the BabyLM pipelines call
their way of scoring masked models."""


def test_nothing_lists_the_objectives():
    def naming(objective: Path) -> set[str]:
        found = {
            name_of(other)
            for other in FILES
            if other != objective
            for node in ast.walk(tree_of(other))
            if (isinstance(node, ast.Constant) and node.value == objective.stem)
            or (isinstance(node, ast.ImportFrom) and node.module == f"maskwright.objectives.{objective.stem}")
        }
        return found - NAMED_BY_OTHERS.get(objective.stem, set())

    assert not offenders(naming, [file for file in PLUG_INS if file.parent.name == "objectives"])
