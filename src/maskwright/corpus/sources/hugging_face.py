"""Data sets of the Hugging Face hub, streamed: `hf:dataset/config/split`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from maskwright.core.errors import CorpusError, MissingDependency
from maskwright.core.optional import load_optional
from maskwright.corpus.sources.base import Piece, Source
from maskwright.corpus.sources.jsonl import text_in_field


class HuggingFace(Source):
    """One split of a data set, by name: `hf:Salesforce/wikitext/wikitext-103-raw-v1/train`.

    The last two parts are the configuration ("default" if the data set has one only) and the split.
    """

    prefix: ClassVar[str] = "hf:"

    def pieces(self) -> Iterator[Piece]:
        """Yield the text of every row."""
        dataset, config, split = self.parts()
        try:
            datasets = load_optional("datasets")
        except ImportError as error:
            raise MissingDependency(
                f"datasets is not installed, {self.name} needs it", "datasets", 'pip install "maskwright[hub]"'
            ) from error
        try:
            rows = datasets.load_dataset(dataset, config, split=split, streaming=True)
            for number, row in enumerate(rows):
                yield Piece(text_in_field(row, self.config.text_field, f"{self.name}: row {number}"), self.name)
        except CorpusError:
            raise
        except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
            problem = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise CorpusError(
                f"{self.name}: {problem}",
                "a data set of the hub that can be reached from here, as hf:dataset/config/split",
                "check the name, configuration and split, the network, and `hf auth login` for closed data sets",
            ) from error

    def parts(self) -> tuple[str, str, str]:
        """Return data set, configuration and split."""
        parts = self.name.removeprefix(self.prefix).split("/")
        if len(parts) not in (3, 4) or not all(parts):
            raise CorpusError(
                f"{self.name} is not the name of a data set with configuration and split",
                "hf:dataset/config/split, such as hf:Salesforce/wikitext/wikitext-103-raw-v1/train",
            )
        return "/".join(parts[:-2]), parts[-2], parts[-1]

    def num_text_bytes(self) -> None:
        """Return None: the hub does not say for all."""

    def identity(self) -> dict[str, Any]:
        """Return the name; a data set that changes on the hub under the same name is not noticed."""
        return {"name": "/".join(self.parts())}
