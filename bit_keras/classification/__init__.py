"""Image classification, from labeled images to named answers."""

from ..training.backends import require_tensorflow

require_tensorflow(__name__)

from ..training.reading_runs import read_labels
from .contact_sheet import write_contact_sheet
from .explanation import check_explainable, write_heat_maps
from .features import write_features
from .prediction import as_csv, as_table, predict_images
