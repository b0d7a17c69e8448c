"""A plug-in as a field of options: a name with the plug-in's own options, validated once and kept as an object."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError
from pydantic_core import core_schema

from maskwright.core.discovery import load_plug_in
from maskwright.core.errors import RecipeError
from maskwright.core.validation import NestedProblems, problems_of

PlugIn = TypeVar("PlugIn")


@dataclass(frozen=True)
class Chosen(Generic[PlugIn]):
    """A plug-in that a recipe names, with its options.

    Attributes:
        name: as the recipe says it: a file's name, or "module:Class".
        plug_in: the class.
        options: an object of the class's `Config`.
    """

    name: str
    plug_in: type[PlugIn]
    options: Any

    def __hash__(self) -> int:
        """By what a recipe says; options need not be hashable."""
        return hash((self.name, self.options.model_dump_json()))

    @property
    def label(self) -> str:
        """The name without the module, as it appears in metrics, such as "token"."""
        return self.name.rpartition(":")[2]

    def to_mapping(self) -> dict[str, Any]:
        """Return what a recipe says to choose this again, with every default filled in."""
        return {"name": self.name, **self.options.model_dump(mode="json")}


def short_form(chosen: Chosen[Any]) -> Any:
    """Return what a recipe says to choose a plug-in: its name alone if it has no options, else a mapping."""
    mapping = chosen.to_mapping()
    return chosen.name if len(mapping) == 1 else mapping


class ChosenFrom:
    """Annotation of a field that names a plug-in: `Annotated[Chosen[Term], ChosenFrom(TERMS, Term)]`.

    The field takes a bare name or a mapping of `name` and the plug-in's options, and is written as such a mapping.
    """

    def __init__(self, package: str, base: type[Any]) -> None:
        """Say which plug-ins there are.

        Args:
            package: their folder, such as "maskwright.objectives.terms".
            base: the class they inherit from; it has the class of their options as `Config`.
        """
        self.package, self.base = package, base

    def choose(self, value: Any) -> Chosen[Any]:
        """Return the plug-in that a value names.

        Raises:
            ValueError: it names none, or has options that the plug-in does not take; the message lists the problems.
        """
        if isinstance(value, Chosen):
            return value
        raw = {"name": value} if isinstance(value, str) else value
        if not isinstance(raw, Mapping) or not isinstance(raw.get("name"), str):
            raise ValueError(f"is {value!r:.60}, it must be a name such as span, or a mapping with a name and options")
        name = raw["name"]
        try:
            plug_in = load_plug_in(self.package, name, self.base)
            options = plug_in.Config.model_validate({key: item for key, item in raw.items() if key != "name"})
        except RecipeError as error:
            advice = "; ".join(part for part in (error.expected, error.to_do) if part)
            raise ValueError(f"{error.got} ({advice})") from error
        except ValidationError as error:
            config = load_plug_in(self.package, name, self.base).Config
            raise NestedProblems(problems_of(config, error)) from error
        return Chosen(name, plug_in, options)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let pydantic validate by `choose` and write by `to_mapping`."""
        return core_schema.no_info_plain_validator_function(
            self.choose, serialization=core_schema.plain_serializer_function_ser_schema(Chosen.to_mapping)
        )

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Describe the field: a name, or a mapping with one."""
        return {"anyOf": [{"type": "string"}, {"type": "object"}]}
