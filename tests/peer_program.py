"""timm and transformers in a process of their own, for test_peers.py. Knows nothing of bit_keras.

peer_program.py read  timm|transformers FOLDER SIZE ANSWERS.npz    a folder that bit_keras wrote
peer_program.py write timm|transformers FOLDER SIZE ANSWERS.npz    random weights by its own saving
"""

import sys

import numpy as np
import torch


def random_weights(model):
    """Of sizes at which answers are large enough to differ."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            z = torch.randn(parameter.shape)
            if parameter.ndim == 4 and "head" not in name:
                parameter.copy_(z)
            elif "head" in name or "classifier" in name:
                parameter.copy_(0.05 * z)
            else:
                parameter.copy_(0.1 * z + (1.0 if name.endswith("weight") else 0.0))
    return model


def read_timm(folder):
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert model.pretrained_cfg["mean"] == model.pretrained_cfg["std"] == [0.5, 0.5, 0.5]
    return model


def write_timm(folder):
    import timm
    from timm.models import save_for_hf

    model = random_weights(timm.create_model("resnetv2_50x1_bit", num_classes=10))
    save_for_hf(model, folder, safe_serialization=True)
    return model


def read_transformers(folder):
    from transformers import BitForImageClassification, BitImageProcessor

    pixels = BitImageProcessor.from_pretrained(folder)
    black_and_white = [np.full((8, 9, 3), value, "uint8") for value in (0, 255)]
    normalized = pixels(black_and_white, return_tensors="np")["pixel_values"]
    assert normalized.shape == (2, 3, 8, 9)
    np.testing.assert_allclose(normalized[:, 0, 0, 0], [-1, 1], atol=1e-6)
    return BitForImageClassification.from_pretrained(folder)


def write_transformers(folder):
    from transformers import BitConfig, BitForImageClassification

    model = random_weights(BitForImageClassification(BitConfig(num_labels=10)))
    model.save_pretrained(folder)
    return model


if __name__ == "__main__":
    action, peer, folder, size, answers = sys.argv[1:]
    model = globals()[f"{action}_{peer}"](folder).eval()
    size = int(size)
    images = np.random.default_rng(size).uniform(-1, 1, (2, size, size, 3)).astype("float32")
    # In PyTorch's own layout: of R101x1, a float32 forward of a mere view is off by 2e-4.
    batch = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    with torch.no_grad():
        logits = model(batch)
    logits = getattr(logits, "logits", logits)
    np.savez(answers, images=images, logits=logits.numpy())
