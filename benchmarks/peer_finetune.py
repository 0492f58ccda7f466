"""The recipe of `bit-finetune` with timm: what our command is compared with in `finetune.py`.

    peer_finetune.py SETTINGS WORKDIR

SETTINGS is a JSON object: model ("R50x1"), data (a folder with train/CLASS/*.jpg and test/CLASS),
steps, batch, resize, crop, workers (processes that decode images), channels_last.

SGD with momentum 0.9 by BiT-HyperRule's schedule; decoded by Pillow, resized to a square, cropped
and mirrored at random, each batch mixed with itself reversed by mixup. A line of the log every step
and a checkpoint of weights and momenta every tenth of the steps, then the test images and a
safetensors file, as the command does.
"""

import json
import pathlib
import random
import sys

import numpy as np
import torch
from peer_networks import start, timm_network
from PIL import Image
from safetensors.torch import save_file

RATE, MIXUP_ALPHA = 0.003, 0.1


class Photos(torch.utils.data.Dataset):
    """Images of a folder of classes, as float32 [3, crop, crop] in [-1, 1], and their classes."""

    def __init__(self, folder, resize, crop, training):
        classes = sorted(path.name for path in folder.iterdir())
        self.files = [
            (file, number)
            for number, name in enumerate(classes)
            for file in sorted((folder / name).iterdir())
        ]
        self.classes, self.training = len(classes), training
        self.resize, self.crop = (resize if training else crop), crop

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file, number = self.files[index]
        with Image.open(file) as image:
            image = image.convert("RGB").resize((self.resize,) * 2, Image.Resampling.BILINEAR)
        left, top = (random.randint(0, self.resize - self.crop) for _ in range(2))
        image = image.crop((left, top, left + self.crop, top + self.crop))
        if self.training and random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)
        return pixels.float().div_(127.5).sub_(1), number


class Order(torch.utils.data.Sampler):
    """Shuffled epochs, one after another, of as many images as all steps take."""

    def __init__(self, images, number):
        self.images, self.number = images, number

    def __len__(self):
        return self.number

    def __iter__(self):
        epochs = -(-self.number // self.images)
        order = torch.cat([torch.randperm(self.images) for _ in range(epochs)])
        return iter(order[: self.number].tolist())


def rate(step, steps):
    """BiT-HyperRule's for small sets, stretched from 500 steps: 100 to warm up, three decays."""
    if step < steps / 5:
        return RATE * step / (steps / 5)
    return RATE * 0.1 ** sum(step > part * steps / 5 for part in (2, 3, 4))


def train(settings, workdir, layout):
    """Trains and returns the network, and writes the log and checkpoints."""
    folder, steps, batch = pathlib.Path(settings["data"]), settings["steps"], settings["batch"]
    images = Photos(folder / "train", settings["resize"], settings["crop"], training=True)
    workers = settings["workers"]
    loader = torch.utils.data.DataLoader(
        *(images, batch),
        sampler=Order(len(images), steps * batch),
        num_workers=workers,
    )
    network = timm_network({**settings, "classes": images.classes}).train()
    network = network.to(memory_format=layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=0.9, fused=True)
    with open(workdir / "metrics.jsonl", "a") as log:
        for done, (pixels, numbers) in enumerate(loader, 1):
            pixels = pixels.to(memory_format=layout)
            targets = torch.nn.functional.one_hot(numbers, images.classes).float()
            weight = np.random.beta(MIXUP_ALPHA, MIXUP_ALPHA)
            pixels, targets = (weight * x + (1 - weight) * x.flip(0) for x in (pixels, targets))
            optimizer.param_groups[0]["lr"] = rate(done - 1, steps)
            loss = torch.nn.functional.cross_entropy(network(pixels), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            print(json.dumps({"step": done, "loss": loss.item()}), file=log, flush=True)
            if done % max(1, steps // 10) == 0:
                state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
                torch.save(state, workdir / "checkpoint.pt")
    return network


def main():
    settings, workdir = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])
    start(settings)
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    network = train(settings, workdir, layout).eval()
    folder = pathlib.Path(settings["data"])
    images = Photos(folder / "test", settings["resize"], settings["crop"], training=False)
    right = 0
    with torch.inference_mode():
        for pixels, numbers in torch.utils.data.DataLoader(images, 64):
            answers = network(pixels.to(memory_format=layout)).argmax(1)
            right += (answers == numbers).sum().item()
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()},
        workdir / "model.safetensors",
    )
    print(f"accuracy {right / len(images):.2%}")


if __name__ == "__main__":
    main()
