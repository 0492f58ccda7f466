"""Classifies image files with an exported BiT in tf_keras, before or after fine-tuning it.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81"
    python hub_keras_layer.py --model=served/1 --labels=labels.txt --size=224 cat.jpg
    python hub_keras_layer.py --model=served/1 --photos=pets --steps=100 --size=224 cat.jpg

The first prints each image's five likeliest classes. The second puts a new head on what the module
answers (features, or a classifier's logits), trains both on a folder of class folders, pets/cat/...
and pets/dog/..., and prints the images' classes then. --model may also be the URL of an archive.
"""

import argparse
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


def read_image(path, size):
    """Image file -> float32 RGB [size, size, 3] in [0, 1]."""
    try:
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    except tf.errors.OpError:
        fail(f"{path} cannot be read; expected a JPEG, PNG, BMP or GIF file.")
    return tf.image.resize(image, [size, size]) / 255


def print_classes(path, logits, labels):
    """Prints the five likeliest classes of one image; by number, if `labels` is None."""
    if labels and len(labels) != len(logits):
        fail(f"--labels has {len(labels)} names; expected {len(logits)}, one for each class.")
    probabilities = tf.nn.softmax(logits).numpy()
    print(path)
    for index in np.argsort(-probabilities)[:5]:
        print(f"  {probabilities[index]:.4f}  {labels[index] if labels else index}")


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
    parser.add_argument("--labels", help="text file of class names, one a line")
    parser.add_argument("--size", type=int, default=224, help="side in pixels to resize images to")
    parser.add_argument("--photos", help="folder of class folders to fine-tune on")
    parser.add_argument("--steps", type=int, default=100, help="of 32 photos each")
    parser.add_argument("--learning_rate", type=float, default=0.003)
    parser.add_argument("images", nargs="+", help="image files", metavar="IMAGE")
    args = parser.parse_args()

    tf_keras.utils.set_random_seed(0)
    labels = read_labels(args.labels) if args.labels else None
    images = tf.stack([read_image(path, args.size) for path in args.images])
    try:
        model = hub.KerasLayer(args.model, trainable=True)
    except (OSError, ValueError):
        fail(f"{args.model} cannot be loaded; expected the folder or the URL of a SavedModel.")
    if args.photos:
        model, labels = fine_tuned(model, args.photos, args.size, args.steps, args.learning_rate)
    elif "logits" not in model.resolved_object.signatures["serving_default"].structured_outputs:
        fail(f"{args.model} answers with features; give --photos to train a head on.")
    for path, logits in zip(args.images, model(images), strict=True):
        print_classes(path, logits, labels)


if __name__ == "__main__":
    main()
