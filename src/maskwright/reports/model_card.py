"""The model card, `model/README.md`: what the model is, how it was trained and how good it is, with hub metadata.

Everything between the two marker comments is regenerated each time; text around them, and metadata such as `license`
that a person added, stay.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from maskwright.core.errors import CheckpointError
from maskwright.core.integrity import without_seals, write_sealed
from maskwright.core.records.run import RunFolder
from maskwright.reports.formatting import NUMBER_FILTERS, TEXT_FILTERS, Verbatim, clean, markdown_safe
from maskwright.reports.gather import Story, flatten_settings, gather
from maskwright.reports.hub_results import model_index, write_eval_results
from maskwright.reports.tables import comparison_table, detail_table, score_tables, title_of

BEGIN = "<!-- maskwright: generated, edits below this line are overwritten -->"
END = "<!-- maskwright: end of the generated part, text below this line stays -->"


def write_model_card(run: Path) -> Path:
    """Write `model/README.md` of a run, and its scores for the hub, from the records in its folder.

    Returns:
        Where it was written.

    Raises:
        CheckpointError: `run` is not a run folder, or it holds no exported model.
    """
    story = gather(run)
    folder = RunFolder(run).model
    if not folder.is_dir():
        raise CheckpointError(f"{folder} does not exist", "an exported model", "export first: maskwright export RUN")
    path = folder / "README.md"
    existing = read_card(path)
    metadata = metadata_of(story, existing)
    body = generated_body(story)
    if existing is not None:
        before, begin, rest = without_seals(existing.text + "\n", path.suffix).partition(BEGIN)
        after = rest.partition(END)[2] if begin else ""
        body = "\n\n".join(part for part in (before.strip(), body, after.strip()) if part)
    write_sealed(path, f"---\n{metadata.to_yaml()}\n---\n\n{body}\n")
    write_eval_results(list(story.evaluations.values()), folder)
    return path


def read_card(path: Path) -> ModelCard | None:
    """Return the card that is there; None if there is none.

    Raises:
        CheckpointError: its metadata can't be read.
    """
    if not path.exists():
        return None
    try:
        return ModelCard.load(path, ignore_metadata_errors=True)
    except (ValueError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{path}: the metadata is not readable: {' '.join(str(error).split())[:200]}",
            "YAML between two lines of ---",
            "mend it, or delete the file",
        ) from error


def metadata_of(story: Story, existing: ModelCard | None) -> ModelCardData:
    """Return what the hub reads. Licence and languages are left to people: they are not known here."""
    record = story.record
    known: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "model_name": " ".join(clean(record.name).split()) or "model",
        "eval_results": model_index(list(story.evaluations.values())) or None,
    }
    tags = ["maskwright", "masked-language-modeling", "pretrained-encoder", *sorted(objectives(story))]
    if existing is not None:
        kept = existing.data.to_dict()
        tags += kept.pop("tags", None) or []
        kept.pop("model-index", None)
        known = kept | known
    return ModelCardData(tags=list(dict.fromkeys(tags)), **known)


def objectives(story: Story) -> list[str]:
    """Return the names of the objectives of all phases, in order, each once."""
    return list(dict.fromkeys(clean(phase.objective) for phase in story.record.plan.phases))


def mask_token_sentence(story: Story) -> str:
    """Return a sentence on whether the model can fill masks, if a phase did not train it to; else an empty text.

    What such a phase predicted with, its decoder, is not part of the model.
    """
    phases = story.record.plan.phases[: story.record.exported_phase + 1]
    if not phases[-1].trains_vocabulary_head:
        return (
            f"Its last phase, {clean(phases[-1].objective)}, did not train the head that predicts tokens. Fine-tune "
            "it; what it fills in, and scores of masked tokens, say nothing about it."
        )
    without = list(dict.fromkeys(clean(phase.objective) for phase in phases if phase.fills_masks != "encoder"))
    if not without:
        return ""
    names, last = " and ".join(without), phases[-1]
    if last.fills_masks != "encoder":
        return (
            f"Its last phase, {clean(last.objective)}, showed the encoder no mask token; the decoder that read them is "
            "not part of the model. Fine-tune it; what it fills in says nothing about it. Scores of masked tokens were "
            "made with the decoder, which lies beside the model in the run's folder."
        )
    share = last.num_steps / sum(phase.num_steps for phase in phases)
    return (
        f"In the phases of {names} its encoder did not read the mask token; the last {share:.0%} of the steps, with "
        f"{clean(last.objective)}, taught it to. What it fills in, and scores of masked tokens, are those of the model "
        "as it is here, without a decoder."
    )


def generated_body(story: Story) -> str:
    """Return the generated part of the card, between its markers."""
    environment = Environment(
        loader=PackageLoader("maskwright.reports"),
        autoescape=False,
        undefined=StrictUndefined,
        finalize=markdown_safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = {name: print_unescaped(function) for name, function in NUMBER_FILTERS.items()}
    environment.filters.update({**numbers, **TEXT_FILTERS, "title_of": title_of})
    recipe = story.record.recipe
    evaluations = list(story.evaluations.values())
    return environment.get_template("model_card.md.j2").render(
        begin=Verbatim(BEGIN),
        end=Verbatim(END),
        story=story,
        record=story.record,
        objectives=objectives(story),
        mask_token=mask_token_sentence(story),
        score_tables=score_tables(evaluations),
        details=detail_table(evaluations),
        comparisons=[comparison_table(comparison) for comparison in story.comparisons],
        task_citations={title_of(record): record.citation for record in evaluations if record.citation},
        settings=[
            leaf for part in ("optimizer", "schedule", "batch") for leaf in flatten_settings(recipe.get(part), part)
        ],
        recipe=fence_code(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100)),
    )


def print_unescaped(format_number: Callable[..., str]) -> Callable[..., Verbatim]:
    """Let a formatter of numbers print unescaped."""
    return lambda *arguments: Verbatim(format_number(*arguments))


def fence_code(text: str) -> Verbatim:
    """Return text as a Markdown code block that nothing in it can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return Verbatim(f"{fence}yaml\n{clean(text).rstrip()}\n{fence}")
