"""Writes the small PyTorch files that the tests of spvit-formats read.

    python small_files.py ../../crates/spvit-formats/tests/data
"""

import pathlib
import sys

import safetensors.torch
import torch

import packagings


def tensors():
    """Every kind of view and number format that a checkpoint may hold."""
    torch.manual_seed(3)
    shared = torch.randn(24, 20)
    return {
        "patch_embed.proj.weight": torch.randn(16, 3, 4, 4),
        "pos_embed": torch.randn(1, 17, 16),
        "half": torch.randn(20, 24).half(),
        "bfloat": torch.randn(20, 24).bfloat16(),
        "double": torch.randn(12, 12, dtype=torch.float64),
        "transposed": torch.randn(30, 20).t(),
        "permuted": torch.randn(4, 5, 6).permute(2, 0, 1),
        "shared": shared,
        "rows": shared[3:9],
        "columns": shared[:, 4::3],
        "half_transposed": torch.randn(6, 8).half().t(),
        "expanded": torch.randn(1, 8).expand(4, 8),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "bn.num_batches_tracked": torch.tensor(5),
        "mask": torch.tensor([True, False]),
        "index": torch.arange(6, dtype=torch.int32),
    }


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    state = tensors()
    for name in ("plain.zip.pth", "plain.legacy.pth", "training.zip.pth", "training.legacy.pth",
                 "protocol4.zip.pth", "model.safetensors"):
        packagings.PACKAGINGS[name](folder / name, state)
    safetensors.torch.save_file(packagings.reference(state), folder / "reference.safetensors")
    torch.save(torch.nn.Linear(2, 2), folder / "whole_model.zip.pth")
    torch.save({"model": torch.nn.Linear(2, 2)}, folder / "nested_model.zip.pth")


if __name__ == "__main__":
    main()
