"""Imports of single rooms: without `bit_keras/__init__.py`, which imports TensorFlow."""

import importlib.util

_FOLDER = list(importlib.util.find_spec("bit_keras").submodule_search_locations)

# A first line for programs of tests that start at once.
LIGHT = (
    "import sys, types; sys.modules['bit_keras'] = types.ModuleType('bit_keras'); "
    f"sys.modules['bit_keras'].__path__ = {_FOLDER!r}"
)
