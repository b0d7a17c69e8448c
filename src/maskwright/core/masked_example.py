"""What a phase hid in one row of its text: training leaves it in the run folder, and reports show it."""

from pydantic import Field

from maskwright.core.records import Record

FILE = "masked.json"
"""Its name in the phase's folder."""


class MaskedExample(Record):
    """One row of text as the phase's last step saw it."""

    objective: str
    strategy: str | None = Field(description="the masking strategy; null where the objective has none")
    tokens: list[str] = Field(description="the clean tokens, special ones left out")
    is_scored: list[bool] = Field(description="which of them the model was asked for")
