"""What the studies in this folder share: flags, parallel runs, tables, pre-training on glyphs."""

import concurrent.futures
import contextlib
import gc
import json
import multiprocessing
import os
import pathlib
import threading

import glyphs
import keras
import numpy as np
import tensorflow as tf
from absl import flags
from tqdm import tqdm

import bit_keras
from bit_keras import training
from bit_keras.files import replacing
from bit_keras.recipes.schedule import PiecewiseSchedule
from bit_keras.training.suite import Suite

VIEWS = 4_096  # augmented pictures of held-out glyphs to test on

# Flags that are defined here belong to the study that calls for them, also in its --help.
flags.disclaim_key_flags()


def define_flags(logdir, seeds):
    """Returns the flags --seeds, --processes and --logdir, which every study has."""
    return (
        flags.DEFINE_integer("seeds", seeds, "Fine-tunings with different seeds.", lower_bound=1),
        flags.DEFINE_integer("processes", 2, "Runs at a time.", lower_bound=1),
        flags.DEFINE_string("logdir", logdir, "The folder of the runs' folders."),
    )


def define_glyph_files():
    """Defines the flags --glyphs and --fonts of studies that pre-train on glyphs."""
    flags.DEFINE_string("glyphs", "runs/glyphs-glyphs.npz", "The glyphs, rendered if missing.")
    flags.DEFINE_multi_string("fonts", ["/usr/share/fonts"], "Folders to search for fonts.")


def define_glyph_flags():
    """Defines the flags of studies that pre-train on glyphs and fine-tune on digits."""
    define_glyph_files()
    flags.DEFINE_integer("batch", 64, "Images per step of pre-training.", lower_bound=1)
    flags.DEFINE_integer("shots", 10, "Digits per class to fine-tune on.", lower_bound=1)
    flags.DEFINE_integer("tuning_steps", 500, "Steps of fine-tuning.", lower_bound=1)
    flags.DEFINE_integer("tuning_batch", 32, "Images per step of fine-tuning.", lower_bound=1)


def run_jobs(study, jobs, processes):
    """Returns `{name: metrics}` of all jobs, after running those that `study` has no result of.

    Args:
        study: A `training.RunFolder` that may grow. Every job has a folder in it.
        jobs: `{name: (function, arguments)}`. `function(workdir, **arguments)` must be defined at
            the top of a module, where another process can find it, go on where it was interrupted,
            and end with a `metrics.json` in its workdir, as `fine_tune` does.
        processes: Jobs at a time. A small model and a small batch leave most of a machine idle: on
            two cores, at batches of 32, two processes of one thread each are faster than one
            process of two threads.
    """
    suite = Suite(study)
    missing = [part["run"] for part in suite.missing({"run": name} for name in jobs)]
    progress = tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="run", mininterval=0)
    results = _results(study.path, {name: jobs[name] for name in missing}, processes)
    with progress, contextlib.closing(results):
        for name, metrics in results:
            suite.record({"run": name}, **metrics)
            progress.update()
    found = {row["run"]: row for row in study.results()}
    return {name: found[name] for name in jobs}


def _results(folder, jobs, processes):
    """Yields (name, metrics) of jobs as they end."""
    if processes == 1 or len(jobs) < 2:
        for name, job in jobs.items():
            yield name, _metrics_of(folder / name, *job)
        return
    os.environ["TQDM_DISABLE"] = "1"  # in the new processes: one progress bar is enough
    with concurrent.futures.ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        _prepare_process,
        (max(1, os.cpu_count() // processes),),
    ) as pool:
        names = {pool.submit(_metrics_of, folder / name, *job): name for name, job in jobs.items()}
        try:
            for future in concurrent.futures.as_completed(names):
                yield names[future], future.result()
        except BaseException:  # also when the caller stops
            pool.shutdown(cancel_futures=True)
            raise


def _metrics_of(workdir, function, arguments):
    gc.collect()  # the model of the job before: it and its graphs refer to each other
    file = workdir / "metrics.json"
    if not file.exists():  # it exists if the study was stopped before the job was recorded
        function(workdir, **arguments)
    return json.loads(file.read_text())


def _prepare_process(threads):
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.get_logger().setLevel("ERROR")  # it warns of retracing where there are only many models
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def percentages(found, name, seeds, metric="accuracy"):
    """Returns a metric in % of the jobs `name-0`, `name-1`, ..., one for each seed."""
    return [100 * found[f"{name}-{seed}"][metric] for seed in range(seeds)]


def spread(values, form=".1f"):
    """[96.25, 97.75] -> "97.0 (96.2 to 97.8)": the mean, the least and the greatest."""
    if len(values) == 1:
        return f"{values[0]:{form}}"
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_table(header, rows):
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, cells))} |")


def glyph_config(units):
    """Returns the settings that define a study with glyphs, for its run folder."""
    settings = ("batch", "shots", "tuning_steps", "tuning_batch")
    return {
        "glyphs": pathlib.Path(flags.FLAGS.glyphs).stat().st_size,
        "units": units,
        **{name: flags.FLAGS[name].value for name in settings},
    }


def pretrain_and_transfer(study, upstream, seeds, processes):
    """Runs the jobs `upstream`, each a `pretrain`, then fine-tunes every model on digits.

    Returns:
        ({name: metrics of the pre-training}, {name: accuracies on digits in %, one per seed}).
    """
    pretrained = run_jobs(study, upstream, processes)
    arguments = {
        "shots": flags.FLAGS.shots,
        "steps": flags.FLAGS.tuning_steps,
        "batch": flags.FLAGS.tuning_batch,
    }
    downstream = {}
    for name in upstream:
        model = str(study.path / name / "model.keras")
        for seed in range(seeds):
            job = (transfer, {"model": model, "seed": seed, **arguments})
            downstream[f"{name}-to-digits-{seed}"] = job
    found = run_jobs(study, downstream, processes)
    return pretrained, {name: percentages(found, f"{name}-to-digits", seeds) for name in upstream}


def transfer(workdir, *, model, shots, seed, steps, batch):
    """Fine-tunes on `shots` digits per class, tests on all others, with a rule for 32 pixels."""
    train, test = bit_keras.data.digits(shots, seed=seed)
    rule = bit_keras.HyperRule.release(len(train), train.image_size).with_steps(steps)
    bit_keras.fine_tune(
        model,
        train,
        test,
        workdir=workdir,
        rule=rule.replace(batch=batch, resize=36, crop=32),
        seed=seed,
        batch_split=1,
        export=False,
    )


def render_glyphs(file, fonts):
    """Renders the glyphs of the fonts below folders, unless the file exists."""
    file = pathlib.Path(file)
    if not file.exists():
        coverage = glyphs.read_coverage(glyphs.find_fonts(fonts))
        images, labels, names = glyphs.render(coverage, glyphs.choose_characters(coverage))
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, suffix=".npz") as temporary:
            np.savez(temporary, images=images, labels=labels, class_names=np.array(names))


def read_glyphs(file, num_classes=None):
    """Returns uint8 images and labels of the first classes in a fixed random order; all if None."""
    with np.load(file) as arrays:
        images, labels, total = arrays["images"], arrays["labels"], len(arrays["class_names"])
    place = np.random.default_rng(0).permutation(total)[labels]
    chosen = place < (total if num_classes is None else num_classes)
    return images[chosen], place[chosen].astype(np.int32)


def upstream_schedule(base_lr, steps):
    """Returns a warm-up of a twentieth of the steps, and decays after 50, 70 and 90 % of them."""
    decays = (steps * 5 // 10, steps * 7 // 10, steps * 9 // 10)
    return PiecewiseSchedule.decaying_after(base_lr, steps // 20, decays)


def accuracy(predict, batches):
    """Returns the accuracy of a function from images to logits on batches of one size."""
    right = [tf.argmax(predict(x), axis=1) == tf.argmax(y, axis=1) for x, y in batches]
    return float(tf.reduce_mean(tf.cast(right, tf.float32)))


def pretrain(workdir, *, file, num_classes, architecture, steps, batch):
    """Pre-trains a ResNet-v2 on glyphs at 32 pixels, by the recipe of `pretrain_glyphs.py`.

    Writes `model.keras`, and to `metrics.json` the accuracy on one glyph in twenty, held out.

    Args:
        workdir: The run's folder.
        file: The glyphs, as `render_glyphs` writes them.
        num_classes: Characters to train on; None for all.
        architecture: `units`, `width` and, unless they are BiT's, `norm` and `conv` of `ResNetV2`.
        steps, batch: The length of training, and images per step.
    """
    architecture = {"norm": "group", "conv": "standardized", **architecture}
    images, labels = read_glyphs(file, num_classes)
    num_classes = int(labels.max()) + 1
    order = np.random.default_rng(0).permutation(len(images))
    train, held_out = np.split(order, [len(images) * 19 // 20])

    def batches(indices, start_step):
        return glyphs.glyph_batches(
            images[indices],
            labels[indices],
            num_classes=num_classes,
            batch=batch,
            seed=0,
            start_step=start_step,
        )

    keras.utils.set_random_seed(0)
    options = {key: architecture[key] for key in ("width", "norm", "conv")}
    model = bit_keras.ResNetV2(architecture["units"], num_classes=num_classes, **options)
    config = {"glyphs": len(images), "classes": num_classes, "steps": steps, "batch": batch}
    schedule = upstream_schedule(0.1 * batch / 128, steps)
    with training.RunFolder(workdir, {**config, **architecture}) as run:
        objective = training.Objective(
            model=model,
            batches=lambda step, _: batches(train, step),
            batch=batch,
            loss=training.LOSSES["softmax"],
            weight_decay=1e-4,
        )
        training.train(objective, keras.optimizers.SGD(schedule, momentum=0.9), run, steps=steps)
        predict = tf.function(lambda x: model(x, training=False))
        tested = accuracy(predict, batches(held_out, 0).take(-(-VIEWS // batch)))
        model.save(run.path / "model.keras")
        run.finish({"accuracy": tested, "glyphs": len(images), "steps": steps})
