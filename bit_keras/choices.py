"""The words that a user chooses from, for `--help`, which should not wait for TensorFlow."""

EMBEDDED_MODEL = "BiT-XS-R26x0.25"  # it comes with the package
INITS = ("pretrained", "random")
AUGMENTATIONS = ("crop", "flip")
STRATEGIES = ("auto", "single", "mirrored", "multiworker", "tpu")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")  # of training
METHODS = ("probe", "fine-tuning")  # of learning from a few examples
EXPORT_FORMATS = (  # the keys of `exporting.FORMATS`, in which a test compares them
    *("saved_model", "keras", "npz", "timm", "transformers"),
    *("litert", "onnx", "openvino", "web"),
)
DETECTORS = ("retinanet", "mask_rcnn", "faster_rcnn")
DETECTOR_FORMATS = ("saved_model", "onnx")  # of exported detectors
EXPORT_PRECISIONS = ("float32", "float16", "int8")
SAMPLINGS = ("uniform", "balanced")  # of training images
KEEP = ("best", "last")  # of a run's models
BAD_IMAGES = ("error", "skip")
BAD_BOXES = ("error", "skip")
