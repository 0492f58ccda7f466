"""Names for images, by any model or export of one, and a picture of both."""

from .contact_sheet import write_contact_sheet
from .predictions import (
    all_logits,
    as_table,
    model_of_run,
    open_model,
    predict_images,
    read_labels,
)

__all__ = [
    "all_logits",
    "as_table",
    "model_of_run",
    "open_model",
    "predict_images",
    "read_labels",
    "write_contact_sheet",
]
