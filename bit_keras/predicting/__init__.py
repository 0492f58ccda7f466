"""Names for images, by any model or export of one, and a picture of both."""

from .contact_sheet import write_contact_sheet
from .predictions import as_table, predict_images, read_labels, replace_file

__all__ = ["as_table", "predict_images", "read_labels", "replace_file", "write_contact_sheet"]
