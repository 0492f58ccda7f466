import setuptools

setuptools.setup()  # all metadata is in pyproject.toml
