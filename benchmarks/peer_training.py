"""A training step of timm on a batch in memory. See `serving`.

Settings: model ("R50x1"), size, batch, channels_last, bfloat16 (autocast), compiled, pieces, remat
(timm's gradient checkpointing), device ("cpu" or "cuda").
"""

import contextlib

import numpy as np
import torch
from peer_networks import compiled, start, timm_network
from serving import check_bfloat16, serve

CLASSES = 1000


def training_step(settings: dict) -> object:
    """Returns a function that takes one step and returns its loss."""
    device, batch, size = settings.get("device", "cpu"), settings["batch"], settings["size"]
    if settings.get("bfloat16") and device == "cpu":
        check_bfloat16()
    layout = torch.channels_last if settings.get("channels_last") else torch.contiguous_format
    network = timm_network({**settings, "classes": CLASSES}).train()
    network = network.to(device, memory_format=layout)
    if settings.get("remat"):
        network.set_grad_checkpointing()
    # One kernel for the whole update: the fastest that PyTorch has.
    optimizer = torch.optim.SGD(network.parameters(), lr=0.003, momentum=0.9, fused=True)
    forward = compiled(network) if settings.get("compiled") else network
    rng, pieces = np.random.default_rng(0), settings.get("pieces", 1)
    images = torch.from_numpy(rng.random((batch, 3, size, size), np.float32) * 2 - 1)
    images = images.to(device, memory_format=layout).chunk(pieces)
    labels = torch.eye(CLASSES)[torch.from_numpy(rng.integers(0, CLASSES, batch))]
    labels = labels.to(device).chunk(pieces)

    def precision():
        if settings.get("bfloat16"):
            return torch.autocast(device, torch.bfloat16)
        return contextlib.nullcontext()

    def run():
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for x, y in zip(images, labels, strict=True):
            with precision():
                loss = torch.nn.functional.cross_entropy(forward(x), y, reduction="sum") / batch
            loss.backward()
            total = total + loss.detach()
        optimizer.step()
        return total.item()

    return run


if __name__ == "__main__":
    serve(start, training_step, ("torch", "timm"))
