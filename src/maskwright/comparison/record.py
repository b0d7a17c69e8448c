"""From what the runs of a comparison left on disk to its record: scores, costs, evidence."""

from pathlib import Path

from maskwright.comparison.asked import budget_in_words
from maskwright.comparison.comparison import Comparison
from maskwright.comparison.jobs import Job
from maskwright.comparison.notes import notes_of
from maskwright.comparison.statistics import compare_arms, measures_of, scores_of_run
from maskwright.core.hardware import environment
from maskwright.core.records.comparison import ArmRecord, ArmRun, CurvePoint, RecipeComparisonRecord
from maskwright.core.records.run import RunFolder, RunRecord
from maskwright.corpus.corpus import Corpus
from maskwright.reports.gather import has_number, read_metrics
from maskwright.training.recipe.differences import differing


def record_of_comparison(comparison: Comparison, corpus: Corpus | None) -> RecipeComparisonRecord:
    """Return the record: scores of all runs, means, differences from the baseline, and what a reader must know."""
    measures = measures_of(comparison.tasks)
    scored = {
        arm.name: {
            job.seed: job.evaluation
            for job in comparison.jobs
            if job.arm == arm.name and job not in comparison.untrained
        }
        for arm in comparison.arms
    }
    compared = compare_arms(comparison.tasks, measures, scored, comparison.baseline, comparison.seed)
    differences = differing({arm.name: arm.recipe for arm in comparison.arms})
    arms = [
        ArmRecord(
            name=arm.name,
            source=str(arm.path) if arm.path else "trained before",
            settings=[setting for setting in arm.settings if not setting.startswith(("name=", "budget="))],
            differing=differences[arm.name],
            runs=[
                run_record(
                    job,
                    comparison.problems.get(job),
                    comparison.out,
                    {} if job in comparison.untrained else scores_of_run(job.evaluation, measures),
                )
                for job in comparison.jobs
                if job.arm == arm.name
            ],
            scores=compared.scores[arm.name],
        )
        for arm in comparison.arms
    ]
    budgets = {budget_in_words(arm.recipe.budget) for arm in comparison.arms}
    return RecipeComparisonRecord(
        title=comparison.title,
        command=comparison.command,
        baseline=comparison.baseline,
        budget=" or ".join(sorted(budgets)),
        corpus=str(corpus.folder) if corpus else "",
        corpus_sha256=corpus.manifest.content_sha256 if corpus else "",
        evaluation_seed=comparison.seed,
        arms=arms,
        measures=measures,
        differences=compared.differences,
        num_resamples=compared.num_resamples,
        notes=[*notes_of(comparison.arms, arms, compared, measures), *compared.notes],
        environment=environment(),
    )


def run_record(job: Job, problem: str | None, out: Path, scores: dict[str, float]) -> ArmRun:
    """Return what became of a run, from its own record; what a failed one lacks is missing here too.

    Args:
        job: the run.
        problem: why it was not finished or not scored.
        out: of the comparison.
        scores: by measure.
    """
    path = job.run.path
    known = ArmRun(seed=job.seed, folder=str(path.relative_to(out) if path.is_relative_to(out) else path.resolve()))
    if not job.run.run_record.exists():
        return known.model_copy(update={"problem": problem})
    record = RunRecord.read(job.run.run_record)
    engine, result = record.engine, record.result
    where = record.environment.get("gpu" if engine.device.startswith("cuda") else "processor", engine.device)
    cores = "" if engine.device.startswith("cuda") else f"{record.environment.get('cores', '?')} cores of "
    return known.model_copy(
        update={
            "problem": problem,
            "num_steps": result.step if result else None,
            "num_tokens": result.num_tokens if result else None,
            "num_parameters": record.plan.num_parameters,
            "flops": flops_until(record, result.step) if result else None,
            "seconds": result.seconds if result else None,
            "is_stopped_early": bool(result and result.stopped_early),
            "kwh": record.energy.kwh if record.energy else None,
            "machine": f"{cores}{where}, {engine.dtype}, attention {engine.attention}, "
            + ("compiled" if engine.compiled else "not compiled"),
            "scores": scores,
            "curve": curve_of(job.run, record),
        }
    )


def curve_of(run: RunFolder, record: RunRecord) -> list[CurvePoint]:
    """Return what the probe of held-out text measured during training."""
    return [
        CurvePoint(
            tokens=line["tokens"],
            flops=flops_until(record, line["step"]),
            seconds=line["seconds"],
            cross_entropy=line["held_out_cross_entropy"],
        )
        for line in read_metrics(run.metrics)[1]
        if has_number(line, "held_out_cross_entropy")
    ]


def flops_until(record: RunRecord, step: int) -> float:
    """Return the FLOPs of a run's first steps, by the formula that `plan` shows."""
    left, flops = step, 0.0
    for phase in record.plan.phases:
        steps = min(left, phase.num_steps)
        flops += steps * (phase.step_tokens or record.recipe["batch"]["tokens"]) * phase.flops_per_token
        left -= steps
    return flops
