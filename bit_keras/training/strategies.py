"""From a name to a tf.distribute strategy."""

import contextlib
import json
import os
import re
import socket
import sys
import time

import tensorflow as tf

from ..choices import STRATEGIES

_LAST_PORT = 65535
MEETING_SECONDS = 600.0  # for the slowest machine of a cluster to come up


class StrategyError(ValueError):
    """The requested strategy is not available here."""


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
        workers, index = _read_tf_config()
        meet_workers(workers, index)
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise StrategyError(
                f"workers must be connected before TensorFlow does anything else ({error}); call "
                'bit_keras.make_strategy("multiworker") first of all and pass what it returns.'
            ) from error
    if name == "tpu" or (name == "auto" and "TPU_NAME" in os.environ):
        return _tpu_strategy()
    gpus = tf.config.list_logical_devices("GPU")
    if name == "mirrored" or (name == "auto" and len(gpus) > 1):
        devices = gpus or tf.config.list_logical_devices("CPU")
        return tf.distribute.MirroredStrategy([device.name for device in devices])
    return tf.distribute.get_strategy()


def _read_tf_config() -> tuple[list[str], int]:
    """Returns (the addresses of all workers, the first being the leader's; this one's index).

    Raises StrategyError if `TF_CONFIG` does not list workers and say which one this is.
    """
    text = os.environ.get("TF_CONFIG", "")
    example = (
        '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    try:
        config = json.loads(text)
        task, index = config["task"]["type"], int(config["task"]["index"])
        chiefs, workers = config["cluster"].get("chief", []), config["cluster"]["worker"]
        before = {"chief": 0, "worker": len(chiefs)}[task]
        own = {"chief": chiefs, "worker": workers}[task][index]
        addresses = [*chiefs, *workers]
        ports = [int(re.fullmatch(r".+:([0-9]{1,5})", address)[1]) for address in addresses]
        good = index >= 0 and own and all(0 < port <= _LAST_PORT for port in ports)
    except (ValueError, LookupError, TypeError, AttributeError):
        good = False
    if not good:
        raise StrategyError(
            "the environment variable TF_CONFIG must list the workers, with ports of 1 to "
            f"{_LAST_PORT}, and say which one this is, as in {example}, got {text!r}."
        )
    return addresses, before + index


def meet_workers(addresses: list[str], index: int, seconds: float = MEETING_SECONDS) -> None:
    """Waits until all workers have connected to the first one, at its address.

    TensorFlow itself would wait for ever, without naming the missing worker. Raises StrategyError
    if some do not come in time.
    """
    host, port = addresses[0].rsplit(":", 1)
    limit = time.monotonic() + seconds
    if index == 0:
        _answer_workers(addresses, int(port), limit, seconds)
        return
    while time.monotonic() < limit:
        with contextlib.suppress(OSError), socket.create_connection((host, port), 5) as leader:
            leader.settimeout(max(1.0, limit - time.monotonic()))
            leader.sendall(f"{index}\n".encode())
            if leader.recv(1):  # all are there
                return
        time.sleep(0.2)
    raise StrategyError(
        f"worker {index} could not meet the others at {addresses[0]} within {seconds:g} s; start "
        "all workers, and let them reach that address."
    )


def _answer_workers(addresses, port, limit, seconds):
    """The first worker's part: answers the others when all of them have called."""
    missing = set(range(1, len(addresses)))
    with contextlib.ExitStack() as calls:
        try:
            server = calls.enter_context(socket.create_server(("", port)))
        except OSError as error:
            raise StrategyError(
                f"this worker's port {port} cannot be opened ({error}); end what holds it, or name "
                "another in every TF_CONFIG."
            ) from error
        callers = []
        while missing:
            names = ", ".join(f"{i} ({addresses[i]})" for i in sorted(missing))
            print(f"waiting for workers {names}", file=sys.stderr, flush=True)
            server.settimeout(max(0.01, limit - time.monotonic()))
            try:
                caller = calls.enter_context(server.accept()[0])
            except TimeoutError:
                raise StrategyError(
                    f"workers {names} did not come within {seconds:g} s; start them too, each with "
                    "its own index in TF_CONFIG."
                ) from None
            caller.settimeout(5)
            with contextlib.suppress(OSError, ValueError):
                missing.discard(int(caller.recv(16)))
                callers.append(caller)
        for caller in callers:
            with contextlib.suppress(OSError):
                caller.sendall(b"+")


def _tpu_strategy() -> tf.distribute.Strategy:
    """Connects to a TPU."""
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


def single_machine_strategy(strategy: str | tf.distribute.Strategy) -> tf.distribute.Strategy:
    """Returns the strategy of that name for a suite of many runs.

    Raises ValueError if it has several workers, of whom only the first knows which runs are done.
    """
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        raise ValueError(
            "a suite of runs takes the devices of one machine; choose another strategy than "
            "multiworker, or start one suite on each."
        )
    return strategy


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
    """Waits until every worker gets here; a worker that exits early would end the others."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        ones = strategy.run(tf.function(lambda: tf.ones(())))
        strategy.reduce(tf.distribute.ReduceOp.SUM, ones, axis=None).numpy()
