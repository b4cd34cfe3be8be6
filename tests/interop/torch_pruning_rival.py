"""A rival for spvit: Torch-Pruning cuts the same dense model, and PyTorch fine-tunes what is left.

    python tests/interop/torch_pruning_rival.py --budget 0.6 --importance taylor --out OUT

The recipe is that of spvit's fine-tuning (configs/fashion-mnist.toml), the cut is in
torch_pruning_cut.py. OUT gets pruned.safetensors, the cut model before fine-tuning; with `--what ffn`
kept.json, the hidden dimensions that each block keeps; and at the very end result.json.
"""
import argparse
import copy
import gzip
import json
import math
import os
import pathlib
import sys
import time

import numpy
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy, pad

from torch_pruning_cut import (IMPORTANCES, SIDE, Cutter, Unreachable, difference, gradients, macs,
                               read_dense)

VALIDATION = 5000
PADDING = 2
PARTS = ("train", "t10k")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def number(kind, low, high, open_ends=False):
    """A type of argument: a number from `low` to `high`."""
    def convert(text):
        value = kind(text)
        if not (low < value < high if open_ends else low <= value <= high):
            ends = ", ends excluded" if open_ends else ""
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}{ends}")
        return value
    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def arguments():
    parser = Parser(description=__doc__.splitlines()[0])
    share, rate, count = number(float, 0, 1), number(float, 0, 10), number(int, 1, 10**6)
    add = parser.add_argument
    add("--dense", type=pathlib.Path, default="models/vit_micro-fashion-mnist.safetensors")
    add("--data", type=pathlib.Path, default="/usr/share/datasets/fashion-mnist")
    add("--budget", type=number(float, 0, 1, True), required=True,
        help="share of the dense model's MACs")
    add("--importance", choices=IMPORTANCES, default="taylor")
    add("--what", choices=("heads_ffn", "ffn"), default="heads_ffn")
    scope = parser.add_mutually_exclusive_group()
    scope.add_argument("--global", dest="everywhere", action="store_true", default=True,
                       help="rank over the whole network (the default)")
    scope.add_argument("--local", dest="everywhere", action="store_false",
                       help="the same share of every layer")
    add("--seed", type=number(int, 0, 2**32), default=0)
    add("--epochs", type=count, default=5)
    add("--batch", type=count, default=64)
    add("--learning-rate", type=rate, default=5e-4)
    add("--min-learning-rate", type=rate, default=1e-5)
    add("--weight-decay", type=rate, default=0.05)
    add("--clip", type=number(float, 0, 10**6), default=1.0,
        help="largest norm of the gradients; 0: any")
    add("--distillation", type=share, default=0.5,
        help="share of the loss that follows the dense model")
    add("--train-limit", type=number(int, 0, 10**6), default=0,
        help="at most so many images; 0: all")
    add("--importance-images", type=count, default=2048)
    add("--threads", type=number(int, 1, 256), default=1)
    add("--out", type=pathlib.Path)
    add("--cut-only", action="store_true", help="stop before fine-tuning")
    add("--check", action="store_true",
        help="compare the cut model with the dense one whose cut weights are 0, and stop")
    given = parser.parse_args()
    if given.out is None and not given.check:
        parser.error("--out is needed, unless with --check")
    if given.out and (given.out / "result.json").exists():
        parser.error(f"{given.out / 'result.json'} is there already")
    return parser, given


def idx(folder, part, kind, dimensions):
    """The values of an IDX file of bytes."""
    path = folder / f"{part}-{kind}-idx{dimensions}-ubyte.gz"
    raw = gzip.decompress(path.read_bytes())
    shape = numpy.frombuffer(raw, ">u4", dimensions, 4)
    start = 4 + 4 * dimensions
    if raw[:4] != bytes([0, 0, 8, dimensions]) or len(raw) != start + numpy.prod(shape):
        raise ValueError(f"{path} is no IDX file of bytes")
    values = numpy.frombuffer(raw, numpy.uint8, offset=start)
    return torch.from_numpy(values.reshape(shape).copy())


def read_part(folder, part):
    images = idx(folder, part, "images", 3).unsqueeze(1)
    labels = idx(folder, part, "labels", 1).long()
    if images.shape[1:] != (1, SIDE, SIDE) or len(images) != len(labels):
        raise ValueError(f"{folder}: {part} has not one image of {SIDE} x {SIDE} for each label")
    return images, labels


class Images:
    """Training and validation images, and how images are normalised: as those of the training are."""

    def __init__(self, folder, limit):
        self.folder = folder
        images, labels = read_part(folder, "train")
        end = len(images) - VALIDATION
        if end < 1:
            raise ValueError(f"{folder}: no more than the {VALIDATION} images of the validation")
        self.validation = images[end:], labels[end:]
        end = min(end, limit or end)
        self.images, self.labels = images[:end], labels[:end]
        # By counts of the values, whose sums are exact.
        counts = torch.bincount(self.images.flatten(), minlength=256).double()
        values, counts = torch.arange(256).double() / 255, counts / counts.sum()
        mean = (values * counts).sum()
        self.mean, self.std = mean.item(), ((values - mean).square() * counts).sum().sqrt().item()

    def normalised(self, images):
        return (images.float() / 255 - self.mean) / self.std

    def some(self, count, seed):
        """Training images as they are, for the importance."""
        draw = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.images), generator=draw)[:count]
        return self.normalised(self.images[order]), self.labels[order]

    def epoch(self, batch, draw):
        """Shuffled batches, shifted and mirrored; what does not fill a batch is left out."""
        order = torch.randperm(len(self.images), generator=draw)
        for chosen in order[:len(order) - len(order) % batch].split(batch):
            yield augmented(self.normalised(self.images[chosen]), draw), self.labels[chosen]


def augmented(images, draw):
    """Shifts by up to PADDING pixels, with 0, the mean colour, around; and mirrors half of them."""
    count = len(images)
    shifts = torch.randint(2 * PADDING + 1, (2, count, 1), generator=draw)
    rows, columns = shifts + torch.arange(SIDE)
    mirrored = torch.rand(count, 1, generator=draw) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    padded, image = pad(images[:, 0], [PADDING] * 4), torch.arange(count)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].unsqueeze(1)


@torch.no_grad()
def accuracy(model, data, images, labels):
    model.eval()
    found = [model(data.normalised(some)).argmax(1) for some in images.split(250)]
    return (torch.cat(found) == labels).sum().item() / len(labels)


def optimiser(model, decay):
    """AdamW; only matrices decay, and neither the class token nor the positions."""
    decaying, others = [], []
    for name, value in model.named_parameters():
        matrix = value.ndim > 1 and name not in ("cls_token", "pos_embed")
        (decaying if matrix else others).append(value)
    groups = [{"params": decaying, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)


def loss_of(model, teacher, share, images, labels):
    logits = model(images)
    loss = cross_entropy(logits, labels, label_smoothing=0.1)
    if share == 0:
        return loss
    with torch.no_grad():
        chosen = teacher(images).argmax(1)
    return (1 - share) * loss + share * cross_entropy(logits, chosen)


def rate_of(given, progress):
    """A cosine from the first learning rate to the least."""
    least, cosine = given.min_learning_rate, 0.5 * (1 + math.cos(math.pi * progress))
    return least + (given.learning_rate - least) * cosine


def finetune(model, teacher, data, given):
    """Trains a model; the validation accuracy after every epoch, the weights of the first best one,
    and how many images were seen."""
    draw = torch.Generator().manual_seed(given.seed)
    steps = given.epochs * (len(data.images) // given.batch)
    update, step, curve, best = optimiser(model, given.weight_decay), 0, [], None
    for epoch in range(given.epochs):
        began, losses = time.monotonic(), []
        model.train()
        for images, labels in data.epoch(given.batch, draw):
            for group in update.param_groups:
                group["lr"] = rate_of(given, step / steps)
            loss = loss_of(model, teacher, given.distillation, images, labels)
            update.zero_grad()
            loss.backward()
            if given.clip > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), given.clip)
            update.step()
            losses.append(loss.item())
            step += 1
            if not math.isfinite(losses[-1]):
                sys.exit(f"step {step}: the loss is {losses[-1]}; try a smaller --learning-rate")
        curve.append(accuracy(model, data, *data.validation))
        if curve[-1] > max(curve[:-1], default=-1):
            best = copy.deepcopy(model.state_dict())
        say(f"epoch {epoch + 1}/{given.epochs}: loss {sum(losses) / len(losses):.4f}, "
            f"validation {curve[-1]:.4f}, {time.monotonic() - began:.0f} s")
    return curve, best, steps * given.batch


def say(line):
    print(line, file=sys.stderr, flush=True)


def write(path, save):
    """Writes a file that is either there as a whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    save(partial)
    os.replace(partial, path)


def prepare(parser, given):
    """The dense model and the images."""
    try:
        for part in PARTS:
            for name in ("images-idx3", "labels-idx1"):
                (given.data / f"{part}-{name}-ubyte.gz").stat()
        data = Images(given.data, given.train_limit)
        dense = read_dense(given.dense)
        if given.out:
            given.out.mkdir(parents=True, exist_ok=True)
    except Exception as error:  # whatever a strange file may raise
        parser.error(" ".join(str(error).split()) or type(error).__name__)
    there = len(data.images)
    for name, count in (("importance-images", given.importance_images), ("batch", given.batch)):
        if count > there:
            parser.error(f"--{name} {count} is more than the {there} training images")
    return dense, data


def main():
    parser, given = arguments()
    torch.set_num_threads(given.threads)
    began = time.monotonic()
    dense, data = prepare(parser, given)
    some = data.some(given.importance_images, given.seed)
    grads = gradients(dense, given.importance, *some, given.batch)
    cutter = Cutter(dense, given.importance, given.what, given.everywhere, given.seed, grads)
    try:
        model, kept = cutter.to(given.budget)
    except Unreachable as error:
        sys.exit(f"{parser.prog}: {error}")
    blocks = [{"heads": len(heads), "hidden": len(hidden)} for heads, hidden in kept]
    shape = " ".join("{heads}/{hidden}".format_map(block) for block in blocks)
    share = macs(model) / cutter.dense_macs
    say(f"cut to {share:.4f} of {cutter.dense_macs} MACs, heads/hidden {shape}")
    if given.check:
        found = difference(dense, model, kept, data.normalised(data.validation[0][:64]))
        print(f"largest difference of logits: {found:.1e}")
        sys.exit(0 if found < 1e-5 else 1)

    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write(given.out / "pruned.safetensors", lambda path: save_file(tensors, path))
    if given.what == "ffn":
        hidden = json.dumps({"kept": [hidden for _, hidden in kept]})
        write(given.out / "kept.json", lambda path: path.write_text(hidden + "\n"))
    if given.cut_only:
        return
    model.zero_grad()
    before = accuracy(model, data, *data.validation)
    curve, best, images = finetune(model, dense, data, given)
    model.load_state_dict(best)
    result = {
        "budget": given.budget, "importance": given.importance, "what": given.what,
        "global": given.everywhere, "seed": given.seed, "epochs": given.epochs,
        "importance_images": given.importance_images, "images_after_cut": images, "dense_macs": cutter.dense_macs, "macs": macs(model),
        "share": share, "parameters": sum(value.numel() for value in model.parameters()),
        "blocks": blocks,
        "accuracy_before": before, "validation_curve": curve, "validation_best": max(curve),
        "test": accuracy(model, data, *read_part(given.data, "t10k")),
        "seconds": round(time.monotonic() - began, 1),
    }
    write(given.out / "result.json", lambda path: path.write_text(json.dumps(result, indent=2) + "\n"))


if __name__ == "__main__":
    main()
