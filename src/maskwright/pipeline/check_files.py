"""What is wrong with the files of a run or a corpus, each by the checksum that was written with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maskwright.core.errors import CheckpointError, CorpusError
from maskwright.core.files import put_back, sha256_of_file
from maskwright.core.integrity import SUMS, seal_problem, sums_problems
from maskwright.core.records.metric_lines import lines_until, sha256_of_lines
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.collocations import read_collocations
from maskwright.corpus.corpus import open_corpus
from maskwright.evaluation.run_tasks import EvaluationFolder, FinishedSeed
from maskwright.models.teacher import FILE_NAME as TEACHER
from maskwright.models.teacher import read_teacher
from maskwright.semantics.dictionary import FILE_NAME as DICTIONARY
from maskwright.semantics.dictionary import Dictionary
from maskwright.semantics.target_cache.cache import MANIFEST, CacheManifest
from maskwright.training.checkpoint import Checkpoints, damage, load_state

Problems = dict[Path, str]
"""What is wrong, by path, in words that end with what to do."""


@dataclass(frozen=True)
class RunFiles:
    """The files of a run.

    Attributes:
        run: its folder.
        record: `run.json`, which was read and is whole.
    """

    run: RunFolder
    record: RunRecord

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end and every file has a checksum, so that nothing may be missing."""
        return self.record.status == "finished" and self.record.has_checksums

    def problems(self) -> Problems:
        """Return what is wrong with any of them; the corpus is not looked at."""
        return self.checkpoints() | self.metrics() | self.model() | self.evaluation() | self.phases() | self.report()

    @cached_property
    def checkpoint_damage(self) -> dict[Path, str | None]:
        """What is wrong with each checkpoint, oldest first; the last step's is missed, unless all were removed."""
        found = Checkpoints(self.run.checkpoints, keep_last=1, keep_best=True)
        wanted = set(found.steps())
        if wanted and self.is_complete and self.record.result is not None:
            wanted.add(self.record.result.step)
        return {found.path(step): damage(found.path(step)) for step in sorted(wanted)}

    def checkpoints(self) -> Problems:
        """Check every checkpoint, and that the last is there."""
        to_do = "resuming goes back to a whole one"
        return {path: f"{problem}; {to_do}" for path, problem in self.checkpoint_damage.items() if problem}

    def metrics(self) -> Problems:
        """Compare the lines with what the end of the run, or else the newest whole checkpoint, knows of them."""
        whole = [path for path, problem in self.checkpoint_damage.items() if problem is None]
        at_the_end = self.record.result if self.record.status == "finished" else None
        known = at_the_end or (load_state(whole[-1]) if whole else None)
        if known is None or known.metrics_sha256 is None:
            return {}
        path, lines = self.run.metrics, lines_until(self.run.metrics, known.step)
        num_bytes = path.stat().st_size if path.exists() else 0
        if sha256_of_lines(lines) != known.metrics_sha256:
            return {path: "it is missing or was altered; restore it from a copy: the curves are drawn from it"}
        if known.metrics_altered_until is not None:
            where = f"up to step {known.metrics_altered_until}, after which the run was resumed"
            return {path: f"it was altered {where}; train again if the curves matter"}
        if self.is_complete and num_bytes != sum(map(len, lines)):
            return {path: "it has more than the run wrote; remove what was added"}
        return {}

    def model(self) -> Problems:
        """Check the exported model, what fills masks beyond it, and the exports by words; not the card."""
        run, export = self.run, self.record.export
        again = f"maskwright export {run.path}"
        problems: Problems = {}
        put_back(run.model)
        if export is not None and export.sums_sha256 is not None:
            problems |= _folder_problems(run.model, export.sums_sha256, again)
            problems |= self._seals((run.model / ".eval_results").glob("*.yaml"), f"maskwright report {run.path}")
        if export is not None and export.reader_sha256 is not None:
            is_whole = run.reader.is_file() and sha256_of_file(run.reader) == export.reader_sha256
            problems |= {} if is_whole else {run.reader: f"it is missing or was altered; {again}"}
        for folder in sorted(run.word_checkpoints.glob("chck_*")):
            if self.is_complete or (folder / SUMS).exists():
                problems |= _folder_problems(folder, None, "it is written again by a run that comes to it")
        return problems

    def is_card_as_written(self) -> bool:
        """Return whether nobody edited the model card since it was written, which is allowed."""
        return not self.is_complete or seal_problem(self.run.model / "README.md") is None

    def evaluation(self) -> Problems:
        """Check records, comparisons, seeds and their items."""
        run, folder = self.run, EvaluationFolder(self.run.evaluation)
        again = f"maskwright evaluate {run.path} --again"
        seeds = sorted((run.evaluation / "seeds").glob("*.json"))
        records = {*run.evaluation.glob("*.json"), *run.comparisons.glob("*.json"), *seeds}
        problems = self._seals(records | ({folder.record("held_out")} if self.is_complete else set()), again)
        items = {path.stem for path in (run.evaluation / "items").glob("*.jsonl")}
        for name in sorted(items | {path.stem for path in seeds}):
            path, record = run.evaluation / "items" / f"{name}.jsonl", run.evaluation / "seeds" / f"{name}.json"
            if record in problems:
                continue
            if not record.exists():
                problems[path] = f"no record names it; {again}"
                continue
            expected = FinishedSeed.read(record).items_sha256
            if expected is not None and not (path.is_file() and sha256_of_file(path) == expected):
                problems[path] = f"it is missing or was altered; {again}"
        return problems

    def phases(self) -> Problems:
        """Check what objectives made before their first steps, and what each phase hid in a paragraph."""
        to_do = "restore it from a copy, or train again"
        plan, result, problems = self.record.plan, self.record.result, Problems()
        # Out of patience, a run ends in an earlier phase than the last.
        num_reached = len(plan.phases) if result is None else 1 + plan.phase_of(result.step)
        for folder in map(self.run.phase, range(num_reached)):
            if self.is_complete:
                problems |= _folder_problems(folder, None, to_do)
            else:
                problems |= self._seals(folder.rglob("*.json"), to_do) | semantics_problems(folder)
        return problems

    def _seals(self, paths: Iterable[Path], to_do: str) -> Problems:
        found = {path: seal_problem(path, self.is_complete) for path in sorted(paths)}
        return {path: f"{problem}; {to_do}" for path, problem in found.items() if problem}

    def report(self) -> Problems:
        """Check the report."""
        wanted = [self.run.report] if self.is_complete or self.run.report.exists() else []
        return self._seals(wanted, f"maskwright report {self.run.path}")


def corpus_problems(folder: Path) -> Problems:
    """Return what is wrong with a prepared corpus, with its collocations and with targets that were made for it."""
    try:
        corpus = open_corpus(folder, verify=True)
        for path in sorted(folder.glob("collocations-*.jsonl")):
            read_collocations(path, corpus.vocabulary.sha256)
    except CorpusError as error:
        return {folder: f"{error.got}; {error.to_do or 'prepare again'}"}
    problems: Problems = {}
    for cache in sorted({path.parent for path in (folder / "targets").glob("*/*") if path.name != ".lock"}):
        try:
            CacheManifest.read(cache / MANIFEST).require_parts(cache, verify=True)
        except CheckpointError as error:
            problems[cache] = f"{error.got}; delete the folder, and it is built again"
    return problems


def semantics_problems(folder: Path) -> Problems:
    """Return what is wrong with dictionaries and teachers below a folder."""
    problems: Problems = {}
    for path in sorted([*folder.rglob(DICTIONARY), *folder.rglob(TEACHER)]):
        try:
            if path.name == DICTIONARY:
                Dictionary.load(path.parent)
            else:
                read_teacher(path)
        except CheckpointError as error:
            problems[path] = f"{error.got}; {error.to_do}"
    return problems


def _folder_problems(folder: Path, sums_sha256: str | None, to_do: str) -> Problems:
    """Return what is wrong with a folder that must have `SHA256SUMS`; `sums_sha256` is of that, where it is known."""
    sums = folder / SUMS
    if seal_problem(sums) or (sums_sha256 is not None and sha256_of_file(sums) != sums_sha256):
        return {sums: f"it is missing or was altered; {to_do}"}
    return {path: f"{problem}; {to_do}" for path, problem in sums_problems(folder).items()}
