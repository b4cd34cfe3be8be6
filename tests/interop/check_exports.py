"""Checks what spvit wrote beside each network.

    python check_exports.py FOLDER

exported.safetensors and network.onnx are written from the file's tensors (spvit-formats),
model.safetensors and model.onnx from a model that was loaded and written again (spvit-interchange; not
where an FFN is empty, which a model cannot be). The logits of FOLDER/networks/*/io.safetensors
must come out of
  - compact.py, which loads the safetensors strictly (within 1e-5),
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
def torch_logits(model, path, image):
    model.load_state_dict(load_file(path), strict=True)
    return model.eval()(image)


def onnx_logits(path, image):
    path = str(path)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    batches = [image[:1], image[1:]]
    return torch.cat([torch.from_numpy(session.run(None, {"input": batch.numpy()})[0])
                      for batch in batches])


def logits(net, stem, weights, graph, image):
    """Program, logits and limit, for each program that reads these files."""
    yield f"compact.py {stem}", torch_logits(compact.CompactViT(net), weights, image), 1e-5
    if name := net.get("timm_model"):
        yield f"timm {stem}", torch_logits(timm.create_model(name), weights, image), 1e-5
    yield f"onnxruntime {stem}", onnx_logits(graph, image), 1e-4


def main():
    failed = 0
    for folder in sorted((pathlib.Path(sys.argv[1]) / "networks").iterdir()):
        net = json.loads((folder / "network.json").read_text())
        io = load_file(folder / "io.safetensors")
        files = [("tensors", "exported.safetensors", "network.onnx")]
        if all(block["hidden"] > 0 for block in net["blocks"]):
            files.append(("model", "model.safetensors", "model.onnx"))
        for stem, weights, graph in files:
            for program, found, limit in logits(
                    net, stem, folder / weights, folder / graph, io["input"]):
                off = (found - io["logits"]).abs().max().item()
                sound = off <= limit
                failed += not sound
                print(f"{'ok' if sound else 'FAIL':4} {folder.name:20} {program:20} off by {off:.1e}")
    sys.exit(f"{failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
