"""Writes the files that other programs make, for spvit to read.

    python make_cases.py FOLDER [MODEL ...]          (deit_tiny, deit_small, deit_base)

FOLDER/checkpoints/MODEL/*: a timm model of random weights in each packaging, the tensors that
    reading any of them must give (reference.safetensors), an input and timm's logits
    (io.safetensors).
FOLDER/hugging_face/NAME/*: random models of Hugging Face's transformers, with their logits.
FOLDER/resized/HEIGHTxWIDTH/*: weights at 224×224, and timm's position embedding and logits after
    it resized them to another resolution.
FOLDER/networks/NAME/*: networks to export: weights.safetensors, network.json, io.safetensors.
FOLDER/styles/NAME/*: small models of every style, and a Swin (styles.py).
"""

import json
import pathlib
import sys

import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn

import compact
import packagings
import styles

MODELS = ["deit_tiny", "deit_small", "deit_base"]
TEST_DATA = pathlib.Path(__file__).parents[2] / "crates/spvit-formats/tests/data"


@torch.no_grad()
def randomise(model):
    """Weights of a trained model's scale: no bias, norm or running statistic keeps its default."""
    for name, t in list(model.named_parameters()) + list(model.named_buffers()):
        if name.endswith("running_var"):
            t.uniform_(0.5, 2.0)
        elif t.is_floating_point() and t.numel():
            spread = t.detach()[0].numel() ** -0.5 if t.dim() > 1 else 0.1
            t.add_(torch.randn_like(t) * spread)
    return model.eval()


@torch.no_grad()
def save_io(folder, model, image_size, batch=3, **more):
    image = torch.randn(batch, 3, *image_size)
    out = model(image)
    logits = getattr(out, "logits", out)
    save_file({"input": image, "logits": logits, **more}, folder / "io.safetensors")


def network(image_size, patch_size, classes, dim, heads, blocks, shortcut_adds_norm=False, **more):
    """A DeiT's description with these operations and FFNs; spvit's NetworkDescription."""
    block = {"dim": dim, "heads": heads, "kept_heads": heads,
             "map": [side // patch_size for side in image_size],
             "prefix_tokens": 1, "window": None, "epsilon": 1e-6, "norm_kind": "layer",
             "ffn": "plain", "activation": "gelu", "qkv_bias": True, "qk_norm": False,
             "relative_positions": False, "rope": None, "attn_norm": False, "mlp_norm": False,
             "layer_scale": False, "shortcut_adds_norm": shortcut_adds_norm}
    return {"image_size": image_size, "patch_size": patch_size, "channels": 3, "classes": classes,
            "dim": dim, "epsilon": 1e-6, "norm_kind": "layer", "batch_norm_epsilon": 1e-5,
            "patch_bias": True, "patch_norm": False, "class_token": True, "distilled": False,
            "registers": 0, "positions": "all", "pre_norm": False, "norm": True, "fc_norm": False,
            "pool": "token", "pool_prefix": False, "head": "head", "merges": [],
            "blocks": [{"name": f"blocks.{i}", "operation": op, "hidden": hidden, **block}
                       for i, (op, hidden) in enumerate(blocks)], **more}


def save_network(folder, net, state):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network.json").write_text(json.dumps(net))
    save_file(packagings.reference(state), folder / "weights.safetensors")


def timm_cases(folder, name):
    """A dense model of timm: as a checkpoint in each packaging, and as a network to export."""
    model = randomise(timm.create_model(f"{name}_patch16_224"))
    state = model.state_dict()
    here = folder / "checkpoints" / name
    here.mkdir(parents=True, exist_ok=True)
    for file, write in packagings.PACKAGINGS.items():
        write(here / file, state)
    save_file(packagings.reference(state), here / "reference.safetensors")
    save_io(here, model, [224, 224])
    dim, heads = model.embed_dim, model.blocks[0].attn.num_heads
    net = network([224, 224], 16, 1000, dim, heads, [("msa", 4 * dim)] * 12,
                  timm_model=f"{name}_patch16_224")
    save_network(folder / "networks" / f"{name}_dense", net, state)
    save_io(folder / "networks" / f"{name}_dense", model, [224, 224])


def hugging_face_case(folder):
    """A ViT of deit_tiny's shape, under the names of files (as in all releases) and of modules."""
    here = folder / "hugging_face" / "vit_tiny"
    here.mkdir(parents=True, exist_ok=True)
    model = randomise(transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_labels=1000)))
    model.save_pretrained(here)
    torch.save(load_file(here / "model.safetensors"), here / "pytorch_model.bin")
    torch.save(model.state_dict(), here / "modules.pth")
    save_io(here, model, [224, 224])


def resized_cases(folder):
    """timm loads weights of 224×224 into models of other resolutions."""
    state = randomise(timm.create_model("deit_tiny_patch16_224")).state_dict()
    for height, width in [(160, 160), (384, 384), (192, 256)]:
        here = folder / "resized" / f"{height}x{width}"
        here.mkdir(parents=True, exist_ok=True)
        save_file(packagings.reference(state), here / "trained_at_224.safetensors")
        model = timm.create_model("deit_tiny_patch16_224", img_size=(height, width)).eval()
        model.load_state_dict(checkpoint_filter_fn(dict(state), model))
        save_io(here, model, [height, width], pos_embed=model.pos_embed.detach().clone())


def conv(kernel):
    return {"bconv": {"kernel": kernel}}


def compact_cases(folder):
    """Compact models, whose logits compact.py give."""
    mixed = [("shortcut", 384), (conv(1), 200), (conv(3), 768), (conv(3), 0), ("msa", 517)] * 2
    whole = [("shortcut", 384), (conv(1), 200), (conv(3), 768), ("msa", 517)] * 3
    cases = {
        "deit_tiny_operations": network([224, 224], 16, 1000, 192, 3, whole),
        "deit_tiny_compact": network([224, 224], 16, 1000, 192, 3, mixed),
        "wide_image_5x5": network([32, 48], 8, 7, 32, 2, [(conv(5), 9), ("msa", 1)]),
        "shortcut_norm1": network([32, 32], 8, 7, 32, 4, [("shortcut", 64), ("msa", 64)],
                                  shortcut_adds_norm=True),
        "convolutions_only": network([32, 32], 4, 10, 32, 4, [(conv(1), 64), (conv(3), 64)]),
    }
    for name, net in cases.items():
        model = randomise(compact.CompactViT(net))
        save_network(folder / "networks" / name, net, model.state_dict())
        save_io(folder / "networks" / name, model, net["image_size"])


def published_case(folder):
    """A compact network of the published code (attn.qk and attn.v there), with its logits."""
    state = load_file(TEST_DATA / "allkinds.safetensors")
    for part in ("weight", "bias"):
        state[f"blocks.3.attn.qkv.{part}"] = torch.cat(
            [state.pop(f"blocks.3.attn.{name}.{part}") for name in ("qk", "v")])
    net = network([32, 32], 4, 10, 48, 3,
                  [("shortcut", 118), (conv(1), 72), (conv(3), 151), ("msa", 192)],
                  shortcut_adds_norm=True)
    here = folder / "networks" / "published"
    save_network(here, net, state)
    save_file(load_file(TEST_DATA / "allkinds.io.safetensors"), here / "io.safetensors")


def main():
    folder, models = pathlib.Path(sys.argv[1]), sys.argv[2:] or MODELS
    torch.manual_seed(20)
    published_case(folder)
    compact_cases(folder)
    hugging_face_case(folder)
    resized_cases(folder)
    for name in models:
        timm_cases(folder, name)
    styles.cases(folder)


if __name__ == "__main__":
    main()
