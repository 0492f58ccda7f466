"""How far two programs agree on the masks of objects; that on boxes is in test_detector_export."""

import functools

import pytest
from detections import detections_of, rectangle

from bit_keras.detection.matching import agreement

BOX = (10, 10, 110, 60)


@pytest.mark.parametrize(
    ("mask", "other", "same", "iou"),
    [
        ((10, 10, 110, 60), (10, 10, 110, 60), True, 1),
        ((10, 10, 210, 210), (10, 10, 210, 211), True, 200 / 201),
        ((10, 10, 60, 60), (10, 10, 61, 60), False, 50 / 51),
        ((10, 10, 14, 12), (10, 10, 15, 12), True, 8 / 10),  # two pixels
        ((10, 10, 13, 13), (10, 10, 14, 13), False, 9 / 12),  # three
        ((10, 10, 12, 11), (30, 30, 30, 30), True, 0),
        ((10, 10, 10, 10), (10, 10, 10, 10), True, 1),  # both cover nothing
        ((10, 10, 60, 60), (110, 10, 160, 60), False, 0),
    ],
)
def test_agreement_of_masks(mask, other, same, iou):
    [first], [second] = (detections_of([[(0, BOX, 0.9)]]) for _ in range(2))
    first["masks"], second["masks"] = [rectangle(*mask)], [rectangle(*other)]
    for one, two in ((first, second), (second, first)):
        found = agreement([one], [two], 0.05, 100)
        assert found.matched == same
        assert found.mask_iou == pytest.approx(iou if same else 1)


def test_agreement_of_masks_looks_at_each_object_of_each_image():
    boxes = [(0, BOX, 0.9), (1, (200, 200, 250, 260), 0.5)]
    masks = [rectangle(10, 10, 110, 60), rectangle(200, 200, 250, 260)]
    [nothing] = detections_of([[]])
    nothing["masks"] = []
    pairs = []
    for order in ((0, 1), (1, 0)):
        [one] = detections_of([[boxes[i] for i in order]])
        pairs.append({**one, "masks": [masks[i] for i in order]})
    exchanged = {**pairs[0], "masks": masks[::-1]}
    missing = {**detections_of([boxes[:1]])[0], "masks": masks[:1]}
    alike = functools.partial(agreement, threshold=0.05, most=100)
    assert alike([pairs[0], nothing], [pairs[1], nothing]).matched == 1
    assert alike([pairs[0], pairs[0]], [pairs[1], exchanged]).matched == 1 / 2
    assert alike([pairs[0]], [missing]).matched == pytest.approx(2 / 3)
    assert alike([pairs[0]], [nothing]).matched == alike([nothing], [pairs[0]]).matched == 0
