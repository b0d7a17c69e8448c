"""The base of all options: frozen, unknown keys refused."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Options of one part, validated once and kept as an object."""

    model_config = ConfigDict(extra="forbid", frozen=True)
