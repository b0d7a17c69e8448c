"""Judge how well a tokenizer fits a text: unknown tokens, fertility, characters covered."""

from collections.abc import Iterable

from transformers import PreTrainedTokenizerFast

from maskwright.core.records.corpus import TokenizerAudit
from maskwright.tokenization.special_tokens import plain_text_encoder

SAMPLE_CHARACTERS = 300
"""Length of the piece of text that is shown with its tokens."""


def audit(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], kind: str | None = None) -> TokenizerAudit:
    """Encode the texts and count.

    Args:
        tokenizer: any tokenizer.
        texts: documents it was not trained on; a megabyte says enough.
        kind: what was trained; found out if it was not trained here.
    """
    encoder, unk_id = plain_text_encoder(tokenizer), tokenizer.unk_token_id
    num_documents = num_tokens = num_unknown = num_words = num_characters = num_uncovered = 0
    sample_text, sample_tokens = "", []
    for text in texts:
        encoding = encoder.encode(text, add_special_tokens=False)
        num_documents += 1
        num_tokens += len(encoding)
        num_words += len(text.split())
        num_characters += len(text)
        unknown = [span for token_id, span in zip(encoding.ids, encoding.offsets, strict=True) if token_id == unk_id]
        num_unknown += len(unknown)
        num_uncovered += sum(end - start for start, end in unknown)
        if not sample_text:
            sample_text = text.strip()[:SAMPLE_CHARACTERS]
            sample_tokens = encoder.encode(sample_text, add_special_tokens=False).tokens
    return TokenizerAudit(
        kind=kind or kind_of(tokenizer),
        vocabulary_size=len(tokenizer),
        num_sampled_documents=num_documents,
        unknown_rate=num_unknown / max(num_tokens, 1),
        tokens_per_word=num_tokens / max(num_words, 1),
        characters_per_token=num_characters / max(num_tokens, 1),
        character_coverage=1 - num_uncovered / max(num_characters, 1),
        sample_text=sample_text,
        sample_tokens=sample_tokens,
    )


def kind_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """Return the kind of a tokenizer: "wordpiece", "unigram", "bpe", "characters" (no merges), or its model's name."""
    model = tokenizer.backend_tokenizer.model
    name = type(model).__name__.lower()
    longest = max(map(len, set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)), default=0)
    return "characters" if name == "bpe" and longest == 1 else name
