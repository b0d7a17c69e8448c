"""Turns the records in a run folder into report.html and the model card. Runs no model."""
