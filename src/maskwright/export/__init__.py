"""Hugging Face model folders, out and in: no code of ours travels with a model, and every export is verified."""

from maskwright.export.folder import ImportedModel, export_model, import_model, require_exportable

__all__ = ["ImportedModel", "export_model", "import_model", "require_exportable"]
