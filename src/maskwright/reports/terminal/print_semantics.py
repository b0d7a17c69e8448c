"""Dictionaries and profiles on the terminal, on standard output."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table

from maskwright.core.log import printable
from maskwright.core.records.semantics import Atom, AtomsRecord, Context, Profile, ProfiledWords, sample_atoms

SHOWN_ATOMS = 12

PROFILE_COLUMNS = 56
"""Characters that a profile needs; several stand side by side where the terminal has room for them."""

BAR_COLUMNS, CONTEXT_CHARACTERS = 12, 18

SHARED = "◆"


def print_dictionary(record: AtomsRecord) -> None:
    """Print how good a dictionary's codes are, and some of its atoms."""

    out = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="dim")
    facts.add_column()
    for name, value in dictionary_facts(record):
        facts.add_row(name, value)
    out.print(facts)
    atoms = Table(title="some atoms", title_justify="left", box=None, pad_edge=False)
    atoms.add_column("atom", justify="right")
    atoms.add_column("of tokens", justify="right")
    atoms.add_column("its words")
    atoms.add_column("where it is strongest")
    for number in sample_atoms(record, SHOWN_ATOMS):
        atom = record.atoms[number]
        strongest = in_context(atom.contexts[0]) if atom.contexts else ""
        atoms.add_row(str(number), f"{100 * atom.frequency:.2f} %", printable(atom.name), strongest)
    out.print(atoms)


def dictionary_facts(record: AtomsRecord) -> list[tuple[str, str]]:
    """Return what is to be known of a dictionary as a whole, as names and values."""
    coding, num_atoms = record.coding, len(record.atoms)
    return [
        ("atoms", f"{num_atoms:,}, of states of layer {record.layer}, lambda {record.penalty:g}"),
        ("dead atoms", f"{record.num_dead_atoms:,} in {record.num_tokens:,} coded tokens"),
        ("atoms per token", f"{coding['mean_nonzeros']:.1f} on average, {coding['most_nonzeros']:.0f} at most"),
        ("tokens without atoms", f"{100 * coding['zero_codes_fraction']:.2f} %"),
        ("relative duality gap", f"{coding['largest_relative_gap']:.1e} at most"),
        ("KKT violation", f"{coding['largest_kkt_violation']:.1e} of lambda at most"),
        ("largest eigenvalue", f"{coding['largest_eigenvalue']:.1f}"),
    ]


def print_profiles_of(asked: tuple[ProfiledWords, int]) -> None:
    """Print profiles with so many contexts for each atom."""
    print_profiles(*asked)


def print_profiles(profiled: ProfiledWords, num_contexts: int) -> None:
    """Print the profiles of words side by side, the atoms that they share marked."""

    out = Console(highlight=False)
    shared = shared_atoms(profiled.words)
    per_row = max(1, min(len(profiled.words), out.width // PROFILE_COLUMNS))
    for begin in range(0, len(profiled.words), per_row):
        grid = Table.grid(expand=False, padding=(0, 3, 1, 0))
        numbers = range(begin, min(begin + per_row, len(profiled.words)))
        for _ in numbers:
            grid.add_column(width=min(out.width // per_row - 3, 2 * PROFILE_COLUMNS))
        grid.add_row(*(marked(profiled.words[number].context) for number in numbers))
        grid.add_row(*(bars(profiled.words[number], profiled.atoms, shared, num_contexts) for number in numbers))
        if profiled.predicted is not None:
            grid.add_row(
                *(prediction(profiled.words[number], profiled.predicted[number], profiled) for number in numbers)
            )
        out.print(grid)
    if len(profiled.words) > 1:
        _print_shared(out, profiled, shared)


def _print_shared(out: Console, profiled: ProfiledWords, shared: frozenset[int]) -> None:

    if not shared:
        out.print("[dim]no atom shown is in more than one of the profiles[/dim]")
        return
    names = "; ".join(f"{atom} ({profiled.atoms.atoms[atom].name})" for atom in sorted(shared))
    out.print(f"[yellow]{SHARED}[/yellow] [dim]in more than one of the profiles: {printable(names)}[/dim]")


def shared_atoms(profiles: Sequence[Profile]) -> frozenset[int]:
    """Return the atoms that several of the profiles have among their strongest."""
    uses = Counter(atom.atom for profile in profiles for atom in profile.atoms)
    return frozenset(atom for atom, count in uses.items() if count > 1)


def bars(profile: Profile, record: AtomsRecord, shared: frozenset[int], num_contexts: int) -> RenderableType:
    """Return the atoms of a profile as bars, each with its label and nearest contexts."""

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=1, style="yellow")
    table.add_column(width=4, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=BAR_COLUMNS, style="blue", no_wrap=True)
    largest = max(atom.weight for atom in profile.atoms)
    for entry in profile.atoms:
        atom = record.atoms[entry.atom]
        table.add_row(
            SHARED if entry.atom in shared else "",
            f"{100 * entry.weight:.0f}%",
            f"{printable(atom.name)} [dim]{entry.atom}[/dim]",
            "█" * max(1, round(BAR_COLUMNS * entry.weight / largest)),
        )
        for context in nearest(atom, num_contexts):
            table.add_row("", "", f"[dim]{context}[/dim]", "")
    rest = profile.num_atoms - len(profile.atoms)
    if rest > 0:
        left = 1 - sum(atom.weight for atom in profile.atoms)
        table.add_row("", f"{100 * left:.0f}%", f"[dim]{rest:,} more[/dim]", "")
    return table


def nearest(atom: Atom, count: int) -> list[str]:
    """Return the strongest contexts of an atom as short lines, safe for a terminal."""
    return [in_context(context) for context in atom.contexts[:count]]


def in_context(context: Context) -> str:
    """Return a word in brackets with a little of what stands around it, safe for a terminal."""

    left, word, right = (
        " ".join(("|" + part + "|").split())[1:-1] for part in (context.left, context.word, context.right)
    )
    left = left if len(left) <= CONTEXT_CHARACTERS else "…" + left[-CONTEXT_CHARACTERS:]
    right = right if len(right) <= CONTEXT_CHARACTERS else right[:CONTEXT_CHARACTERS] + "…"
    return printable(f"{left}[{word}]{right}")


def marked(context: Context) -> str:
    """Return a whole text with its word in brackets, safe for a terminal."""

    word = printable(f"[{context.word}]")
    return f"{printable(context.left)}[bold green]{word}[/bold green]{printable(context.right)}"


def prediction(word: Profile, predicted: Profile, profiled: ProfiledWords) -> RenderableType:
    """Return what the student predicts for a masked word; the atoms that the teacher has as well are marked."""

    known = frozenset(atom.atom for atom in word.atoms)
    title = "[dim]masked, the student predicts[/dim]"
    return Group(title, bars(predicted.model_copy(update={"num_atoms": 0}), profiled.atoms, known, 0))
