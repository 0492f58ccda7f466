"""Promises about the package as a whole."""

import ast
import graphlib
import pathlib
import subprocess
import sys

import bit_keras

PACKAGE = pathlib.Path(bit_keras.__file__).parent
ROOT = PACKAGE.parent
TREES = {
    path: ast.parse(path.read_text())
    for folder in ("bit_keras", "tests", "examples", "export", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
}
# Public functions whose every parameter is a choice of the user (ARCHITECTURE.md).
MANY_PARAMETERS = {
    *("evaluate", "export", "few_shot_curve", "fine_tune", "plan", "predict_images", "pretrain"),
    *("run_vtab", "training_batches", "upstream_batches", "detection_batches"),
    "fine_tune_detector",
}
# What Keras calls; Keras itself leaves these without annotations.
KERAS_HOOKS = {"build", "call", "compute_output_shape", "get_config"}
OPTIONAL = {
    *("keras_cv", "matplotlib", "scipy", "tensorflow_datasets", "tensorflow_hub", "pycocotools"),
    *("safetensors", "huggingface_hub", "onnx", "tf2onnx", "onnxruntime", "openvino"),
    "ai_edge_litert",
}
# A room may import from lower floors only; rooms of one floor do not know each other.
FLOORS = (
    ("choices", "files", "layers", "metrics", "recipes"),
    ("checkpoints", "data", "training"),
    ("models",),
    ("exporting", "reporting"),
    ("classification", "detection"),
    ("__init__", "cli"),
)


def module_imports():
    """Pairs of modules, both as "training.loop", of which the first imports the second."""
    names = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in TREES
        if PACKAGE in path.parents
    }
    for name, path in names.items():
        package = name.split(".")[:-1]
        for node in ast.walk(TREES[path]):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = package[: len(package) - node.level + 1]
                base += node.module.split(".") if node.module else []
                for alias in node.names:
                    places = (".".join([*base, alias.name]), ".".join(base))
                    inits = (f"{place}.__init__".lstrip(".") for place in places)
                    yield name, next(p for p in (*places, *inits) if p in names)


IMPORTS = {*module_imports()}


def test_importing_bit_keras_loads_nothing_optional():
    # What TensorFlow loads by itself (scikit-learn, where it is installed) is not ours.
    code = f"""
import sys, tensorflow
before = set(sys.modules)
import bit_keras
bit_keras.load
print(sorted({OPTIONAL | {"sklearn"}} & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rooms_keep_to_their_floors():
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    unnamed = found - {*floor_of, "weights", "__pycache__"}
    assert not unnamed, f"add {unnamed} to FLOORS here and to ARCHITECTURE.md"
    arrows = {(a.split(".")[0], b.split(".")[0]) for a, b in IMPORTS}
    arrows = {(a, b) for a, b in arrows if a != b}
    assert ("models", "checkpoints") in arrows
    for a, b in arrows:
        assert floor_of[b] < floor_of[a], f"{a} imports {b}"
    assert len(FLOORS) <= 6
    assert len(arrows) <= 60


def test_no_module_imports_itself_by_way_of_others():
    graph = {}
    for a, b in IMPORTS:
        graph.setdefault(a, set()).add(b)
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_files_and_functions_are_short():
    for path, tree in TREES.items():
        number = len(path.read_text().splitlines())
        assert number <= 350, f"{path.relative_to(ROOT)} has {number} lines, more than 350"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                name = f"{path.relative_to(ROOT)}: {node.name}"
                body = node.body[1:] if ast.get_docstring(node) else node.body
                lines = node.end_lineno - body[0].lineno + 1 if body else 0
                assert lines <= 60, f"{name} has {lines} lines below its docstring"
                number = len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
                number -= bool(node.args.args) and node.args.args[0].arg == "self"
                assert number <= 8 or node.name in MANY_PARAMETERS, (
                    f"{name} has {number} parameters, more than 8"
                )


def test_public_functions_are_annotated_and_private_ones_underscored():
    used = {}  # by name, the files that read it
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Name | ast.Attribute | ast.alias):
                name = getattr(node, "id", None) or getattr(node, "attr", None) or node.name
                used.setdefault(name, set()).add(path)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                used.setdefault(node.value, set()).add(path)  # as monkeypatch takes names
    for path, tree in TREES.items():
        if PACKAGE not in path.parents:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(a.name for a in node.names)]
                absolute = any(name.split(".")[0] == "bit_keras" for name in names)
                assert not absolute, f"{path.relative_to(ROOT)}: import bit_keras relatively"
            if isinstance(node, ast.ImportFrom) and node.level:
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private, f"{path.relative_to(ROOT)} imports {private}"
        for owner, node in definitions(tree):
            where = f"{path.relative_to(ROOT)}: {node.name}"
            if node.name.startswith("__") or (owner and owner.name.startswith("_")):
                continue
            elsewhere = used.get(node.name, set()) - {path}
            if not owner and isinstance(node, ast.FunctionDef):
                assert elsewhere or node.name.startswith("_"), f"{where}: nobody else uses it"
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments += filter(None, (node.args.vararg, node.args.kwarg))
                missing = [a.arg for a in arguments if not (a.annotation or a.arg == "self")]
                missing = [name for name in missing if name not in ("cls",)]
                keras_hook = node.name in KERAS_HOOKS
                assert keras_hook or (not missing and node.returns), (
                    f"{where}: annotate {missing or 'return'}"
                )


def definitions(tree):
    """(the class or None, a function or class) of a module's own and of its classes' bodies."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield None, node
        if isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield node, inner


def test_everything_public_is_documented():
    for name in bit_keras.__all__:
        text = getattr(bit_keras, name).__doc__
        assert text, name
        assert not text.startswith(f"{name}("), f"{name} has only what a dataclass writes itself"
