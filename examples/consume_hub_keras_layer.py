"""Fine-tunes an exported BiT in `hub.KerasLayer`, on scikit-learn's handwritten digits.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81" scikit-learn
    python consume_hub_keras_layer.py --model=served/1 --epochs=3

The new head sits on whatever the module answers: features, or a classifier's logits.
"""

import argparse
import sys

import numpy as np
import sklearn.datasets
import sklearn.model_selection
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras  # Keras 2, for which hub.KerasLayer is made; Keras 3 may be installed beside it


def digits():
    """Training and test images, float32 RGB [N, 32, 32, 3] in [0, 1], then labels of both."""
    data = sklearn.datasets.load_digits()
    grey = tf.image.resize(data.images[..., np.newaxis] / 16, [32, 32])
    images = tf.image.grayscale_to_rgb(grey).numpy()
    return sklearn.model_selection.train_test_split(
        images, data.target, test_size=0.2, stratify=data.target, random_state=0
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the exported SavedModel")
    parser.add_argument("--epochs", type=int, default=1, help="of 45 steps each")
    parser.add_argument("--learning_rate", type=float, default=0.003)
    args = parser.parse_args()
    if not tf.saved_model.contains_saved_model(args.model):
        print(f"error: {args.model} is not a folder with a saved_model.pb.", file=sys.stderr)
        sys.exit(2)

    tf_keras.utils.set_random_seed(0)
    train_images, test_images, train_labels, test_labels = digits()
    module = hub.KerasLayer(args.model, trainable=True)
    head = tf_keras.layers.Dense(10, kernel_initializer="zeros")
    model = tf_keras.Sequential([tf_keras.Input((None, None, 3)), module, head])
    model.compile(
        tf_keras.optimizers.SGD(args.learning_rate, momentum=0.9),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    of_module, of_head = len(module.trainable_variables), len(head.trainable_variables)
    print(f"trains {of_module} variables of the module and {of_head} of the new head")
    _, before = model.evaluate(test_images, test_labels, verbose=0)
    old_weights = module.get_weights()
    model.fit(train_images, train_labels, batch_size=32, epochs=args.epochs, verbose=2)
    pairs = zip(old_weights, module.get_weights(), strict=True)
    changed = sum(not np.array_equal(old, new) for old, new in pairs)
    _, after = model.evaluate(test_images, test_labels, verbose=0)
    print(f"changed {changed} variables of the module")
    print(f"accuracy {before:.4f} before, {after:.4f} after")


if __name__ == "__main__":
    main()
