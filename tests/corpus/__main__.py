"""Writes the corpus to a new folder: `PYTHONPATH=tests python -m corpus FOLDER`."""

import pathlib
import sys

from corpus.annotations import SETS
from corpus.folders import FOLDERS
from corpus.images import write_pictures
from corpus.models import write_weights

if len(sys.argv) != 2 or pathlib.Path(sys.argv[1]).exists():
    sys.exit("give the folder to write, which must not be there yet")
root = pathlib.Path(sys.argv[1])
pictures = write_pictures(root / "images")
(root / "folders").mkdir()
for name, folder in FOLDERS.items():
    folder.write(root / "folders" / name)
for name, annotated in SETS.items():
    place = root / "annotations" / name / "all"
    place.mkdir(parents=True)
    annotated.write(place)
weights = write_weights(root / "weights")
numbers = f"{len(pictures)} images, {len(FOLDERS)} folders, {len(SETS)} annotated sets"
print(f"{root}: {numbers} and {len(weights)} weight files")
