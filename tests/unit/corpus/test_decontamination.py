"""Evaluation text is found by its n-grams, however it is written and wherever it is cut."""

from maskwright.corpus.decontamination import Decontaminator

EVALUATION = "The quick brown fox jumps over the lazy dog and then sleeps all day long."
WORDS = EVALUATION.split()


def found(text: str, ngram_words: int = 13) -> bool:
    return Decontaminator([EVALUATION], ngram_words).has_overlap(text, continues=False)


def test_thirteen_words_are_found_in_any_case_and_punctuation() -> None:
    assert found("He said: " + "; ".join(WORDS[2:]).upper() + "!")


def test_twelve_words_or_one_word_changed_are_not_found() -> None:
    assert not found(" ".join(WORDS[:12]))
    assert not found(" ".join([*WORDS[:7], "sleepy", *WORDS[8:]]))
    assert found(" ".join(WORDS[:12]), ngram_words=12)


def test_an_overlap_across_pieces_of_one_document_is_found_and_across_documents_is_not() -> None:
    head, tail = " ".join(WORDS[:8]), " ".join(WORDS[8:])
    for continues in (True, False):
        finder = Decontaminator([EVALUATION], 13)
        assert not finder.has_overlap(head, continues=False)
        assert finder.has_overlap(tail, continues=continues) == continues


def test_n_grams_do_not_reach_over_two_evaluation_texts() -> None:
    finder = Decontaminator([" ".join(WORDS[:8]), " ".join(WORDS[8:])], 13)
    assert finder.num_ngrams == 0
    assert not finder.has_overlap(EVALUATION, continues=False)
