"""Writes docs/recipes.md and docs/task_keys.md, the references of every key, from the models that read the YAML.

    .venv/bin/python docs/generate_recipe_reference.py

`tests/docs/test_references.py` fails when the file is out of date.
"""

import inspect
import json
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from maskwright.batching.samplers.base import Sampler
from maskwright.core.discovery import load_plug_in, plug_in_names
from maskwright.core.files import write_text_atomically
from maskwright.core.plug_in_field import Chosen
from maskwright.encoders.build import FAMILIES, load_family
from maskwright.evaluation.datasets.section import DataLayout, DataSection, ReadingOptions, SplitFile, TestCut
from maskwright.evaluation.fine_tuning.settings import FineTuning
from maskwright.evaluation.tasks.base import Task
from maskwright.masking.masking import STRATEGIES
from maskwright.masking.strategies.base import Strategy
from maskwright.objectives.base import TERMS, Objective
from maskwright.objectives.terms.base import Term
from maskwright.tokenization.kinds.base import Kind
from maskwright.tokenization.train_tokenizer import KINDS
from maskwright.training.recipe.recipe import Recipe
from maskwright.training.recipe.sections import SAMPLERS

REFERENCE = Path(__file__).with_name("recipes.md")
TASK_REFERENCE = Path(__file__).with_name("task_keys.md")

OBJECTIVES = "maskwright.objectives"
TASKS = "maskwright.evaluation.tasks"

PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null", Path: "path"}

INTRODUCTION = """\
# Recipe reference

<!-- Written by docs/generate_recipe_reference.py; changes belong into the descriptions in the code. -->

A recipe is one YAML file. Every key is listed here with its default; only `name` and `budget` must be given. An unknown
key is an error that names the nearest known one, and all problems are reported at once. The recipe with every default
filled in is kept in the run folder, in `run.json`.

Without a recipe, one is chosen for the text and the hours, and the reasons are printed (`training/recipe/choose.py`
has the rules). To begin with it and change it, save it first:

```bash
maskwright plan --data my_texts --hours 2 --save mine.yaml
```

YAML without its traps: `1e-3` and `1_000_000` are numbers, `true` and `false` are the only truth values (`no` is a
word), and a key that stands twice is an error.

Any key can be replaced on the command line by its dotted name; items of a list are counted from 0:

```bash
maskwright train recipes/tiny.yaml --set optimizer.learning_rate=1e-3 --set phases.0.sequence_length=32
```
"""


def reference() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, *section(Recipe, "The recipe", "")]
    for name, field in Recipe.model_fields.items():
        for model in models_in(field.annotation):
            prefix = f"{name}.0." if get_origin(field.annotation) is tuple else f"{name}."
            parts += section(model, f"`{name}`", prefix)
            for inner, inner_field in model.model_fields.items():
                for inner_model in models_in(inner_field.annotation):
                    parts += section(inner_model, f"`{prefix}{inner}`", f"{prefix}{inner}.")
    parts.append("# Options of plug-ins\n")
    for name in plug_in_names(OBJECTIVES):
        objective = load_plug_in(OBJECTIVES, name, Objective)
        parts += plug_in(objective, objective.Config, f"Objective `{name}`", "phases.0.objective.", set())
    for name in plug_in_names(TERMS.package):
        term = load_plug_in(TERMS.package, name, Term)
        parts += plug_in(term, term.Config, f"Term `{name}`", "phases.0.objective.terms.0.", set())
    for name in plug_in_names(STRATEGIES.package):
        strategy = load_plug_in(STRATEGIES.package, name, Strategy)
        parts += plug_in(strategy, strategy.Config, f"Strategy `{name}`", "phases.0.objective.strategy.", set())
    for name in plug_in_names(SAMPLERS.package):
        sampler = load_plug_in(SAMPLERS.package, name, Sampler)
        parts += plug_in(sampler, sampler.Config, f"Sampler `{name}`", "phases.0.sampler.", set())
    for name in plug_in_names(KINDS.package):
        kind = load_plug_in(KINDS.package, name, Kind)
        if kind.Config.model_fields:
            parts += plug_in(kind, kind.Config, f"Tokenizer kind `{name}`", "tokenizer.kind.", set())
    for name in plug_in_names(FAMILIES):
        family = load_family(name)
        left_out = set(family.Config.not_overridden)
        parts += plug_in(family, family.Config, f"Encoder family `{name}`", "encoder.overrides.", left_out)
        if family.SIZES:
            parts.append(f"`encoder.size` gives what is required here: {', '.join(family.SIZES)}.\n")
        else:
            parts.append("It has no sizes: `encoder.size` is null.\n")
    return "\n".join(parts).rstrip() + "\n"


TASK_INTRODUCTION = """\
# Keys of a task

<!-- Written by docs/generate_recipe_reference.py; changes belong into the descriptions in the code. -->

A task is one YAML file; [tasks.md](tasks.md) shows how it is written. Every key is listed here with its default. An
unknown key is an error that names the nearest known one. `--set my_task.training.epochs=5` changes one for a run.
"""


def task_reference() -> str:
    """Return the page of a task's keys: those of each kind, then those that the kinds of fine-tuning share."""
    parts = [TASK_INTRODUCTION]
    shared = {"data", "training"}
    for name in plug_in_names(TASKS):
        kind = load_plug_in(TASKS, name, Task)
        left_out = shared & set(kind.Config.model_fields)
        parts += [f"## Kind `{name}`\n", f"{summary(kind)}\n", table(kind.Config, "", left_out)]
        parts += inner_sections(kind.Config, "", left_out)
        if left_out:
            parts.append("And the sections [`data`](#data) and [`training`](#training).\n")
    parts += [
        "## `data`\n",
        f"{summary(DataSection)} `train`, and `test` or `cut`, must be given, here or in each layout.\n",
    ]
    own_keys = set(DataSection.model_fields) - set(DataLayout.model_fields) - {"folder"}
    parts += ["Only here:\n", table(DataSection, "data.", set(DataSection.model_fields) - own_keys)]
    layout_keys = set(DataLayout.model_fields) - set(ReadingOptions.model_fields)
    parts += [
        "Here, or in each of `data.layouts`:\n",
        table(DataLayout, "data.", set(DataLayout.model_fields) - layout_keys),
    ]
    parts += [f"Here, in a layout, or in a split. {summary(ReadingOptions)}\n", table(ReadingOptions, "data.", set())]
    parts += [f"A split as a mapping: {summary(SplitFile)}\n"]
    parts += [table(SplitFile, "data.train.", set(ReadingOptions.model_fields))]
    parts += [f"`cut` as a mapping: {summary(TestCut)}\n", table(TestCut, "data.cut.", set())]
    parts += section(FineTuning, "`training`", "training.")
    parts += inner_sections(FineTuning, "training.", set())
    return "\n".join(parts).rstrip() + "\n"


def section(model: type[BaseModel], title: str, prefix: str) -> list[str]:
    """Return a section of the page: what it is about, and the table of its keys."""
    return [f"## {title}\n", f"{summary(model)}\n", table(model, prefix, set())]


def plug_in(owner: type[Any], config: type[BaseModel], title: str, prefix: str, left_out: set[str]) -> list[str]:
    """Return the section of one plug-in and of the models that its options hold."""
    parts = [f"## {title}\n", f"{summary(owner)}\n", table(config, prefix, left_out)]
    if not config.model_fields:
        parts[-1] = "It has no options.\n"
    return parts + inner_sections(config, prefix, set())


def inner_sections(config: type[BaseModel], prefix: str, left_out: set[str]) -> list[str]:
    """Return the tables of the models that a model's fields hold."""
    return [
        line
        for name, field in config.model_fields.items()
        for model in models_in(field.annotation)
        if name not in left_out
        for line in (f"`{name}` as a mapping: {summary(model)}\n", table(model, f"{prefix}{name}.", set()))
    ]


def summary(owner: type[Any]) -> str:
    """Return the first paragraph of a docstring."""
    return " ".join((inspect.getdoc(owner) or "").partition("\n\n")[0].split())


def table(model: type[BaseModel], prefix: str, left_out: set[str]) -> str:
    """Return the table of a model's keys."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name not in left_out:
            cells = [f"`{prefix}{name}`", kind_of_field(field), default_of(field), field.description or ""]
            rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def kind_of_field(field: FieldInfo) -> str:
    """Return what a field takes, with its range."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [
        f"{sign} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, sign in signs.items()
        if getattr(limit, name, None) is not None
    ]
    return kind_of(field.annotation) + (f" ({', '.join(limits)})" if limits else "")


def kind_of(annotation: Any) -> str:
    """Return what an annotation takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Chosen:
        return "name, or mapping with a name"
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        return kind_of(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(kind_of(one) for one in arguments)
    if origin in (tuple, list):
        return "list of sections" if models_in(arguments[0]) else f"list of {kind_of(arguments[0])}"
    return "section" if models_in(annotation) and origin is None else "mapping"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return the models that an annotation is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for one in get_args(annotation) for model in models_in(one)]


def default_of(field: FieldInfo) -> str:
    """Return a field's default as it would stand in YAML; sections have defaults of their own."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or (isinstance(value, tuple) and value and isinstance(value[0], BaseModel)):
        return "see below"
    return f"`{json.dumps(value, ensure_ascii=False, default=plug_in_name)}`"


def plug_in_name(chosen: Chosen[Any]) -> str:
    """Return how a recipe names a plug-in that has its default options."""
    return chosen.name


if __name__ == "__main__":
    write_text_atomically(REFERENCE, reference())
    write_text_atomically(TASK_REFERENCE, task_reference())
