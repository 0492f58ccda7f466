"""Loading a model of ours from a file. See `serving`. Settings: path."""

from serving import serve


def _start(_):
    import tensorflow as tf

    tf.zeros(1) + 1
    import bit_keras  # noqa: F401


def loading(settings: dict) -> object:
    """Returns a function that loads the model."""
    import bit_keras

    return lambda: bit_keras.load(settings["path"])


if __name__ == "__main__":
    serve(_start, loading, ("tensorflow", "keras"))
