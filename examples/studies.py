"""What the studies of this folder share: runs side by side, a table, and pre-training on glyphs."""

import concurrent.futures
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
from tqdm import tqdm

import bit_keras
from bit_keras import training
from bit_keras.recipes.schedule import PiecewiseSchedule

VIEWS = 4_096  # augmented pictures of held-out glyphs to test on


def conduct(study, jobs, processes):
    """Returns `{name: metrics}` of all jobs, having done those that `study` has no result of.

    Args:
        study: A `training.RunFolder` that may grow. Every job has a folder in it.
        jobs: `{name: (function, arguments)}`; `function(workdir, **arguments)` is a module's own
            (another process must find it), goes on where it was interrupted, and ends with a
            `metrics.json` in its workdir, as `fine_tune` does.
        processes: Jobs at a time. A small model and a small batch leave most of a machine idle: on
            two cores, at batches of 32, two processes of one thread each get more done than one of
            two.
    """
    found = {row["run"]: row for row in study.results()}
    missing = {name: job for name, job in jobs.items() if name not in found}
    progress = tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="run", mininterval=0)

    def note(name, metrics):
        study.record(run=name, **metrics)
        found[name] = metrics
        progress.update()
        gc.collect()  # a model and its graphs refer to each other

    with progress:
        if processes == 1 or len(missing) < 2:
            for name, job in missing.items():
                note(name, metrics_of(study.path / name, *job))
        else:
            os.environ["TQDM_DISABLE"] = "1"  # in the processes to come: one bar is enough
            with concurrent.futures.ProcessPoolExecutor(
                processes,
                multiprocessing.get_context("spawn"),
                prepare_process,
                (max(1, os.cpu_count() // processes),),
            ) as pool:
                names = {
                    pool.submit(metrics_of, study.path / name, *job): name
                    for name, job in missing.items()
                }
                try:
                    for future in concurrent.futures.as_completed(names):
                        note(names[future], future.result())
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
    return {name: found[name] for name in jobs}


def metrics_of(workdir, function, arguments):
    file = workdir / "metrics.json"
    if not file.exists():  # or an earlier call was stopped between this and its record
        function(workdir, **arguments)
    return json.loads(file.read_text())


def prepare_process(threads):
    tf.config.threading.set_inter_op_parallelism_threads(1)  # as `application.run` does
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.get_logger().setLevel("ERROR")  # many models in one process look to it like one traced anew
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent():
    multiprocessing.parent_process().join()
    os._exit(1)


def spread(values, form=".1f"):
    """[96.25, 97.75] -> "97.0 (96.2 to 97.8)": the mean, and the least to the most."""
    return f"{np.mean(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_table(header, rows):
    for cells in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(map(str, cells))} |")


def transfer(workdir, *, model, shots, seed, steps, batch):
    """Fine-tunes on `shots` digits a class, tested on all the others, at the scale of BiT-XS."""
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
    """Renders the glyphs of the fonts below folders, unless the file is there already."""
    file = pathlib.Path(file)
    if not file.exists():
        coverage = glyphs.read_coverage(glyphs.find_fonts(fonts))
        images, labels, names = glyphs.render(coverage, glyphs.choose_characters(coverage))
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = file.with_suffix(".tmp.npz")
        np.savez(whole, images=images, labels=labels, class_names=np.array(names))
        whole.rename(file)


def read_glyphs(file, num_classes=None):
    """Returns uint8 images and labels of the first classes of one fixed order; of all, if None."""
    with np.load(file) as arrays:
        images, labels, total = arrays["images"], arrays["labels"], len(arrays["class_names"])
    place = np.random.default_rng(0).permutation(total)[labels]
    chosen = place < (total if num_classes is None else num_classes)
    return images[chosen], place[chosen].astype(np.int32)


def pretrain(
    workdir, *, file, num_classes, units, width, steps, batch, norm="group", conv="standardized"
):
    """Pre-trains a ResNet-v2 on glyphs at 32 pixels, by the recipe of `pretrain_glyphs.py`.

    Leaves `model.keras`, and in `metrics.json` the accuracy on one glyph in twenty, held out.
    """
    images, labels = read_glyphs(file, num_classes)
    num_classes = int(labels.max()) + 1
    train, held_out = np.split(
        np.random.default_rng(0).permutation(len(images)), [len(images) * 19 // 20]
    )

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
    model = bit_keras.ResNetV2(units, width, num_classes, norm=norm, conv=conv)
    config = {"glyphs": len(images), "classes": num_classes, "units": units, "width": width}
    config |= {"steps": steps, "batch": batch, "norm": norm, "conv": conv}
    schedule = PiecewiseSchedule.decaying_after(
        0.1 * batch / 128, steps // 20, (steps * 5 // 10, steps * 7 // 10, steps * 9 // 10)
    )
    with training.RunFolder(workdir, config) as run:
        training.train(
            model,
            lambda step, _: batches(train, step),
            batch=batch,
            loss=lambda y, logits: tf.nn.softmax_cross_entropy_with_logits(y, logits),
            optimizer=keras.optimizers.SGD(schedule, momentum=0.9),
            steps=steps,
            run=run,
            weight_decay=1e-4,
        )
        predict = tf.function(lambda x: model(x, training=False))
        right = [
            tf.argmax(predict(x), axis=1) == tf.argmax(y, axis=1)
            for x, y in batches(held_out, 0).take(-(-VIEWS // batch))
        ]
        model.save(run.path / "model.keras")
        accuracy = float(tf.reduce_mean(tf.cast(right, tf.float32)))
        run.finish({"accuracy": accuracy, "glyphs": len(images), "steps": steps})
