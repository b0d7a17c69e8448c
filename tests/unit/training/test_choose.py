"""The recipe that is chosen for a machine, a text and some hours."""

import pytest

from maskwright.core.errors import RecipeError
from maskwright.training.recipe.choose import Means, batch_tokens, candidate, choose_recipe
from maskwright.training.recipe.recipe import parse_recipe


def means(hours: float, flops_per_second: float = 2e11, text_bytes: float | None = 1e9, memory: int = 10**11) -> Means:
    return Means(hours, flops_per_second, text_bytes, memory)


def size_of(found: Means) -> str:
    return choose_recipe("texts", ["texts"], found).recipe["encoder"]["size"]


def test_more_time_or_a_faster_machine_never_chooses_a_smaller_encoder():
    sizes = ["tiny", "mini", "small", "medium", "base", "large"]
    for rate in (2e11, 4e14):
        chosen = [sizes.index(size_of(means(hours, rate))) for hours in (0.05, 0.3, 3, 24, 240, 5000)]
        assert chosen == sorted(chosen) and len(set(chosen)) > 1
    assert size_of(means(1, 1e13)) == size_of(means(100, 1e11))


@pytest.mark.parametrize("hours", [0.05, 0.3, 3, 24, 5000])
def test_every_choice_is_a_recipe_with_hours_that_sees_enough(hours):
    choice = choose_recipe("texts", ["a", "b"], means(hours))
    recipe = parse_recipe(choice.recipe, "chosen")
    assert recipe.budget.hours == hours and recipe.data.names == ("a", "b")
    assert recipe.batch.tokens % recipe.batch.micro_batch_tokens == 0
    each = candidate(str(recipe.encoder.size), means(hours))
    assert each.size == "tiny" or each.seen >= each.least
    assert bool(recipe.encoder.overrides) == (each.num_tokens < 1e7)
    assert [name for name, _ in choice.reasons] == ["hours", "text", "encoder", "vocabulary", "batch"]


@pytest.mark.parametrize("num_ranks", [2, 3, 6, 8, 64])
def test_every_process_has_as_many_micro_batches(num_ranks):
    for num_tokens in (1e6, 1e8, 1e10):
        tokens, of_micro_batch = batch_tokens(num_tokens, num_ranks)
        assert tokens % (num_ranks * of_micro_batch) == 0 and of_micro_batch % 512 == 0
        alone, _ = batch_tokens(num_tokens, 1)
        assert tokens == num_ranks * 512 or 0.6 < tokens / alone < 1.6


def test_little_text_has_a_small_vocabulary():
    entries = [
        choose_recipe("t", ["t"], means(3, text_bytes=text)).recipe["tokenizer"]["vocabulary_size"]
        for text in (1e5, 2e6, 1e9, None)
    ]
    assert entries == sorted(entries) and entries[0] == 1024 and entries[2] == entries[3]


def test_what_does_not_fit_the_memory_is_not_chosen():
    assert size_of(means(5000, memory=10**9)) != size_of(means(5000))


def test_too_little_time_says_how_much_is_enough():
    with pytest.raises(RecipeError, match=r"--hours 0\.0") as refused:
        choose_recipe("t", ["t"], means(0.001))
    least = float(str(refused.value).partition("--hours ")[2].split()[0])
    assert size_of(means(least)) == "tiny"
    with pytest.raises(RecipeError):
        choose_recipe("t", ["t"], means(0.9 * least))
