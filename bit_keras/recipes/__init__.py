"""Hyper-parameters as data: BiT-HyperRule, the upstream protocols, and the detector's."""

from .detection import DETECTION_RECIPES, RECIPE_OF, DetectionRecipe, detection_recipe
from .hyperrule import MIXES, HyperRule
from .upstream import RECIPES, UpstreamRecipe, recipe
