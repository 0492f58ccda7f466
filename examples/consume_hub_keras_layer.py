"""Fine-tunes an exported BiT in `hub.KerasLayer`, on scikit-learn's handwritten digits.

    pip install tensorflow tf-keras tensorflow-hub "setuptools<81" scikit-learn
    python consume_hub_keras_layer.py --model=served/1 --epochs=3

The new head sits on whatever the module answers: pooled features, or a classifier's logits.
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
    """1,797 digits as float32 RGB [N, 32, 32, 3] in [0, 1]: train and test images, both labels."""
    data = sklearn.datasets.load_digits()
    grey = tf.image.resize(data.images[..., np.newaxis] / 16, [32, 32])
    images = tf.image.grayscale_to_rgb(grey).numpy()
    return sklearn.model_selection.train_test_split(
        images, data.target, test_size=0.2, stratify=data.target, random_state=0
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="folder of the exported SavedModel")
    parser.add_argument("--epochs", type=int, default=1, help="passes of 45 steps of 32 images")
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
    module_variables = len(module.trainable_variables)
    print(f"training {module_variables} variables of the module and {len(head.variables)} of the head")

    _, before = model.evaluate(test_images, test_labels, verbose=0)
    weights = module.get_weights()
    model.fit(train_images, train_labels, batch_size=32, epochs=args.epochs, verbose=2)
    _, after = model.evaluate(test_images, test_labels, verbose=0)
    change = max(np.abs(new - old).max() for new, old in zip(module.get_weights(), weights, strict=True))
    print(f"accuracy before {before:.4f}, after {after:.4f}")
    print(f"largest change of a weight of the module: {change:.2g}")


if __name__ == "__main__":
    main()
