"""Numbers and foreign text as people read them, in HTML and in Markdown."""

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

MARKDOWN_PUNCTUATION = re.compile(r"[\\`*_\[\]|~$]|^[#+\-=]|^\d+(?=[.)](?:\s|$))")
"""What can begin markup within a line, and at its beginning."""

AUTOLINK = re.compile(r"://|(?<=www)\.|@", re.IGNORECASE)
"""What makes Markdown turn bare text into a link."""


class Verbatim(str):
    """Text of our own that a template prints as it is."""


def clean(text: str) -> str:
    """Make text from a corpus, a tokenizer or a user harmless to read.

    Control characters, marks that turn the direction of the text around them, lone surrogates and code points that are
    no characters become U+FFFD; line ends and tabs stay.
    """
    return "".join(REPLACEMENT if is_harmful(character) else character for character in text)


def is_harmful(character: str) -> bool:
    """Return whether a character is a control other than line end and tab, or turns the direction of what follows."""
    is_directional = "\u202a" <= character <= "\u202e" or "\u2066" <= character <= "\u2069"
    return is_directional or (character not in "\n\t" and unicodedata.category(character) in ("Cc", "Cs", "Cn"))


def markdown_safe(value: object) -> object:
    """Return text so that Markdown shows it as it is, on one line; anything else unchanged."""
    if isinstance(value, Verbatim) or not isinstance(value, str):
        return value
    one_line = " ".join(clean(value).split())
    escaped = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = MARKDOWN_PUNCTUATION.sub(lambda found: entities(found[0]), escaped)
    return AUTOLINK.sub(lambda found: entities(found[0]), escaped)


def entities(text: str) -> str:
    """Return text as HTML entities, or behind a backslash where that reads better."""
    if len(text) == 1 and text in "\\`*_[]|~$#+-=":
        return "\\" + text
    return "".join(f"&#{ord(character)};" for character in text)


def format_whole(value: float) -> str:
    """1234567 -> "1,234,567"."""
    return f"{value:,.0f}"


def format_compact(value: float) -> str:
    """1234567 -> "1.23 million"."""
    for size, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


def format_with_unit(value: float, unit: str) -> str:
    """Return three digits with a decimal prefix: (1.5e12, "FLOP/s") -> "1.5 TFLOP/s"."""
    for size, prefix in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def format_percent(value: float) -> str:
    """0.1234 -> "12.3 %"."""
    return f"{100 * value:.1f} %"


def format_amount(value: float) -> str:
    """Return three digits, without a prefix: 0.01234 -> "0.0123", 1234.5 -> "1,235"."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def format_duration(seconds: float) -> str:
    """3725 -> "1 h 2 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"


def format_moment(timestamp: str) -> str:
    """2026-11-21T08:10:00+00:00 -> "2026-11-21 08:10 UTC"; anything else stays as it is."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):[\d.]+(\+00:00|Z)", timestamp)
    return f"{found[1]} {found[2]} UTC" if found else timestamp


def format_fact(name: str, value: object) -> str:
    """Return a value of the environment or of settings, bytes with a prefix."""
    text = "not set" if value is None else str(value)
    return format_with_unit(float(text), "B") if name.endswith("_bytes") and text.isdecimal() else text


def format_score(name: str, value: float) -> str:
    """Return a score in the unit that its name tells: accuracies, rates and fractions in percent."""
    if name.endswith(("accuracy", "_rate", "_fraction")):
        return format_percent(value)
    return format_whole(value) if name.startswith("num_") else f"{value:.3f}"


def label_of(name: str) -> str:
    """Turn a metric's or setting's name into words: "top1_accuracy" -> "top-1 accuracy"."""
    return re.sub(r"\btop(\d)", r"top-\1", name.removeprefix("num_").removesuffix("_bytes").replace("_", " "))


def describe_group(group: Mapping[str, Any]) -> str:
    """Return how sure a model was of a group of hidden tokens, and how often it was right."""
    name, share_right = str(group["name"]), group["num_right"] / group["num_tokens"]
    return (
        f"{name[:1].upper()}{name[1:]} ({format_whole(group['num_tokens'])} hidden tokens): the first guess has "
        f"{format_percent(group['mean_probability'])} on average and is right for {format_percent(share_right)}"
    )


NUMBER_FILTERS: Mapping[str, Callable[..., str]] = {
    function.__name__: function
    for function in (
        format_whole,
        format_compact,
        format_with_unit,
        format_percent,
        format_amount,
        format_duration,
        format_score,
    )
}
"""What templates may call on numbers; the results hold no foreign text."""

TEXT_FILTERS: Mapping[str, Callable[..., str]] = {
    function.__name__: function for function in (label_of, format_moment, format_fact, describe_group)
}
"""What templates may call on text; the results are as foreign as the text."""
