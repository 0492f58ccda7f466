"""Image classification, from labeled images to named answers."""

from ..training.reading_runs import read_labels
from .contact_sheet import write_contact_sheet
from .prediction import as_table, predict_images
