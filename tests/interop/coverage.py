"""Which models of timm and transformers spvit reads with equal logits.

    python coverage.py FOLDER WORKER [--sample N] [--only TEXT] [--update] [--refusals]

Every architecture of timm's ViT, DeiT, BEiT, EVA and Swin files and the image classifiers of
transformers are made small with random weights (small.py), saved as their own libraries save them,
and read by WORKER, the example `logits` of spvit-interchange. One row each:

    equal     logits differ by at most TOLERANCE of the largest one
    assumed   they differ, and the file had no configuration: notes told what was assumed
    refused   with the reason
    wrong     they differ, or the worker panicked, or those of the model as ONNX, which onnxruntime
              computes, differ from spvit's by more than 1e-4

FOLDER holds the files meanwhile. Ends with 1 if a row is wrong, or one that coverage.txt lists as
equal is not. --update writes coverage.txt anew; it wants all rows.
"""

import argparse
import collections
import json
import pathlib
import random
import shutil
import subprocess
import sys
import warnings

import torch
import transformers
from safetensors.torch import save_file
from timm.models import save_for_hf

import small
from check_exports import onnx_logits

#: Ten times what float32 loses on the way; a tanh GELU in place of the exact one makes 1e-4.
TOLERANCE = 2e-5
LIST = pathlib.Path(__file__).with_name("coverage.txt")
#: Of the logits of ONNX.
ONNX_TOLERANCE = 1e-4
#: Every eighth model of timm is read as a bare checkpoint, too.
BARE = 8


def image_of(model, size):
    config = getattr(model, "config", None)
    config = getattr(config, "vision_config", config)
    channels = getattr(config, "num_channels", 3)
    return torch.randn(2, channels, *small.pair(size or config.image_size))


def as_microsoft(state):
    """A Swin's names in the repository of its authors, who merge at the end of a stage."""
    def name(own):
        parts = own.split(".")
        if parts[0] == "layers" and parts[2] == "downsample":
            parts[1] = str(int(parts[1]) - 1)
        return ".".join(parts).replace("head.fc.", "head.")

    out = {name(own): t for own, t in state.items()}
    out["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    out["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    return {"model": out}


def wrapped(prefix):
    return lambda state: {"state_dict": {prefix + name: t for name, t in state.items()}}


#: Bare checkpoints of timm's models under other names.
VARIANTS = {
    "swin_tiny_patch4_window7_224 (Microsoft's names, .pth)": as_microsoft,
    "deit_small_patch16_224 (under timm_model., .pth)": wrapped("timm_model."),
    "deit3_small_patch16_224 (under module.backbone., .pth)": wrapped("module.backbone."),
}


class Rows:
    """The models by name; each is made, saved and described when its turn comes."""

    def __init__(self):
        self.rows = {}
        for index, (name, make) in enumerate(small.timm_models().items()):
            self.rows[f"timm/{name}"] = (
                lambda at, name=name, make=make: self.timm(at, name, make))
            if index % BARE == 0:
                self.rows[f"timm/{name} (.pth)"] = (
                    lambda at, name=name, make=make: self.timm(at, name, make, dict))
        for name, rename in VARIANTS.items():
            self.rows[f"timm/{name}"] = lambda at, name=name, rename=rename: self.timm(
                at, name.split()[0], small.timm_models()[name.split()[0]], rename)
        for name, make in small.transformers_models().items():
            self.rows[f"transformers/{name}"] = (
                lambda at, make=make: self.transformers(at, make))

    def timm(self, folder, name, make, rename=None):
        """With its configuration, or as a bare checkpoint under other names."""
        model = small.randomise(make())
        if rename:
            folder.mkdir()
            torch.save(rename(model.state_dict()), folder / "model.pth")
        else:
            save_for_hf(model, folder, safe_serialization=True)
        image = image_of(model, small.cut(name)["img_size"])
        return "model.pth" if rename else "model.safetensors", image, model(image)

    def transformers(self, folder, make):
        model = small.randomise(make())
        model.save_pretrained(folder)
        image = image_of(model, None)
        return "model.safetensors", image, model(pixel_values=image).logits


class Worker:
    def __init__(self, program):
        self.process = subprocess.Popen([program], text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def ask(self, model, image):
        self.process.stdin.write(json.dumps({"model": str(model), "input": str(image)}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{model}: the worker ended with {self.process.wait()}")
        return json.loads(line)


def judge(answer, expected, bare):
    """The row's status, and what there is to say about it."""
    if "refused" in answer:
        message = answer["refused"]
        return "refused", message.split(".safetensors: ")[-1].split(".pth: ")[-1]
    if "panic" in answer:
        return "wrong", f"panic: {answer['panic']}"
    if answer["shape"] != list(expected.shape):
        return "wrong", f"logits of shape {answer['shape']}, not {list(expected.shape)}"
    found = torch.tensor(answer["logits"]).view(expected.shape)
    off = float((found - expected).abs().max() / expected.abs().max())
    if off <= TOLERANCE:
        return "equal", f"{off:.1e}"
    notes = "; ".join(answer["notes"])
    if bare and "assum" in notes:
        return "assumed", f"off by {off:.1e}: {notes}"
    return "wrong", f"off by {off:.1e}: {notes}"


def judge_onnx(answer, path, image):
    """What the ONNX file adds to a row of equal logits."""
    try:
        found = onnx_logits(path, image)
    except Exception as error:  # whatever onnxruntime or the checker raise
        return "wrong", f"ONNX: {error}"
    expected = torch.tensor(answer["logits"]).view(answer["shape"])
    off = float((found - expected).abs().max())
    return "equal" if off <= ONNX_TOLERANCE else "wrong", f"ONNX off by {off:.1e}"


@torch.no_grad()
def check(rows, folder, program):
    worker = Worker(program)
    results = {}
    for name, make in rows.items():
        # The same weights in whatever selection of rows.
        torch.manual_seed(sum(name.encode()))
        here = folder / "model"
        shutil.rmtree(here, ignore_errors=True)
        file, image, expected = make(here)
        save_file({"input": image}, folder / "input.safetensors")
        answer = worker.ask(here / file, folder / "input.safetensors")
        status, text = judge(answer, expected, file == "model.pth")
        if status == "equal":
            status, more = judge_onnx(answer, here / "again.onnx", image)
            text = f"{text}, {more}"
        results[name] = status, text
        print(f"{status:8} {name:56} {text[:160]}", flush=True)
    shutil.rmtree(folder / "model", ignore_errors=True)
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("worker")
    parser.add_argument("--sample", type=int)
    parser.add_argument("--only", default="")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--refusals", action="store_true", help="counts the reasons")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(2)
    rows = {n: make for n, make in Rows().rows.items() if arguments.only in n}
    every = len(rows)
    if arguments.sample:
        chosen = random.Random(8).sample(sorted(rows), min(arguments.sample, every))
        rows = {name: rows[name] for name in rows if name in chosen}
    arguments.folder.mkdir(parents=True, exist_ok=True)
    results = check(rows, arguments.folder, arguments.worker)

    for library in ("timm", "transformers"):
        own = [status for name, (status, _) in results.items() if name.startswith(library + "/")]
        counts = collections.Counter(own)
        parts = ", ".join(f"{counts[k]} {k}" for k in ("equal", "assumed", "refused", "wrong"))
        print(f"{library}: {len(own)} models: {parts}")
    if arguments.refusals:
        reasons = collections.Counter(text for status, text in results.values()
                                      if status == "refused")
        for reason, count in reasons.most_common():
            print(f"{count:4}  {reason[:200]}")
    if arguments.update and len(rows) == every and not arguments.only:
        equal = sorted(name for name, (status, _) in results.items() if status == "equal")
        LIST.write_text("".join(f"{name}\n" for name in equal))
    listed = set(LIST.read_text().splitlines()) if LIST.exists() else set()
    wrong = [name for name, (status, _) in results.items() if status == "wrong"]
    lost = [name for name, (status, _) in results.items() if name in listed and status != "equal"]
    for what, names in (("wrong", wrong), ("no longer equal", lost)):
        if names:
            print(f"{what}: {', '.join(names)}")
    return 1 if wrong or lost else 0


if __name__ == "__main__":
    sys.exit(main())
