"""Broken, odd and hostile files, and what each must lead to.

Every module has tables of what it writes, with what must be read from it or what the refusal says.
The tests go over the tables. `PYTHONPATH=tests python -m corpus FOLDER` writes all of them.
"""
