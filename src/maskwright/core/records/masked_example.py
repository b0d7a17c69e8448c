"""What a phase hides in one paragraph: training leaves it in the run folder, and reports show it."""

from pydantic import Field

from maskwright.core.records.base import Record

FILE = "masked.json"
"""Its name in the phase's folder."""


class MaskedExample(Record):
    """The beginning of a document, as the phase would have read it in its last step."""

    objective: str
    strategy: str | None = Field(description="the masking strategy; null if the objective has none")
    tokens: list[str] = Field(
        description="what each clean token adds to the text, the space before it too; without [CLS] and [SEP]"
    )
    is_scored: list[bool] = Field(description="which of them the model was asked for")
