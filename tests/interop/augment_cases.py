"""Writes what timm, torchvision and Pillow make of small images, with given arguments.

    python augment_cases.py ../../crates/spvit-data/tests/data/augment

images.bin.gz holds all images one after the other, cases.json says which is where and what was done;
the tests of crates/spvit-data/src/augment hold spvit's own results against them.
"""

import gzip
import json
import pathlib
import random
import sys
from unittest import mock

import numpy as np
import PIL
import timm
import torch
import torchvision
import torchvision.transforms.functional as F
from PIL import Image, ImageFilter
from timm.data import auto_augment, distributed_sampler, mixup, random_erasing, transforms
from timm.data.transforms_factory import transforms_imagenet_eval

FILTERS = ("bilinear", "bicubic", "lanczos")
MEAN = (0.485, 0.456, 0.406)
FILL = tuple(round(255 * value) for value in MEAN)
SEED = 7


class Store:
    def __init__(self):
        self.bytes, self.images = bytearray(), []

    def add(self, image):
        """The image's number; a tensor is [channels, height, width]."""
        if isinstance(image, torch.Tensor):
            image = image.permute(1, 2, 0).numpy()
        values = np.asarray(image)
        values = values[:, :, None] if values.ndim == 2 else values
        assert values.dtype == np.uint8
        self.images.append({"offset": len(self.bytes), "shape": list(values.shape)})
        self.bytes += values.tobytes()
        return len(self.images) - 1


def picture(height, width, channels):
    """Waves, an edge and noise, between 14 and 235."""
    draw = np.random.default_rng([SEED, height, width, channels])
    y, x, c = np.mgrid[0:height, 0:width, 0:channels].astype(float)
    waves = 60 * np.sin(x / 5 + c) * np.cos(y / 7 - c) + 20 * np.sin(x * y / 90)
    values = 120 + waves + 40 * (x > y + 3 * c) + draw.normal(0, 9, waves.shape)
    values = np.clip(values, 14 + 9 * c, 235 - 5 * c).astype(np.uint8)
    return Image.fromarray(values.squeeze() if channels == 1 else values)


def operations(store):
    """Each operation by timm's own function."""
    enhance, signed = (0.1, 0.37, 0.95, 1.0, 1.62, 1.9), (-0.27, 0.033, 0.3)
    arguments = {
        "AutoContrast": [()], "Equalize": [()], "Invert": [()],
        "Posterize": [(1,), (3,), (4,)], "Solarize": [(0,), (26,), (128,), (256,)],
        "SolarizeAdd": [(0,), (99,), (110,)],
        "Color": [(f,) for f in enhance], "Contrast": [(f,) for f in enhance],
        "Brightness": [(f,) for f in enhance], "Sharpness": [(f,) for f in enhance],
    }
    moves = {"Rotate": (-27.0, 3.3, 30.0, 0.0), "ShearX": signed, "ShearY": signed,
             "TranslateXRel": (-0.405, 0.11, 0.45), "TranslateYRel": (-0.405, 0.11, 0.45)}
    few = {"tiny": ["AutoContrast", "Equalize", "Contrast", "Sharpness"],
           "flat": ["AutoContrast", "Equalize", "Contrast", "Color"]}
    flat = np.asarray(picture(9, 11, 3)).copy()
    flat[:, :, 1] = 77
    images = {"color": picture(33, 46, 3), "grey": picture(31, 40, 1), "tiny": picture(14, 18, 3),
              "flat": Image.fromarray(flat)}
    cases = []
    for name, image in images.items():
        number, fill = store.add(image), FILL if image.mode == "RGB" else FILL[:1]
        for op in few.get(name, arguments):
            for args in arguments[op]:
                result = auto_augment.NAME_TO_OP[op](image, *args)
                cases.append({"op": op, "args": args, "from": number, "to": store.add(result)})
        for op in moves if name in ("color", "grey") else ():
            for arg in moves[op]:
                for sampling in (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC):
                    result = auto_augment.NAME_TO_OP[op](
                        image, arg, fillcolor=fill, resample=sampling)
                    cases.append({"op": op, "args": [arg], "sampling": sampling.name.lower(),
                                  "fill": fill, "from": number, "to": store.add(result)})
        for radius in (0.1, 0.7, 1.81, 2.0) if name in ("color", "grey") else ():
            result = image.filter(ImageFilter.GaussianBlur(radius))
            cases.append({"op": "GaussianBlur", "args": [radius], "from": number,
                          "to": store.add(result)})
    return cases


def levels():
    """Arguments at each magnitude, with both signs."""
    cases = []
    for name in sorted(set(auto_augment._RAND_TRANSFORMS) |
                       set(auto_augment._RAND_INCREASING_TRANSFORMS) |
                       set(auto_augment._RAND_3A)):
        function = auto_augment.LEVEL_TO_ARG[name]
        for level in (0.0, 0.3, 4.99, 8.7, 9.0, 9.63, 10.0, 14.5) if function else ():
            both = []
            for sign in (1, -1):
                with mock.patch.object(auto_augment, "_randomly_negate", lambda v: sign * v):
                    both += function(level, {})
            cases.append({"name": name, "level": level, "plus": both[0], "minus": both[1]})
    return cases


def strings():
    """What timm reads out of its strings."""
    cases = []
    for text in ("rand-m9-mstd0.5-inc1", "rand", "rand-m7-n3-p0.8", "rand-mstd101-mmax20-m15",
                 "rand-inc0-m5-mstd1", "rand-m9-n1-p1-t3a", "rand-t3aw-n2", "rand-tweights-m8-inc1"):
        made = auto_augment.rand_augment_transform(text)
        op, std = made.ops[0], made.ops[0].magnitude_std
        weights = made.choice_weights
        cases.append({"text": text, "m": op.magnitude, "n": made.num_layers, "p": op.prob,
                      "mstd": -1 if std == float("inf") else std, "mmax": op.magnitude_max or 10,
                      "ops": [op.name for op in made.ops],
                      "weights": None if weights is None else weights.tolist()})
    return cases


def resizing(store):
    """Parts of an image, cut out and resized."""
    cases = []
    for channels in (3, 1):
        image = picture(61, 83, channels)
        number = store.add(image)
        for part, size in (((0, 0, 61, 83), (24, 24)), ((7, 20, 31, 40), (24, 26)),
                           ((3, 5, 9, 12), (20, 22)), ((0, 30, 61, 17), (16, 40)),
                           ((10, 10, 24, 24), (24, 24))):
            for name in FILTERS:
                result = F.resized_crop(image, *part, list(size),
                                        transforms.str_to_interp_mode(name))
                cases.append({"from": number, "part": part, "size": size, "filter": name,
                              "to": store.add(result)})
    return cases


def evaluation(store):
    cases = []
    for image in (picture(61, 83, 3), picture(90, 47, 3), picture(50, 50, 1), picture(20, 23, 3)):
        number, channels = store.add(image), len(image.getbands())
        for mode in ("center", "squash", "border"):
            for share, size, name in ((0.875, (28, 28), "bicubic"), (1.0, (32, 32), "bicubic"),
                                      (0.9, (24, 33), "bilinear"), (0.96, (27, 27), "lanczos")):
                with torch.random.fork_rng():
                    transform = transforms_imagenet_eval(
                        size, crop_pct=share, crop_mode=mode, interpolation=name,
                        mean=MEAN[:channels], normalize=False)
                cases.append({"from": number, "mode": mode, "crop_pct": share, "size": size,
                              "filter": name, "to": store.add(transform(image))})
    return cases


def jitter(store):
    """torchvision's ColorJitter with its draws given: an order and three factors."""
    adjust = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)
    cases = []
    for channels in (3, 1):
        image = picture(25, 30, channels)
        number = store.add(image)
        for order, factors in (((0, 1, 2), (0.7, 1.3, 0.61)), ((2, 0, 1), (1.4, 0.66, 1.39))):
            result = image
            for which in order:
                result = adjust[which](result, factors[which])
            cases.append({"from": number, "order": order, "factors": factors,
                          "to": store.add(result)})
    return cases


def shares(values):
    """Stands in for random.uniform: how far between low and high the next draws are."""
    values = iter(values)

    def uniform(low, high):
        return low + (high - low) * next(values)
    return uniform


def crops():
    """RandomResizedCrop's height and width, and its way out after ten attempts."""
    cases = []
    crop = transforms.RandomResizedCropAndInterpolation
    for height, width in ((375, 500), (500, 375), (64, 900), (900, 60), (28, 28)):
        for scale, ratio in ((0.0, 0.0), (0.31, 0.87), (0.999, 0.5), (1.0, 0.0), (1.0, 1.0)):
            with mock.patch.object(random, "uniform", shares([scale, ratio] * 10)), \
                    mock.patch.object(random, "randint", lambda low, high: low):
                found = crop.get_params(Image.new("L", (width, height)), (0.08, 1.0),
                                        (3 / 4, 4 / 3))
            cases.append({"size": [height, width], "draw": [scale, ratio], "part": found})
    return cases


def erasing():
    """The rows and columns that random erasing takes."""
    cases = []
    for size in ((224, 224), (32, 24)):
        for count in (1, 2, 3):
            for area, ratio in ((0.0, 0.0), (0.5, 0.25), (0.31, 0.77), (1.0, 0.5)):
                eraser = random_erasing.RandomErasing(1.0, mode="const", min_count=count,
                                                      device="cpu")
                with mock.patch.object(random, "uniform", shares([area, ratio] * 30)), \
                        mock.patch.object(random, "randint", lambda low, high: low):
                    found = eraser(torch.ones(1, *size))[0] == 0
                cases.append({"size": size, "count": count, "draw": [area, ratio],
                              "rows": int(found.any(1).sum()), "columns": int(found.any(0).sum())})
    return cases


def mixing():
    """Mixup with λ given, CutMix with its rectangle, on 5 images of 2 x 6 x 7."""
    images = torch.arange(5 * 2 * 6 * 7, dtype=torch.float32).reshape(5, 2, 6, 7) / 10
    labels, cases = torch.tensor([3, 0, 2, 2, 1]), []
    for smoothing in (0.0, 0.1):
        for cutmix, box, lam in ((False, None, 0.3), (True, (1, 5, 2, 6), 0.0), (False, None, 1.0)):
            made = mixup.Mixup(label_smoothing=smoothing, num_classes=4)
            area = box and 1 - (box[1] - box[0]) * (box[3] - box[2]) / 42
            with mock.patch.object(made, "_params_per_batch", lambda: (lam, cutmix)), \
                    mock.patch.object(mixup, "cutmix_bbox_and_lam", lambda *_, **__: (box, area)):
                # An odd batch is refused there; its middle image is left out for the asking.
                even = [0, 1, 3, 4]
                found, target = made(images[even].clone(), labels[even])
            cases.append({"cutmix": box, "lambda": lam, "smoothing": smoothing,
                          "labels": labels[even].tolist(), "from": images[even].flatten().tolist(),
                          "to": found.flatten().tolist(), "targets": target.flatten().tolist()})
    return cases


def repeated():
    """RepeatAugSampler's order, unshuffled: one list for each of the processes."""
    return [{"images": images, "repeats": repeats, "processes": processes, "orders": [
        list(distributed_sampler.RepeatAugSampler(
            range(images), processes, rank, shuffle=False, num_repeats=repeats))
        for rank in range(processes)]}
        for images, repeats, processes in ((10, 3, 1), (10, 3, 2), (300, 3, 1), (600, 3, 2),
                                           (260, 2, 1), (7, 1, 1))]


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    store = Store()
    cases = {
        "made_with": {module.__name__: module.__version__
                      for module in (timm, torch, torchvision, PIL, np)},
        "operations": operations(store), "levels": levels(), "strings": strings(),
        "resizing": resizing(store), "evaluation": evaluation(store), "jitter": jitter(store),
        "crops": crops(), "erasing": erasing(), "mixing": mixing(), "repeated": repeated(),
    }
    cases["images"] = store.images
    (folder / "images.bin.gz").write_bytes(gzip.compress(bytes(store.bytes), 9, mtime=0))
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in cases.items())
    (folder / "cases.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    main()
