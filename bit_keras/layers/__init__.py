"""The two layers that make a ResNet a BiT: standardized convolution and group normalization."""

from .convolution import StdConv2D as StdConv2D
from .convolution import standardize as standardize
from .convolution import standardized_once as standardized_once
from .normalization import GroupNormalization as GroupNormalization
from .normalization import check_image_data_format as check_image_data_format
