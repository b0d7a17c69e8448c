"""The functions of the package with their types, for editors and type checkers; importing them here costs nothing."""

from maskwright.comparison.run_comparison import compare as compare
from maskwright.pipeline.corpora import prepare as prepare
from maskwright.pipeline.draw_report import report as report
from maskwright.pipeline.evaluate import evaluate as evaluate
from maskwright.pipeline.export_run import export as export
from maskwright.pipeline.fill_masks import fill as fill
from maskwright.pipeline.plan_recipe import plan as plan
from maskwright.pipeline.train import train as train
from maskwright.tuning.tune import tune as tune

FUNCTIONS: dict[str, str]
