"""Checks what spvit wrote beside each network: exported.safetensors and network.onnx.

    python check_exports.py FOLDER

The logits of FOLDER/networks/*/io.safetensors must come out of
  - compact.py, which loads exported.safetensors strictly (within 1e-5),
  - timm, where network.json names one of its models, likewise,
  - onnxruntime, with two batch sizes (within 1e-4).
"""

import json
import pathlib
import sys

import onnx
import onnxruntime
import timm
import torch
from safetensors.torch import load_file

import compact


@torch.no_grad()
def torch_logits(model, folder, image):
    model.load_state_dict(load_file(folder / "exported.safetensors"), strict=True)
    return model.eval()(image)


def onnx_logits(folder, image):
    path = str(folder / "network.onnx")
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = [image[:1], image[1:]]
    return torch.cat([torch.from_numpy(session.run(None, {"input": batch.numpy()})[0])
                      for batch in batches])


def main():
    failed = 0
    for folder in sorted((pathlib.Path(sys.argv[1]) / "networks").iterdir()):
        net = json.loads((folder / "network.json").read_text())
        io = load_file(folder / "io.safetensors")
        found = {
            "compact.py": (torch_logits(compact.CompactViT(net), folder, io["input"]), 1e-5),
            "onnxruntime": (onnx_logits(folder, io["input"]), 1e-4),
        }
        if name := net.get("timm_model"):
            found["timm"] = (torch_logits(timm.create_model(name), folder, io["input"]), 1e-5)
        for program, (logits, limit) in found.items():
            off = (logits - io["logits"]).abs().max().item()
            sound = off <= limit
            failed += not sound
            print(f"{'ok' if sound else 'FAIL':4} {folder.name:20} {program:12} off by {off:.1e}")
    sys.exit(f"{failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
