"""A forward pass of timm or transformers. See `serving`.

Settings: peer ("timm" or "transformers"), folder (with weights), size, batch, channels_last,
standardized (kernels standardized once), compiled, frozen (compiled with the weights as constants),
openvino (computed by OpenVINO), bfloat16 (autocast), device ("cpu" or "cuda").
"""

import contextlib

import numpy as np
import torch
from peer_networks import (
    compiled,
    standardize_once,
    start,
    timm_network,
    transformers_network,
)
from serving import check_bfloat16, serve

NETWORKS = {"timm": timm_network, "transformers": transformers_network}


def forward_pass(settings: dict) -> object:
    """Returns a function that answers a batch of images in memory."""
    device = settings.get("device", "cpu")
    if settings.get("bfloat16") and device == "cpu":
        check_bfloat16()
    network = NETWORKS[settings["peer"]](settings).eval()
    shape = (settings["batch"], 3, settings["size"], settings["size"])
    images = np.random.default_rng(0).random(shape, np.float32) * 2 - 1
    if settings.get("standardized"):
        standardize_once(network)
    if settings.get("openvino"):
        return _by_openvino(network, images)
    layout = torch.channels_last if settings.get("channels_last") else torch.contiguous_format
    network = network.to(device, memory_format=layout)
    images = torch.from_numpy(images).to(device, memory_format=layout)
    grad_mode = torch.inference_mode
    if settings.get("frozen"):
        from torch._inductor import config

        config.freezing = True
        grad_mode = torch.no_grad  # freezing knows no other
    if settings.get("compiled") or settings.get("frozen"):
        network = compiled(network)

    def run():
        bfloat16 = settings.get("bfloat16")
        precision = torch.autocast(device, torch.bfloat16) if bfloat16 else contextlib.nullcontext()
        with grad_mode(), precision:
            return network(images).float().cpu().numpy()

    return run


def _by_openvino(network, images):
    import openvino

    converted = openvino.convert_model(network, example_input=torch.from_numpy(images))
    # As ours: where a processor has bfloat16, OpenVINO would compute in it.
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(converted, "CPU", options)
    return lambda: model(images)[0]


if __name__ == "__main__":
    serve(start, forward_pass, ("torch", "timm", "transformers", "openvino"))
