"""Packaging: `pip install .`, with extras for what only some need."""

import itertools
import pathlib

import setuptools

EXTRAS = {
    "detection": ["keras-cv", "pycocotools"],
    "glyphs": ["fonttools"],  # rebuilding the embedded model
    "interop": ["huggingface-hub", "safetensors"],
    "publishing": ["tensorflow-serving-api"],  # export/make_serving_model.py
    "runtimes": [
        "ai-edge-litert",
        "backports.strenum<1.3",  # for ai-edge-litert; later ones refuse Python above 3.10
        "onnx",
        "onnxruntime",
        "openvino",
        "tf2onnx",
    ],
}
EXTRAS["test"] = ["pytest", "pytest-xdist", "ruff", "selenium", *itertools.chain(*EXTRAS.values())]

setuptools.setup(
    name="bit-keras",
    version="0.1.0",
    description="Big Transfer (BiT) for Keras 3: load, fine-tune and export by one rule",
    long_description=pathlib.Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.14",
    packages=setuptools.find_packages(include=["bit_keras", "bit_keras.*"]),
    package_data={"bit_keras": ["weights/*", "exporting/page/*", "reporting/*.css"]},
    install_requires=[
        "absl-py",
        "importlib_resources",  # tensorflow-datasets 4.9.10 imports it and does not say so
        "keras>=3.12",
        "matplotlib",
        "numpy",
        "pillow",
        "scikit-learn",
        "scipy",
        "setuptools<81",  # tensorflow-hub 0.16.1 imports pkg_resources, which later ones dropped
        "tensorboard",
        "tensorflow>=2.21",
        "tensorflow-datasets",
        "tensorflow-hub",
        "tqdm",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "bit-finetune = bit_keras.cli.finetune:run",
            "bit-pretrain = bit_keras.cli.pretrain:run",
            "bit-evaluate = bit_keras.cli.evaluate:run",
            "bit-export = bit_keras.cli.export:run",
            "bit-predict = bit_keras.cli.predict:run",
        ]
    },
)
