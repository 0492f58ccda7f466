"""The weights of a TF2 SavedModel, read as data: its graph is neither loaded nor run."""

import os
import pathlib
import re

import numpy as np

from .checkpoint import Checkpoint, canonical, damage_as_error
from .matching import CheckpointError

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What training saves beside a model's own variables, and the second list of the same variables that
# Keras 3's export makes, by the attributes that hold them.
_NOT_THE_MODEL = re.compile(
    r"(save_counter|optimizer|keras_api|_all_variables)/|.*/\.OPTIMIZER_SLOT/"
)


def open_saved_model(path: str | os.PathLike) -> Checkpoint:
    """Opens a TF2 SavedModel whose variables have canonical names, with or without `resnet/`.

    Reads the names that its variables had in Python, but no array. Raises CheckpointError if the
    folder is damaged or older than TF2, or holds no variables, or two with the same canonical name.
    """
    import tensorflow as tf
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    path = pathlib.Path(path)
    if set("*?[]") & set(str(path)):
        raise CheckpointError(
            f"{path} cannot be read, because TensorFlow expands * ? [ ]: move it to another path"
        )
    frozen = CheckpointError(
        f"{path} holds no variables, as a frozen model's weights are constants of its graph: "
        "give the SavedModel that it was frozen from"
    )
    if not (path / "variables/variables.index").is_file():
        raise frozen
    with damage_as_error(path):
        reader = tf.train.load_checkpoint(os.fspath(path / "variables/variables"))
        shape_of = reader.get_variable_to_shape_map()
        dtype_of = reader.get_variable_to_dtype_map()
        if _GRAPH not in shape_of:
            raise CheckpointError(f"{path} was saved by TensorFlow 1: save it by TensorFlow 2")
        graph = TrackableObjectGraph.FromString(reader.get_tensor(_GRAPH))
    keys, shapes = {}, {}
    for node in graph.nodes:
        for attribute in node.attributes:
            key = attribute.checkpoint_key
            if _NOT_THE_MODEL.match(key) or not attribute.full_name:
                continue
            name = canonical(attribute.full_name)
            if name in keys:
                raise CheckpointError(
                    f"{path} holds two variables for {name}, {keys[name]} and {key}: expected one, "
                    "so save the model alone"
                )
            keys[name], shapes[name] = key, tuple(shape_of[key])
    if not keys:
        raise frozen

    def read(name):
        with damage_as_error(path):
            array = reader.get_tensor(keys[name])
        if not dtype_of[keys[name]].is_floating:
            raise CheckpointError(
                f"{name} in {path} has dtype {array.dtype}: expected a float, so convert it before "
                "saving"
            )
        return array.astype(np.float32, copy=False)

    return Checkpoint(shapes, read, path)
