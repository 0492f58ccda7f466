"""Hyper-parameters as data: BiT-HyperRule and the upstream protocols."""

from .hyperrule import HyperRule
from .upstream import RECIPES, UpstreamRecipe, recipe
