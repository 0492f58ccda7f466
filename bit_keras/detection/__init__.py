"""Object detection: RetinaNet on BiT backbones."""
