"""Promises about the package as a whole."""

import ast
import pathlib
import subprocess
import sys

import bit_keras

PACKAGE = pathlib.Path(bit_keras.__file__).parent
OPTIONAL = {
    *("keras_cv", "matplotlib", "scipy", "tensorflow_datasets", "tensorflow_hub", "pycocotools"),
    *("safetensors", "huggingface_hub", "onnx", "tf2onnx", "onnxruntime", "openvino"),
    "ai_edge_litert",
}
# A room may import from lower floors only; rooms of one floor do not know each other, except that
# verbs may call verbs (ARCHITECTURE.md).
FLOORS = {
    **dict.fromkeys(("layers", "hyperrule", "recipes", "checkpoints", "data", "training"), 0),
    **dict.fromkeys(("files", "probe", "scoring"), 0),
    "resnet_v2": 1,
    "zoo": 2,
    "wordnet": 2,
    "cli": 4,
    **dict.fromkeys(("evaluation", "exporting", "predicting", "reporting", "runs"), 3),
    **dict.fromkeys(("fine_tuning", "pretraining", "distillation", "few_shot", "vtab_suite"), 3),
}


def test_importing_bit_keras_loads_nothing_optional():
    # What TensorFlow loads by itself (scikit-learn, where it is installed) is not ours.
    code = f"""
import sys, tensorflow
before = set(sys.modules)
import bit_keras
print(sorted({OPTIONAL | {"sklearn"}} & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rooms_keep_to_their_floors():
    arrows = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        depth = len(path.relative_to(PACKAGE).parts) - 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level > depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                arrows |= {(room, name.split(".")[0]) for name in names}
    arrows = {(a, b) for a, b in arrows if a != "__init__"}
    assert ("zoo", "checkpoints") in arrows
    for a, b in arrows:
        assert FLOORS[b] < FLOORS[a] or FLOORS[a] == FLOORS[b] == 3, f"{a} imports {b}"


def test_everything_public_is_documented():
    for name in bit_keras.__all__:
        text = getattr(bit_keras, name).__doc__
        assert text, name
        assert not text.startswith(f"{name}("), f"{name} has only what a dataclass writes itself"
