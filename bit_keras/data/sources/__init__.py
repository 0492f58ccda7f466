"""Where labeled or boxed images come from: one module per source, each returning (train, test).

A new source is a module here with a function `from_...`, which `data/__init__.py` makes public; if
users name it on the command line, `by_name` or `boxes_by_name` must know it. `annotations` makes
boxed images of what files of any format say.
"""
