"""The commands. Importing this folder changes what an uncaught Ctrl-C prints, and nothing else."""

import sys

from .interruption import show_uncaught

sys.excepthook = show_uncaught
