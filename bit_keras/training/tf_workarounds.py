"""What works around faults of TensorFlow, and all that uses its private names.

Where a private name is missing in another release, the workaround warns and does nothing, or an
error says so where nothing else would do.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence

import tensorflow as tf


@contextlib.contextmanager
def released_gradients() -> Iterator[None]:
    """Unregisters the custom gradients that are made inside; none may be used afterwards.

    TensorFlow 2.21 keeps them for ever. Every optimizer and every layer's fast path registers some,
    which refer to the graph of a step, and through that to all weights and their momenta.
    """
    try:
        from tensorflow.python.framework.ops import gradient_registry

        registry = gradient_registry._registry
        before = set(registry)
    except (ImportError, AttributeError, TypeError) as error:
        logging.getLogger(__name__).warning(
            "the memory of a training is not freed at its end (%s in this TensorFlow)", error
        )
        registry, before = {}, set()
    try:
        yield
    finally:
        for name in set(registry) - before:
            if name.startswith("CustomGradient-"):
                del registry[name]


@contextlib.contextmanager
def no_shared_sums() -> Iterator[None]:
    """Turns off the graph optimization by which sums share memory.

    It fails in loops within loops: TensorFlow 2.21 then finds a temporary variable of an earlier
    step (AlreadyExistsError).
    """
    with _optimizer_options(arithmetic_optimization=False):
        yield


@contextlib.contextmanager
def no_graph_optimization() -> Iterator[None]:
    """Runs graphs as they are: for one that is run once, optimizing it takes most of the time."""
    with _optimizer_options(disable_meta_optimizer=True):
        yield


@contextlib.contextmanager
def _optimizer_options(**options):
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options(options)
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options(
            {"arithmetic_optimization": True, "disable_meta_optimizer": False, **before}
        )


def gpu_memory() -> float:
    """Returns the bytes that TensorFlow may use of the smallest GPU; infinite if it cannot tell."""
    try:
        from tensorflow.python.client import device_lib  # there is no public way

        limits = [d.memory_limit for d in device_lib.list_local_devices() if d.device_type == "GPU"]
        return min(limits, default=float("inf"))
    except (ImportError, AttributeError) as error:
        logging.getLogger(__name__).warning(
            "the memory of GPUs is not known (%s in this TensorFlow), so batches are not split",
            error,
        )
        return float("inf")


def quantized_with_integers(calibrated: bytes, float_ops: Sequence[str]) -> bytes:
    """Quantizes a LiteRT model that a `QuantizationDebugger` calibrated, with integers at its ends.

    Only the debugger lets one choose which ops are quantized, and it ignores the types that its
    converter should give to inputs and outputs.

    Args:
        calibrated: The `calibrated_model` of the debugger.
        float_ops: Names of the ops that stay float32.

    Returns:
        The model: uint8 inputs, int8 outputs.

    Raises:
        RuntimeError: If this TensorFlow lacks the private name that does it.
    """
    try:
        from tensorflow.lite.python.convert import mlir_quantize
    except ImportError as error:
        raise RuntimeError(f"this TensorFlow gives no integers to inputs ({error})") from error
    return mlir_quantize(
        calibrated,
        input_data_type=tf.uint8,
        output_data_type=tf.int8,
        denylisted_ops=[*float_ops],
    )
