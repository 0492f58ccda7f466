"""The two layers that make a ResNet a BiT: standardized convolution and group normalization."""

from .convolution import StdConv2D as StdConv2D
from .convolution import standardize as standardize
from .convolution import standardized_in_training as standardized_in_training
from .convolution import taken_as_standardized as taken_as_standardized
from .normalization import GroupNormalization as GroupNormalization
from .normalization import check_image_data_format as check_image_data_format
