"""Where labeled images come from: one module per source, each returning (train, test).

A new source is a module here with a function `from_...`, which `data/__init__.py` makes public; if
users name it on the command line, `by_name` must know it.
"""
