"""Models into files of other formats, and back. An export is compared before it appears."""

from .artifact import Artifact
from .errors import ExportError, reason
from .exporter import export
from .formats import FORMATS
from .opening import check_has_weights, open_artifact, open_body, open_classifier, open_network
