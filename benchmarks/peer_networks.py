"""timm's and transformers' BiT in PyTorch. Runs in the peers' Python and knows no bit_keras."""

import os
import re
import shutil

import torch
from serving import Unavailable


def start(settings: dict) -> None:
    """Tells PyTorch to use all cores, as it and TensorFlow do by themselves; makes a tensor."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.backends.cuda.matmul.allow_tf32 = True  # as XLA has it, and as PyTorch convolves
    torch.backends.cudnn.benchmark = True
    torch.zeros(1, device=settings.get("device", "cpu")) + 1
    import timm  # noqa: F401


def timm_network(settings: dict) -> torch.nn.Module:
    """Returns timm's network: of a `folder` with weights, or random of a `model`, "R50x1"."""
    import timm

    if "folder" in settings:
        return timm.create_model(f"local-dir:{settings['folder']}", pretrained=True)
    depth, width = re.fullmatch(r"R(\d+)x(\d+)", settings["model"]).groups()
    return timm.create_model(f"resnetv2_{depth}x{width}_bit", num_classes=settings["classes"])


def transformers_network(settings: dict) -> torch.nn.Module:
    """Returns transformers' network of a `folder`, from images to logits."""
    from transformers import BitForImageClassification

    network = BitForImageClassification.from_pretrained(settings["folder"])

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images).logits

    return Logits()


def standardize_once(network: torch.nn.Module) -> None:
    """Puts plain convolutions with standardized kernels in place of timm's StdConv2d."""
    for module in [*network.modules()]:
        for name, layer in module.named_children():
            if type(layer).__name__ != "StdConv2d":
                continue
            plain = torch.nn.Conv2d(
                *(layer.in_channels, layer.out_channels, layer.kernel_size),
                stride=layer.stride,
                padding=layer.padding,
                bias=False,
            )
            kernel = layer.weight.detach()
            variance, mean = torch.var_mean(kernel, (1, 2, 3), correction=0, keepdim=True)
            plain.weight.data = (kernel - mean) / torch.sqrt(variance + layer.eps)
            setattr(module, name, plain)


def compiled(network: torch.nn.Module) -> torch.nn.Module:
    """Returns a network that `torch.compile` compiles at its first call."""
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise Unavailable("torch.compile needs a C++ compiler, and there is no g++")
    return torch.compile(network)
