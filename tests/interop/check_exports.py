"""Checks what spvit wrote beside each network.

    python check_exports.py FOLDER

exported.safetensors and network.onnx are written from the file's tensors (spvit-formats),
model.safetensors and model.onnx from a model that was loaded and written again (spvit-interchange).
The logits of FOLDER/networks/*/io.safetensors must come out of
  - compact.py, which loads the safetensors strictly (within 1e-5),
  - timm, where network.json names one of its models, likewise,
  - onnxruntime and OpenVINO, with two batch sizes (within 1e-4).

half.onnx, and dense.half.onnx and compact.half.onnx of styles, are in float16: the cosine of their logits
to those of float32 must be at least 0.9999.

dense.* and compact.* in FOLDER/styles/*, and spvit's logits of each (dense.io.safetensors, ...):
these must come out of onnxruntime and OpenVINO likewise, and timm's (io.safetensors) of the dense ONNX. timm
must load the dense safetensors of those that style.json names, strictly, and give its own logits,
but for those of NOT_TIMMS.
"""

import itertools
import json
import pathlib
import sys

import onnx
import onnxruntime
import openvino
import timm
import torch
from safetensors.torch import load_file

import compact

#: Styles that spvit does not write in timm's names: blocks of one kind have one name here, while
#: timm's BEiT and EVA name LayerScale `gamma_1` and have q, k and v or their biases apart.
NOT_TIMMS = {"beit_bias_tables", "dinov3", "dinov3_swiglu", "eva02", "eva02_inner_norms",
             "rope_and_positions"}


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


def openvino_logits(path, image):
    # By itself it computes in bfloat16 where the processor can.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    core = openvino.Core()
    model = core.compile_model(core.read_model(path), "CPU", precise)
    return torch.cat([torch.from_numpy(model([batch.numpy()])[0].copy()) for batch in (image[:1], image[1:])])


def logits(net, stem, weights, graph, image):
    """Program, logits and limit, for each program that reads these files."""
    yield f"compact.py {stem}", torch_logits(compact.CompactViT(net), weights, image), 1e-5
    if name := net.get("timm_model"):
        yield f"timm {stem}", torch_logits(timm.create_model(name), weights, image), 1e-5
    yield f"onnxruntime {stem}", onnx_logits(graph, image), 1e-4
    yield f"openvino {stem}", openvino_logits(graph, image), 1e-4


def networks(folder):
    """Name, program, found and expected logits, and limit of the networks."""
    for here in sorted((folder / "networks").iterdir()):
        net = json.loads((here / "network.json").read_text())
        io = load_file(here / "io.safetensors")
        files = [("tensors", "exported.safetensors", "network.onnx"),
                 ("model", "model.safetensors", "model.onnx")]
        for stem, weights, graph in files:
            for program, found, limit in logits(net, stem, here / weights, here / graph,
                                                io["input"]):
                yield here.name, program, found, io["logits"], limit


def styles(folder):
    """The same of the small models of every style."""
    for here in sorted((folder / "styles").iterdir()):
        for form in ("dense", "compact"):
            io = load_file(here / f"{form}.io.safetensors")
            graph = here / f"{form}.onnx"
            found = onnx_logits(graph, io["input"])
            yield here.name, f"onnxruntime {form}", found, io["logits"], 1e-4
            own = openvino_logits(graph, io["input"])
            yield here.name, f"openvino {form}", own, io["logits"], 1e-4
            if form == "dense" and (here / "io.safetensors").exists():
                theirs = load_file(here / "io.safetensors")["logits"]
                yield here.name, "its logits, in ONNX", found, theirs, 1e-4
        style = here / "style.json"
        if style.exists() and here.name not in NOT_TIMMS:
            style, io = json.loads(style.read_text()), load_file(here / "io.safetensors")
            model = timm.create_model(style["timm"], **style["arguments"])
            found = torch_logits(model, here / "dense.safetensors", io["input"])
            yield here.name, "timm dense", found, io["logits"], 1e-5


def halves(folder):
    """Name, program and cosine of the logits in float16 to those in float32, of every network and style."""
    files = [*(folder / "networks").glob("*/half.onnx"), *(folder / "styles").glob("*/*.half.onnx")]
    for path in sorted(files):
        io = load_file(path.with_name(path.name.removesuffix("half.onnx") + "io.safetensors"))
        for name, program in (("onnxruntime", onnx_logits), ("openvino", openvino_logits)):
            found, expected = program(path, io["input"]).double(), io["logits"].double()
            cosine = torch.cosine_similarity(found, expected, dim=1).min().item()
            yield path.parent.name, f"{name} float16", cosine


def main():
    failed = 0
    folder = pathlib.Path(sys.argv[1])
    for name, program, cosine in halves(folder):
        sound = cosine >= 0.9999
        failed += not sound
        print(f"{'ok' if sound else 'FAIL':4} {name:24} {program:22} cosine {cosine:.6f}")
    for name, program, found, expected, limit in itertools.chain(networks(folder), styles(folder)):
        off = (found - expected).abs().max().item()
        sound = off <= limit
        failed += not sound
        print(f"{'ok' if sound else 'FAIL':4} {name:24} {program:22} off by {off:.1e}")
    sys.exit(f"{failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
