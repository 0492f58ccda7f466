"""What every part of an export raises."""


class ExportError(ValueError):
    """A model cannot be exported, or its export does not answer as the model does."""
