"""Hugging Face model folders, out and in: no code of ours travels with a model, and every export is verified."""

from maskwright.export.folder import (
    ImportedModel,
    NativeModel,
    export_model,
    import_model,
    import_native_model,
    require_exportable,
)

__all__ = [
    "ImportedModel",
    "NativeModel",
    "export_model",
    "import_model",
    "import_native_model",
    "require_exportable",
]
