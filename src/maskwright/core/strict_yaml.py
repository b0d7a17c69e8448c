"""YAML without its traps: safe, no repeated keys, 1e-3 is a number, "no" is a word."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from maskwright.core.errors import RecipeError


class StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers and booleans of YAML 1.2 and without repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that stands twice."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # pyright: ignore[reportUnknownMemberType]
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


StrictLoader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
        and not tag.endswith("timestamp")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
StrictLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)?(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|nan)$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, origin: str) -> Any:
    """Parse YAML text; `origin` names it in messages.

    Raises:
        RecipeError: it is no valid YAML, with the line.
    """
    try:
        return StrictLoader(text).get_single_data()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not readable as YAML"
        raise RecipeError(f"{origin}{line}: {problem}", "valid YAML") from error


def load_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping.

    Raises:
        RecipeError: the file is missing, not text, not YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError) as error:
        known = ", ".join(sorted(str(file) for file in path.parent.glob("*.yaml"))[:6])
        raise RecipeError(
            f"{path} is no file", "a recipe in YAML" + (f", such as {known}" if known else ", see recipes/")
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}, byte {error.start}: not UTF-8", "a recipe in YAML, as UTF-8 text") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise RecipeError(f"{path} holds a {type(value).__name__}", "a mapping of keys to values, see recipes/")
    return value


def merge_mappings(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a nested mapping with changes laid over it."""
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = (
            merge_mappings(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
        )
    return merged
