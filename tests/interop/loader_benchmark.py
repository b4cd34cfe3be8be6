"""Images per second of spvit-data's loader and of torchvision's, over the same files.

    python tests/interop/loader_photographs.py /tmp/photographs
    cargo build --release -p spvit-data --example loader
    python tests/interop/loader_benchmark.py /tmp/photographs target/release/examples/loader

Both give shuffled batches of 64 normalised 224 x 224 images: a random resized crop, bicubic with
antialias, and a flip. Two threads against two worker processes. The two take turns, so that whatever
else the machine does meets both; medians are compared. Both read every file once before anything is
measured, and both are measured from when threads or workers are there.
"""

import argparse
import os
import re
import statistics
import subprocess
import time

import torch
import torchvision
from torchvision import transforms
from torchvision.transforms import InterpolationMode

#: Epochs that are measured at once: with few batches, one worker would wait for the other at the end.
EPOCHS = 8
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 64


def torchvision_rate(folder, workers):
    """Images/s of EPOCHS passes over all files, after one pass that starts the workers."""
    crop = transforms.RandomResizedCrop(224, interpolation=InterpolationMode.BICUBIC)
    steps = transforms.Compose([crop, transforms.RandomHorizontalFlip(), transforms.ToTensor(),
                                transforms.Normalize(MEAN, STD)])
    data = torchvision.datasets.ImageFolder(os.path.join(folder, "train"), steps)
    data = torch.utils.data.ConcatDataset([data] * (1 + EPOCHS))
    loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True,
                                         num_workers=workers)
    images = 0
    for number, (batch, _) in enumerate(loader):
        if number == len(loader) // (1 + EPOCHS):
            began, images = time.perf_counter(), 0
        else:
            images += len(batch)
    return images / (time.perf_counter() - began)


def spvit_rate(program, folder, threads):
    """Images/s of all but the first of 1 + EPOCHS epochs."""
    command = [program, folder, str(threads), str(1 + EPOCHS), str(BATCH)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return statistics.harmonic_mean(map(float, re.findall(r"([\d.]+) images/s", output)[1:]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = [], []
    for number in range(arguments.rounds):
        ours.append(spvit_rate(arguments.program, arguments.folder, arguments.threads))
        theirs.append(torchvision_rate(arguments.folder, arguments.threads))
        print(f"round {number + 1}: spvit {ours[-1]:.0f}, torchvision {theirs[-1]:.0f} images/s",
              flush=True)
    ratios = [one / other for one, other in zip(ours, theirs)]
    print(f"medians: spvit {statistics.median(ours):.0f}, "
          f"torchvision {statistics.median(theirs):.0f} images/s; ratio of each round"
          f" {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
