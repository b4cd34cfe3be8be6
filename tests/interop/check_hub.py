"""Checks folders of `spvit convert --form hub` as transformers' image processor and onnxruntime read them.

    python check_hub.py RELEASE MODEL

RELEASE is the folder of the program and its examples, MODEL the bundled model of grey images. It and a
small ViT that transformers writes here, whose images are resized by their shorter side and cut, classify
pictures of other sizes than theirs: the probabilities must be those of `spvit predict` (1e-2: libraries differ in the last bit of a resized pixel), in
float16 likewise. Where an odd number of pixels is cut off, transformers cuts one less before the middle than
timm and spvit do, so that the pictures here are of sizes where it is even. The examples that classify an image,
by spvit-layers and by onnxruntime, must name the class that `spvit predict` names.
"""

import gzip
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor, CLIPImageProcessor, ViTConfig
from transformers import ViTForImageClassification
import torch

LIMIT = 1e-2


def pictures(folder, mode):
    """Smooth pictures, some wide, some high."""
    random = np.random.default_rng(5)
    for number, size in enumerate([(44, 32), (28, 28), (32, 64)]):
        small = random.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        path = folder / f"{number}.png"
        Image.fromarray(small).resize(size, Image.BICUBIC).convert(mode).save(path)
        yield path


def small_vit(folder):
    torch.manual_seed(3)
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                       image_size=24, patch_size=8, num_labels=7)
    model = ViTForImageClassification(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 24, "width": 24},
                       image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.25, 0.3]).save_pretrained(folder)
    return folder


def softmax(logits):
    parts = np.exp(logits - logits.max())
    return parts / parts.sum()


def probabilities(hub, name, path):
    processor, config = AutoImageProcessor.from_pretrained(hub), AutoConfig.from_pretrained(hub)
    pixels = processor(Image.open(path), return_tensors="np")["pixel_values"].astype(np.float32)
    session = onnxruntime.InferenceSession(str(hub / "onnx" / name), providers=["CPUExecutionProvider"])
    logits, = session.run(None, {"pixel_values": pixels})
    return {config.id2label[i]: part for i, part in enumerate(softmax(logits[0]))}


def predicted(program, model, path):
    """Of each class's place: names may be the file's or the folder's own."""
    call = [program, "predict", model, path, "--json", "--top", "100"]
    output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
    return {one["class"]: one["probability"] for one in json.loads(output)["classes"]}


def fused(program, model, path, place):
    """Of the network that takes one image's bytes."""
    onnx = place / "bytes.onnx"
    subprocess.run([program, "convert", model, onnx, "--half", "--batch", "1", "--fuse-preprocess"],
                   check=True, capture_output=True)
    session = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    pixels = np.asarray(Image.open(path)).reshape(session.get_inputs()[0].shape)
    logits, = session.run(None, {"input": pixels})
    return list(softmax(logits[0]))


def examples(release, program, bundled, place):
    """Of how many bundled images an example names another class than the program."""
    folder = place / "examples"
    folder.mkdir()
    onnx, failed = folder / "bytes.onnx", 0
    subprocess.run([program, "convert", bundled, onnx, "--fuse-preprocess"], check=True, capture_output=True)
    with gzip.open("data/fashion-mnist-mini/t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    for number in range(6):
        path = folder / f"{number}.png"
        Image.fromarray(images[number]).save(path)
        probabilities = predicted(program, bundled, path)
        expected = max(probabilities, key=probabilities.get)
        for name, model in (("classify", bundled), ("onnx", onnx)):
            call = [release / "examples" / name, model, path]
            output = subprocess.run(call, check=True, capture_output=True, text=True).stdout
            sound = int(output.split()[0]) == expected
            failed += not sound
            print(f"{'ok' if sound else 'FAIL':4} example {name:9} {path.name}: {output.strip()}")
    return failed


def main():
    release, bundled = sys.argv[1:]
    release = pathlib.Path(release)
    program = release / "spvit"
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        for model, mode in [(pathlib.Path(bundled), "L"), (small_vit(place / "vit"), "RGB")]:
            hub = place / f"hub-{mode}"
            subprocess.run([program, "convert", model, hub, "--form", "hub"], check=True,
                           capture_output=True)
            folder = place / mode
            folder.mkdir()
            for path in pictures(folder, mode):
                expected = predicted(program, model, path)
                for name in ("model.onnx", "model_fp16.onnx"):
                    found = list(probabilities(hub, name, path).values())
                    off = max(abs(found[i] - p) for i, p in expected.items())
                    sound = off <= LIMIT and len(found) == len(expected)
                    failed += not sound
                    print(f"{'ok' if sound else 'FAIL':4} hub {mode:4} {path.name} {name:16} off by {off:.1e}")
        # The second picture of grey has the model's size.
        path = place / "L" / "1.png"
        found = fused(program, bundled, path, place)
        off = max(abs(found[i] - p) for i, p in predicted(program, bundled, path).items())
        failed += off > LIMIT
        print(f"{'FAIL' if off > LIMIT else 'ok':4} bytes in, one image, float16: off by {off:.1e}")
        failed += examples(release, program, bundled, place)
    sys.exit(f"{failed} checks failed" if failed else 0)


if __name__ == "__main__":
    main()
