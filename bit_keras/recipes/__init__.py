"""Hyper-parameters as data: BiT-HyperRule and the upstream protocols."""

from .hyperrule import MIXES, HyperRule
from .upstream import RECIPES, UpstreamRecipe, recipe
