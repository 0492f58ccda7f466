"""Runs as HTML pages: one by itself, or several side by side."""

from .comparison import write_comparison
from .few_shot import few_shot_picture
from .report import write_report

__all__ = ["few_shot_picture", "write_comparison", "write_report"]
