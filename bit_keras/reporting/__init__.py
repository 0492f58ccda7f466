"""Runs as HTML pages: a report of one, made of sections, or several side by side."""

from ..training.backends import require_tensorflow

require_tensorflow(__name__)

from .comparison import write_comparison
from .few_shot import few_shot_picture, few_shot_section
from .report import write_report
