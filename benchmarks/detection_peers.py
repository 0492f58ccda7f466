"""Our RetinaNet beside KerasHub's on the same BiT body: AP, speed, losses and targets.

    pip install keras-hub==0.32.0  # Python 3.11 or later
    python benchmarks/detection_peers.py

Three are trained on drawn scenes, in turn on the same batches: ours, KerasHub's as it comes, and
KerasHub's given ours: first weights, targets and focal loss. Then it gets the trained weights, and
the losses of both are compared, setting by setting. docs/detection_peers.md tells the results.
"""

import functools
import time

import keras
import keras_hub
import numpy as np
import tensorflow as tf
from absl import app, flags
from keras_hub.layers import AnchorGenerator
from keras_hub.src.models.retinanet import retinanet_backbone, retinanet_object_detector
from keras_hub.src.models.retinanet.retinanet_label_encoder import RetinaNetLabelEncoder

import bit_keras
from bit_keras import data
from bit_keras.detection.anchors import LEVELS, anchors_of, default_anchor_sizes, places
from bit_keras.detection.answers import Evaluation, sentence
from bit_keras.detection.decoding import detections
from bit_keras.detection.kerascv import pairwise_iou
from bit_keras.detection.losses import LOSS_PARTS, detection_loss
from bit_keras.detection.targets import detection_targets
from bit_keras.layers import GroupNormalization
from bit_keras.models.resnet_v2 import pyramid
from bit_keras.training import Objective
from bit_keras.training.step import TrainStep

CHANNELS = flags.DEFINE_integer("channels", 64, "Channels of the pyramids and the heads.")
STEPS = flags.DEFINE_integer("steps", 300, "Steps to train.", lower_bound=2)
NAME, CLASSES, BATCH, SIZE, RATE, CLIP = "BiT-XS-R26x0.25", 14, 16, 128, 0.02, 10.0
ANCHOR_SIZES = default_anchor_sizes(SIZE)
UNITS = (0.1, 0.1, 0.2, 0.2)  # of our box outputs
label_encoder = functools.partial(
    RetinaNetLabelEncoder, bounding_box_format="xyxy", encoding_format="center_xywh"
)
our_targets = tf.function(functools.partial(detection_targets, anchor_sizes=ANCHOR_SIZES))


class OurAnchors(AnchorGenerator):
    """Our anchors in place of KerasHub's."""

    def call(self, inputs):
        anchors = reordered(anchors_of(SIZE, SIZE, ANCHOR_SIZES)[tf.newaxis])[0]
        return dict(zip(LEVELS, tf.split(anchors, places(SIZE, SIZE)), strict=True))


class OurTargets(keras.layers.Layer):
    """Our targets in place of KerasHub's label encoder."""

    bounding_box_format = "xyxy"

    def call(self, images, gt_boxes, gt_classes):
        targets = our_targets(images, {"boxes": gt_boxes, "classes": gt_classes})
        return reordered(targets["boxes"]), reordered(tf.cast(targets["classes"], tf.float32))


def reordered(x):
    """Anchors `[batch, A, ...]` of our order in KerasHub's, or the other way round.

    Ours are ordered by place, scale and aspect ratio, KerasHub's by place, aspect ratio and scale.
    """
    order = np.arange(x.shape[1]).reshape(-1, 3, 3).transpose(0, 2, 1).ravel()
    return tf.gather(x, order, axis=1)


def anchors(own=AnchorGenerator):
    """KerasHub's anchors, of our sizes; it takes aspect ratios as height to width."""
    return own("xyxy", 3, 7, num_scales=3, aspect_ratios=[2.0, 1.0, 0.5], anchor_size=2.0)


def set_channels(n):
    """Gives KerasHub's layers n channels; its detector has 256 and no argument for them."""
    head, neck = retinanet_object_detector.PredictionHead, retinanet_backbone.FeaturePyramid
    retinanet_object_detector.PredictionHead = lambda **own: head(**{**own, "num_filters": n})
    retinanet_backbone.FeaturePyramid = functools.partial(neck, num_filters=n)


def peer_of(ours):
    """KerasHub's detector on a body of the weights of ours; pyramid and heads are its own."""
    body = pyramid(bit_keras.load(NAME, num_classes=0), LEVELS[:3])
    maps = {}
    for level, norm in ours.get_layer("feature_pyramid").norms.items():
        own = GroupNormalization(norm.groups, name=f"{level}_norm")
        maps[level] = keras.ops.relu(own(body.output[level]))
        own.set_weights(norm.get_weights())
    encoder = keras.Model(body.input, maps)
    encoder.pyramid_outputs = maps
    backbone = keras_hub.models.RetinaNetBackbone(encoder, 3, 7, True, image_shape=(SIZE, SIZE, 3))
    nms = keras_hub.layers.NonMaxSuppression("xyxy", from_logits=True, confidence_threshold=0.05)
    options = {"anchor_generator": anchors(), "label_encoder": label_encoder(anchors())}
    options |= {"use_prediction_head_norm": True, "prediction_decoder": nms}
    return keras_hub.models.RetinaNetObjectDetector(backbone, CLASSES, "xyxy", **options)


def carry_over(ours, peer):
    """Gives KerasHub's detector all weights of ours, and the epsilon of its normalizations."""
    encoder, fpn = peer.backbone.image_encoder, peer.backbone.feature_pyramid
    neck = ours.get_layer("feature_pyramid")
    blocks = [layer for layer in encoder.layers if layer.name.startswith(("root", "block"))]
    pairs = [(ours.get_layer(block.name), block) for block in blocks]
    pairs += [(norm, encoder.get_layer(f"{k}_norm")) for k, norm in neck.norms.items()]
    pairs += [(conv, fpn.lateral_conv_layers[k]) for k, conv in neck.laterals.items()]
    pairs += [(conv, fpn.output_conv_layers[k]) for k, conv in neck.convs.items()]
    for name, head in (("class_head", peer.classification_head), ("box_head", peer.box_head)):
        own = ours.get_layer(name)
        pairs += zip(own.convs + own.norms, head.conv_layers + head.group_norm_layers, strict=True)
        for norm in head.group_norm_layers:
            norm.epsilon = own.norms[0].epsilon
        last = [x.reshape(*x.shape[:-1], 3, 3, -1) for x in own.last.get_weights()]
        last = [x.swapaxes(-3, -2).reshape(*x.shape[:-3], -1) for x in last]  # as `reordered`
        head.prediction_layer.set_weights(last)
    for own, other in pairs:
        other.set_weights(own.get_weights())


def compiled(peer, our_focal_loss):
    """Compiles it with its own losses, or with ours for the classes."""
    options = {"apply_class_balancing": True, "from_logits": True, "reduction": "sum"}
    focal = keras.losses.BinaryFocalCrossentropy(**options)
    weights = {"bbox_regression": 1.0, "cls_logits": float(CLASSES)}  # for Keras's mean
    options = {"classification_loss": focal, "loss_weights": weights} if our_focal_loss else {}
    peer.compile(keras.optimizers.SGD(RATE, momentum=0.9, global_clipnorm=CLIP), **options)
    peer.make_train_function()


def with_peer_labels(images, labels):
    return images, {"boxes": labels["boxes"], "labels": labels["classes"]}


def train(ours, peers, batches):
    """Trains all in turn on the same batches; returns each one's seconds a step, the median."""
    loss = {"loss": detection_loss, "parts": LOSS_PARTS, "targets": our_targets, "clip_norm": CLIP}
    objective = Objective(model=ours, batches=lambda *_: batches(), batch=BATCH, **loss)
    sgd, strategy = keras.optimizers.SGD(RATE, momentum=0.9), tf.distribute.get_strategy()
    own = TrainStep(objective, sgd, strategy)
    steps = [lambda iterator: own.run(iterator, tf.constant(1), tf.constant(0.0))]
    steps += [peer.train_function for peer in peers]  # what `fit` calls
    iterators = [iter(batches()), *(iter(batches().map(with_peer_labels)) for _ in peers)]
    seconds = []
    for _ in range(STEPS.value):
        times = [time.perf_counter()]
        for step, iterator in zip(steps, iterators, strict=True):
            step(iterator)
            times.append(time.perf_counter())
        seconds.append(np.diff(times))
    return np.median(seconds[1:], axis=0)  # the first traces


def ap(test, boxes, scores, classes):
    """The scores of answers `[N, D, ...]` as text."""
    boxes, scores, classes = np.clip(boxes, 0, SIZE), np.array(scores), np.array(classes)
    found = []
    for i, kept in enumerate((classes >= 0) & np.all(boxes[..., 2:] > boxes[..., :2], axis=2)):
        found += [{"boxes": boxes[i, kept], "scores": scores[i, kept], "classes": classes[i, kept]}]
    return sentence(Evaluation(test, found).metrics)


def in_sides(outputs):
    """Outputs of our weights in KerasHub's units of boxes, one side of an anchor."""
    return {**outputs, "bbox_regression": outputs["bbox_regression"] * UNITS}


def peer_ap(test, peer, images, outputs):
    found = peer.decode_predictions(outputs, images)
    return ap(test, found["boxes"], found["confidence"], found["labels"])


def compare_losses(ours, peer, images, labels):
    """Prints the losses of one batch, from ours to KerasHub's by one setting after another."""
    outputs, own, targets = peer(images), ours(images), our_targets(images, labels)
    names = (("classes", "cls_logits"), ("boxes", "bbox_regression"))
    gap = max(np.abs(reordered(own[a]) - outputs[b]).max() for a, b in names)
    print(f"largest difference of outputs: {gap:.1e}")
    number = tf.maximum(tf.reduce_sum(tf.cast(targets["classes"] >= 0, tf.float32), 1), 1)
    parts = [detection_loss(targets, own)[name] for name in LOSS_PARTS]
    print("| ours | {:.6f} | {:.6f} |".format(*map(np.mean, parts)))
    parts = [np.sum(part * number) / np.sum(number) for part in parts]
    print("| ours, divided by the batch's positives | {:.6f} | {:.6f} |".format(*parts))
    on_ours, on_theirs = anchors(OurAnchors), anchors()
    for name, encoder, focal, given in (
        ("KerasHub with our targets and focal loss", OurTargets(), True, outputs),
        ("with its label encoder", label_encoder(on_ours, box_variance=UNITS), True, outputs),
        ("and its anchors", label_encoder(on_theirs, box_variance=UNITS), True, outputs),
        ("and its units of boxes", label_encoder(on_theirs), True, in_sides(outputs)),
        ("and its focal loss: as it comes", label_encoder(on_theirs), False, in_sides(outputs)),
    ):
        compiled(peer, focal)
        peer.label_encoder = encoder
        peer.reset_metrics()
        peer.compute_loss(*with_peer_labels(images, labels), given, None)
        found = peer.get_metrics_result()  # before the weights of `compiled`
        classes = found["cls_logits_loss"] * (CLASSES if focal else 1)
        print(f"| {name} | {classes:.6f} | {found['bbox_regression_loss']:.6f} |")


def compare_targets(images, labels):
    """Prints how far the anchors agree and, on our anchors, the targets."""
    given = images, labels["boxes"], labels["classes"]
    both = (anchors(kind)(images).values() for kind in (OurAnchors, AnchorGenerator))
    both = (tf.concat([*levels], 0)[:, tf.newaxis] for levels in both)
    print(f"\nmean IoU of an anchor of ours and KerasHub's: {np.mean(pairwise_iou(*both)):.3f}")
    boxes, own = OurTargets()(*given)
    their_boxes, found = label_encoder(anchors(OurAnchors), box_variance=UNITS)(*given)
    same, positive = np.equal(own, found), np.greater_equal(own, 0)
    print(
        f"objects: {np.sum(labels['classes'] >= 0)}; anchors to find them: {np.sum(positive)} of "
        f"ours, {np.sum(found >= 0)} of KerasHub's; of {same.size} anchors {np.sum(~same)} differ, "
        f"{np.sum(positive & (found < 0))} of them because only ours are to find an object; "
        f"largest difference of boxes: {np.abs(boxes - their_boxes)[same & positive].max():.0e}"
    )


def main(_):
    keras.utils.set_random_seed(0)
    set_channels(CHANNELS.value)
    scenes, test = data.scenes(num_test=100)
    batches = functools.partial(data.detection_batches, scenes, size=SIZE, seed=0)
    ours = bit_keras.detection.RetinaNet(NAME, CLASSES, size=SIZE, channels=CHANNELS.value)
    as_it_comes, like_ours = peer_of(ours), peer_of(ours)
    carry_over(ours, like_ours)
    like_ours.label_encoder = OurTargets()
    compiled(as_it_comes, our_focal_loss=False)
    compiled(like_ours, our_focal_loss=True)
    seconds = train(ours, (as_it_comes, like_ours), functools.partial(batches, batch=BATCH))
    images = tf.stack([tf.cast(test.read(i), tf.float32) / 255 for i in range(len(test))])
    like = dict(zip(("boxes", "classes"), map(reordered, like_ours(images).values()), strict=True))
    by_us = [ap(test, **detections(x, (SIZE, SIZE), ANCHOR_SIZES)) for x in (ours(images), like)]
    by_peer = peer_ap(test, as_it_comes, images, as_it_comes(images))
    print(f"{STEPS.value} steps, {CHANNELS.value} channels; median seconds of a step, scores")
    print(f"ours: {seconds[0]:.3f}, {by_us[0]}\nKerasHub as it comes: {seconds[1]:.3f}, {by_peer}")
    print(f"KerasHub given ours: {seconds[2]:.3f}, {by_us[1]}")
    carry_over(ours, like_ours)
    like_ours.anchor_generator = anchors(OurAnchors)
    scores = peer_ap(test, like_ours, images, in_sides(like_ours(images)))
    print(f"ours, decoded by KerasHub: {scores}\n")
    compare_losses(ours, like_ours, *next(iter(batches(batch=BATCH))))
    compare_targets(*next(iter(batches(batch=256))))


if __name__ == "__main__":
    app.run(main)
