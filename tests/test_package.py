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
# A room may import from lower floors only; rooms of one floor do not know each other.
FLOORS = (
    ("files", "layers", "metrics", "recipes"),
    ("checkpoints", "data", "training"),
    ("models",),
    ("exporting", "reporting"),
    ("classification",),
    ("__init__", "cli"),
)


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
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    assert {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")} <= {
        *floor_of,
        "weights",
        "__pycache__",
    }
    arrows = set()
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).with_suffix("").parts[0]
        depth = len(path.relative_to(PACKAGE).parts) - 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level > depth:
                names = [node.module] if node.module else [alias.name for alias in node.names]
                arrows |= {(room, name.split(".")[0]) for name in names}
    assert ("models", "checkpoints") in arrows
    for a, b in arrows:
        assert floor_of[b] < floor_of[a], f"{a} imports {b}"
    assert len(arrows) <= 60


def test_everything_public_is_documented():
    for name in bit_keras.__all__:
        text = getattr(bit_keras, name).__doc__
        assert text, name
        assert not text.startswith(f"{name}("), f"{name} has only what a dataclass writes itself"
