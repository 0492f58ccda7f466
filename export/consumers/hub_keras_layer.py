"""Classifies image files with an exported BiT in tf_keras, before or after fine-tuning it.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81"
    python hub_keras_layer.py --model=served/1 cat.jpg
    python hub_keras_layer.py --model=served/1 --photos=pets --steps=100 cat.jpg

The first prints each image's five likeliest classes. The second puts a new head on what the module
answers (features, or a classifier's logits), trains both on a folder of class folders, pets/cat/...
and pets/dog/..., and prints the images' classes then. --model may also be the URL of an archive.
"""

import argparse
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras  # Keras 2, for which hub.KerasLayer is made; Keras 3 may be installed beside it


def fail(message):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def read_labels(path):
    try:
        return pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        fail(f"{path} cannot be read; expected a text file with one class name a line.")


def read_image(path, facts):
    """Image file -> float32 RGB [size, size, 3] in [0, 1], as the model's own test images were."""
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")
    size, short = facts["test_size"], facts.get("test_resize")
    if not short:
        return tf.image.resize(image, [size, size]) / 255
    least = min(image.shape[:2])
    height, width = ((side * short + least // 2) // least for side in image.shape[:2])
    top, left = (height - size) // 2, (width - size) // 2
    return tf.image.resize(image, [height, width])[top : top + size, left : left + size] / 255


def print_classes(path, logits, facts):
    """Prints the five likeliest classes of one image; by number, where the model has no names."""
    names = facts.get("class_names") or range(len(logits))
    if len(names) != len(logits):
        fail(f"--labels has {len(names)} names; expected {len(logits)}, one for each class.")
    logits = np.asarray(logits, "float64")
    if facts.get("loss") == "sigmoid":  # every class has a probability of its own
        probabilities = 1 / (1 + np.exp(-logits))
    else:
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
    print(path)
    for index in np.argsort(-probabilities, kind="stable")[:5]:
        print(f"  {probabilities[index]:.4f}  {names[index]}")


def read_facts(folder):
    """What the export says of its use, in a file beside the graph; nothing, if it has none."""
    path = pathlib.Path(folder, "assets.extra", "bit_keras.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def chosen(facts, args):
    """The model's own facts, or what the flags say in their place."""
    if args.labels:
        facts = {**facts, "class_names": read_labels(args.labels)}
    if args.size:
        facts = {**facts, "test_size": args.size, "test_resize": None}
    if not facts.get("test_size"):
        fail(f"{args.model} does not tell the size of its images; say --size.")
    return facts


def read_folder(folder, size):
    """Folder of class folders -> batches of images and labels for ever, and the classes' names."""
    try:
        photos = tf_keras.utils.image_dataset_from_directory(
            folder, image_size=(size, size), batch_size=32, seed=0
        )
    except (tf.errors.OpError, ValueError):
        fail(f"{folder} holds no images; expected a folder of class folders.")
    return photos.map(lambda images, labels: (images / 255, labels)).repeat(), photos.class_names


def fine_tuned(module, folder, size, steps, learning_rate):
    """Trains the module and a new head on top of it; returns the model and its classes' names."""
    batches, names = read_folder(folder, size)
    # A head of zeros learns before its gradients disturb the module.
    head = tf_keras.layers.Dense(len(names), kernel_initializer="zeros")
    model = tf_keras.Sequential([tf_keras.Input((None, None, 3)), module, head])
    model.compile(
        tf_keras.optimizers.SGD(learning_rate, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    print(f"trains {len(module.trainable_variables)} variables of the module and 2 of the new head")
    history = model.fit(batches, steps_per_epoch=steps, verbose=2).history
    print(f"accuracy {history['accuracy'][-1]:.4f} in training")
    return model, names


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder or URL of the SavedModel")
    parser.add_argument("--labels", help="text file of class names; by default the model's own")
    parser.add_argument("--size", type=int, help="side in pixels; by default the model's own")
    parser.add_argument("--photos", help="folder of class folders to fine-tune on")
    parser.add_argument("--steps", type=int, default=100, help="of 32 photos each")
    parser.add_argument("--learning_rate", type=float, default=0.003)
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    tf_keras.utils.set_random_seed(0)
    try:
        model, folder = hub.KerasLayer(args.model, trainable=True), hub.resolve(args.model)
    except (OSError, ValueError):
        fail(f"{args.model} cannot be loaded; expected the folder or the URL of a SavedModel.")
    facts = chosen(read_facts(folder), args)
    images = tf.stack([read_image(path, facts) for path in args.images])
    if args.photos:
        size = facts["test_size"]
        model, names = fine_tuned(model, args.photos, size, args.steps, args.learning_rate)
        facts = {**facts, "class_names": names, "loss": "softmax"}
    elif "logits" not in model.resolved_object.signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; give --photos to train a head on.")
    for path, logits in zip(args.images, model(images), strict=True):
        print_classes(path, logits, facts)


if __name__ == "__main__":
    main()
