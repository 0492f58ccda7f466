"""Loading timm's network from a safetensors file. See `serving`. Settings: model, path."""

import timm
from peer_networks import start, timm_network
from safetensors.torch import load_file
from serving import serve


def loading(settings: dict) -> object:
    """Returns a function that makes the network and loads its weights, as timm does."""
    assert timm

    def load():
        network = timm_network({"model": settings["model"], "classes": 1000})
        network.load_state_dict(load_file(settings["path"]))

    return load


if __name__ == "__main__":
    serve(start, loading, ("torch", "timm", "safetensors"))
