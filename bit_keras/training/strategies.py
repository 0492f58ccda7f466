"""From a name to a tf.distribute strategy."""

import json
import os

import tensorflow as tf

STRATEGIES = ("auto", "single", "mirrored", "multiworker", "tpu")


class StrategyError(ValueError):
    """The strategy asked for cannot be had here."""


def make_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns the strategy to build and train a model under.

    Args:
        name: "single" is one device; "mirrored" all GPUs of this machine (or all logical CPUs);
            "multiworker" the machines that the environment variable `TF_CONFIG` lists; "tpu" the
            TPU that `TPU_NAME` names or that this machine is a host of; "auto" is "multiworker"
            where `TF_CONFIG` is set, else "tpu" where `TPU_NAME` is, else "mirrored" where there
            are several GPUs, else "single".

    Raises:
        StrategyError: If the name is unknown, or its machines cannot be read or reached.
    """
    if name not in STRATEGIES:
        raise StrategyError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}.")
    if name == "auto" and "TF_CONFIG" in os.environ:
        name = "multiworker"
    if name == "multiworker":  # before anything that makes TensorFlow look for its devices
        check_tf_config()
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise StrategyError(
                f"workers must be connected before TensorFlow does anything else ({error}); call "
                'bit_keras.make_strategy("multiworker") first of all and pass what it returns.'
            ) from error
    if name == "tpu" or (name == "auto" and "TPU_NAME" in os.environ):
        return tpu_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def check_tf_config() -> None:
    """Raises StrategyError if `TF_CONFIG` does not list workers and say which one this is."""
    text = os.environ.get("TF_CONFIG", "")
    example = (
        '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        index = config["task"]["index"]
        good = config["task"]["type"] in ("worker", "chief") and 0 <= index < len(workers)
    except (json.JSONDecodeError, KeyError, TypeError):
        good = False
    if not good:
        raise StrategyError(
            "the environment variable TF_CONFIG must list the workers and say which one this is, "
            f"as in {example}, got {text!r}."
        )


def tpu_strategy() -> tf.distribute.Strategy:
    """Connects to a TPU; everything that needs one is here."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(os.environ.get("TPU_NAME", ""))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise StrategyError(
            f"no TPU could be reached ({str(error).splitlines()[0]}); set TPU_NAME, or choose "
            "another strategy."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True for the one process that writes the run's folder."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not resolver:
        return True
    return resolver.task_type == "chief" or (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in resolver.cluster_spec().jobs
    )


def wait_for_all_workers(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has come here; one that leaves early would end the others."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        ones = strategy.run(tf.function(lambda: tf.ones(())))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None).numpy()
