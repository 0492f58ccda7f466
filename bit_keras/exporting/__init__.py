"""Models into files that others run. An export appears only after it was read back and compared."""

from .checks import PRECISIONS
from .errors import ExportError
from .exporter import export
from .formats import FORMATS

__all__ = ["FORMATS", "PRECISIONS", "ExportError", "export"]
