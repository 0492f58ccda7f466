"""What every part of an export raises."""


class ExportError(ValueError):
    """A model cannot be exported, or its export does not answer as the model does."""


def reason(error: Exception) -> str:
    """Returns the first line of an error's message, to be quoted in another."""
    return str(error).strip().split("\n")[0][:300] or type(error).__name__
