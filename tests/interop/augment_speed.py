"""Times timm's recipe on one thread over decoded images, beside spvit's.

    python augment_speed.py FOLDER
    cargo run --release -p spvit-data --example augment_speed -- FOLDER

The first writes 128 images of 375 x 500 to FOLDER/images.bin for the second. Both give the best of five
passes, by the processor time of their one thread, normalised float32 values included.
"""

import pathlib
import sys
import time

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment, create_transform

SIZE, COUNT, PASSES = (375, 500), 128, 5


def picture(number):
    draw = np.random.default_rng(number)
    y, x, c = np.mgrid[0:SIZE[0], 0:SIZE[1], 0:3].astype(np.float32)
    waves = 60 * np.sin(x / (5 + number % 40) + c) * np.cos(y / (9 + number % 23) - c)
    edges = 40 * ((x // 37 + y // 53 + number) % 2)
    return np.clip(110 + waves + edges + draw.normal(0, 9, x.shape), 0, 255).astype(np.uint8)


def posterize(image, bits, **_):
    # timm asks for 0 bits at times, which this Pillow refuses.
    return auto_augment.posterize(image, max(bits, 1))


def main():
    auto_augment.NAME_TO_OP["PosterizeIncreasing"] = posterize
    torch.set_num_threads(1)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [picture(number) for number in range(COUNT)]
    (folder / "images.bin").write_bytes(b"".join(array.tobytes() for array in arrays))
    images = [Image.fromarray(array) for array in arrays]
    training = {"input_size": 224, "is_training": True, "interpolation": "bicubic",
                "color_jitter": None}
    rand = {"auto_augment": "rand-m9-mstd0.5-inc1"}
    cases = {
        "crop, flip": create_transform(**training),
        "crop, flip, RandAugment": create_transform(**training, **rand),
        "crop, flip, RandAugment, erasing":
            create_transform(**training, **rand, re_prob=0.25, re_mode="pixel"),
        "evaluation": create_transform(224, interpolation="bicubic", crop_pct=0.875),
    }
    for name, transform in cases.items():
        rates = []
        for _ in range(PASSES):
            start = time.thread_time()
            for image in images:
                transform(image)
            rates.append(COUNT / (time.thread_time() - start))
        print(f"timm   {name:34} {max(rates):8.0f} images/s")


if __name__ == "__main__":
    main()
