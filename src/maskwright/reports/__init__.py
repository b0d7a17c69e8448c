"""Turns the records in a run folder into report.html and the model card. Runs no model."""

from maskwright.reports.html import write_dictionary_report, write_report
from maskwright.reports.model_card import write_model_card

__all__ = ["write_dictionary_report", "write_model_card", "write_report"]
