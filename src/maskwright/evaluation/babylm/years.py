"""What each year's BabyLM challenge requires: parts, names, and the number of items of each.

Sources: `collect_results.py` of babylm/evaluation-pipeline-2023 (17b3806) and -2024 (d680c28), `collate_preds.py` of
babylm/evaluation-pipeline-2025 (bf55c11), which is the package of babylm-org/babylm-eval (45fe2c1) of 2026 too. Counts
of 2024 are those of its sample submission; counts of fine-tuning in 2023 are those that a participant published
(omarmomen/structroberta_s1_final), since its data is not in the repository.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from maskwright.core.errors import EvaluationError

Container = Literal["lines", "gzip", "json"]


@dataclass(frozen=True)
class PairsPart:
    """A part of a submission that a task of minimal pairs fills.

    Attributes:
        key: its name in the submission.
        task: our task.
        num_items: items of each of its sub-tasks, which are named as the files; None if no source says.
    """

    key: str
    task: str
    num_items: Mapping[str, int | None]


@dataclass(frozen=True)
class LabelsPart:
    """A part that fine-tuned tasks fill.

    Attributes:
        key: its name in the submission.
        tasks: the submission's name of each sub-task -> our task.
        num_items: of each sub-task.
        are_texts: whether labels are written as texts.
    """

    key: str
    tasks: Mapping[str, str]
    num_items: Mapping[str, int]
    are_texts: bool


@dataclass(frozen=True)
class AbsentPart:
    """A part that no task of ours fills.

    Attributes:
        key: its name in the submission.
        title: what people call it.
        num_items: in all.
        source: where to get its data, and what scores it.
    """

    key: str
    title: str
    num_items: int
    source: str


@dataclass(frozen=True)
class ChallengeYear:
    """A year's submission.

    Attributes:
        container: one JSON object a line, or one JSON file, or that gzipped.
        has_leading_space: whether sentences are scored, and handed in, with a space before them.
        modes: of pseudo-log-likelihood that its pipeline has, with the backend's name there.
        parts: in their order.
    """

    container: Container
    has_leading_space: bool
    modes: Mapping[str, str]
    parts: tuple[PairsPart | LabelsPart | AbsentPart, ...]


BLIMP = {
    "adjunct_island": 928, "anaphor_gender_agreement": 971, "anaphor_number_agreement": 931,
    "animate_subject_passive": 895, "animate_subject_trans": 923, "causative": 818, "complex_NP_island": 846,
    "coordinate_structure_constraint_complex_left_branch": 906,
    "coordinate_structure_constraint_object_extraction": 949, "determiner_noun_agreement_1": 929,
    "determiner_noun_agreement_2": 931, "determiner_noun_agreement_irregular_1": 681,
    "determiner_noun_agreement_irregular_2": 820, "determiner_noun_agreement_with_adj_2": 941,
    "determiner_noun_agreement_with_adj_irregular_1": 718, "determiner_noun_agreement_with_adj_irregular_2": 840,
    "determiner_noun_agreement_with_adjective_1": 933, "distractor_agreement_relational_noun": 788,
    "distractor_agreement_relative_clause": 871, "drop_argument": 920, "ellipsis_n_bar_1": 802,
    "ellipsis_n_bar_2": 828, "existential_there_object_raising": 812, "existential_there_quantifiers_1": 930,
    "existential_there_quantifiers_2": 911, "existential_there_subject_raising": 924,
    "expletive_it_object_raising": 759, "inchoative": 855, "intransitive": 868,
    "irregular_past_participle_adjectives": 961, "irregular_past_participle_verbs": 942,
    "irregular_plural_subject_verb_agreement_1": 804, "irregular_plural_subject_verb_agreement_2": 892,
    "left_branch_island_echo_question": 947, "left_branch_island_simple_question": 951,
    "matrix_question_npi_licensor_present": 929, "npi_present_1": 909, "npi_present_2": 914,
    "only_npi_licensor_present": 882, "only_npi_scope": 837, "passive_1": 840, "passive_2": 903,
    "principle_A_c_command": 946, "principle_A_case_1": 912, "principle_A_case_2": 915, "principle_A_domain_1": 914,
    "principle_A_domain_2": 915, "principle_A_domain_3": 941, "principle_A_reconstruction": 967,
    "regular_plural_subject_verb_agreement_1": 890, "regular_plural_subject_verb_agreement_2": 945,
    "sentential_negation_npi_licensor_present": 919, "sentential_negation_npi_scope": 871,
    "sentential_subject_island": 961, "superlative_quantifiers_1": 979, "superlative_quantifiers_2": 986,
    "tough_vs_raising_1": 948, "tough_vs_raising_2": 920, "transitive": 868, "wh_island": 960,
    "wh_questions_object_gap": 859, "wh_questions_subject_gap": 898, "wh_questions_subject_gap_long_distance": 857,
    "wh_vs_that_no_gap": 861, "wh_vs_that_no_gap_long_distance": 875, "wh_vs_that_with_gap": 919,
    "wh_vs_that_with_gap_long_distance": 910,
}  # fmt: skip
"""BLiMP as filtered by vocabulary, 2024 to 2026: 67 paradigms, 59,875 pairs."""

BLIMP_2023: Mapping[str, int | None] = dict.fromkeys(
    (
        *("anaphor_agreement", "argument_structure", "binding", "control_raising", "determiner_noun_agreement"),
        *("ellipsis", "filler_gap", "irregular_forms", "island_effects", "npi_licensing", "quantifiers"),
        "subject_verb_agreement",
    )
)
"""In 2023 each of the 12 phenomena was one file."""

SUPPLEMENT = {
    "hypernym": 842,
    "qa_congruence_easy": 64,
    "qa_congruence_tricky": 165,
    "subject_aux_inversion": 3867,
    "turn_taking": 280,
}

GLUE_2023 = {
    "cola": 1019, "sst2": 508, "mrpc": 177, "qqp": 26889, "mnli": 6562, "mnli-mm": 6284, "qnli": 2286, "rte": 99,
    "boolq": 723, "multirc": 913, "wsc": 83,
}  # fmt: skip

GLUE_2024 = {
    "cola": 522, "sst2": 436, "mrpc": 204, "qqp": 20215, "mnli": 4908, "mnli-mm": 4916, "qnli": 2732, "rte": 139,
    "boolq": 1635, "multirc": 2424, "wsc": 52,
}  # fmt: skip

GLUE_2025 = {name: GLUE_2024[name] for name in ("boolq", "mnli", "mrpc", "multirc", "qqp", "rte", "wsc")}

MSGS_2023 = {
    "main_verb_control": 16350, "control_raising_control": 13382, "syntactic_category_control": 17741,
    "relative_position_control": 18092, "lexical_content_the_control": 18200, "main_verb_lexical_content_the": 22099,
    "main_verb_relative_token_position": 24272, "control_raising_lexical_content_the": 20603,
    "control_raising_relative_token_position": 24531, "syntactic_category_lexical_content_the": 23341,
    "syntactic_category_relative_position": 25849,
}  # fmt: skip

EWOK = AbsentPart(
    "ewok",
    "EWoK",
    7618,
    "its authors ask that it not be spread: accept the terms at huggingface.co/datasets/ewok-core/ewok-core-1.0, and "
    "score it with the year's pipeline",
)

OSF_2025 = (
    "the year's evaluation data, osf.io/ryjfm; score it with the year's pipeline, which takes the exported folder"
)


def _labels(counts: Mapping[str, int], are_texts: bool, key: str = "glue") -> LabelsPart:
    return LabelsPart(key, {name: name.replace("-", "_") for name in counts}, counts, are_texts)


_YEAR_2025 = ChallengeYear(
    container="json",
    has_leading_space=False,
    modes={"original": "mlm", "mntp": "mntp"},
    parts=(
        PairsPart("blimp", "blimp", BLIMP),
        PairsPart("blimp_supplement", "blimp_supplement", SUPPLEMENT),
        EWOK,
        AbsentPart("entity_tracking", "entity tracking", 9483, OSF_2025),
        AbsentPart("wug_adj", "wug adjective nominalisation", 200, OSF_2025),
        AbsentPart("wug_past", "wug past tense", 50, OSF_2025),
        AbsentPart("comps", "COMPS", 91028, OSF_2025),
        AbsentPart("reading", "reading times", 1726, OSF_2025),
        AbsentPart("aoa", "age of acquisition, for every checkpoint by words", 8005, OSF_2025),
        _labels(GLUE_2025, are_texts=False),
        AbsentPart(
            "fast_eval_results",
            "fast evaluation of every checkpoint by words",
            0,
            "osf.io/ryjfm (fast_eval); push RUN/babylm/chck_* as branches and run the pipeline's "
            "eval_zero_shot_fast_all_revisions.sh",
        ),
    ),
)

YEARS: Mapping[int, ChallengeYear] = {
    2023: ChallengeYear(
        container="lines",
        has_leading_space=True,
        modes={"original": "hf-mlm"},
        parts=(
            _labels(GLUE_2023, are_texts=True),
            _labels(MSGS_2023, are_texts=True, key="msgs"),
            PairsPart("blimp", "blimp", BLIMP_2023),
            PairsPart("supplement", "blimp_supplement", SUPPLEMENT),
        ),
    ),
    2024: ChallengeYear(
        container="gzip",
        has_leading_space=True,
        modes={"original": "hf-mlm"},
        parts=(
            _labels(GLUE_2024, are_texts=False),
            PairsPart("blimp", "blimp", BLIMP),
            PairsPart("blimp_supplement", "blimp_supplement", SUPPLEMENT),
            EWOK,
        ),
    ),
    2025: _YEAR_2025,
    2026: _YEAR_2025,
}


def year_of(year: int) -> ChallengeYear:
    """Return what a year's challenge requires.

    Raises:
        EvaluationError: there was none, or its form is not known.
    """
    if year not in YEARS:
        raise EvaluationError(f"--babylm {year}", "a year of the BabyLM challenge: " + ", ".join(map(str, YEARS)))
    return YEARS[year]
