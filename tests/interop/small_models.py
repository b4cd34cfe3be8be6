"""Writes the small models that the tests of spvit-interchange read.

    python small_models.py ../../crates/spvit-interchange/tests/data

NAME.safetensors or NAME.pth: random weights under the names that timm and Hugging Face's
transformers give them; NAME.io.safetensors: an input and that program's logits.
"""

import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from make_cases import randomise

SHAPE = dict(img_size=16, patch_size=8, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2,
             num_classes=5)


def save_logits(path, model, channels=3):
    image = torch.randn(3, channels, 16, 16)
    with torch.no_grad():
        out = model(image)
    save_file({"input": image, "logits": getattr(out, "logits", out)}, path)


def timm_models(folder):
    model = randomise(VisionTransformer(**SHAPE, qkv_bias=False))
    torch.save(model.state_dict(), folder / "timm_without_qkv_bias.pth")
    save_logits(folder / "timm_without_qkv_bias.io.safetensors", model)
    model = randomise(VisionTransformer(**SHAPE, in_chans=1))
    torch.save({"model_ema": model.state_dict(), "model": {}}, folder / "timm_gray.pth")
    save_logits(folder / "timm_gray.io.safetensors", model, channels=1)
    torch.save(VisionTransformerDistilled(**SHAPE).state_dict(), folder / "timm_distilled.pth")
    torch.save(VisionTransformer(**SHAPE, init_values=0.1).state_dict(),
               folder / "timm_layer_scale.pth")


def hugging_face(folder):
    config = transformers.ViTConfig(
        image_size=16, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, num_labels=5)
    model = randomise(transformers.ViTForImageClassification(config))
    model.save_pretrained(folder / "saved")
    (folder / "saved/model.safetensors").rename(folder / "hugging_face.safetensors")
    torch.save(model.state_dict(), folder / "hugging_face_modules.pth")
    save_logits(folder / "hugging_face.io.safetensors", model)
    transformers.ViTModel(config).save_pretrained(folder / "saved")
    (folder / "saved/model.safetensors").rename(folder / "hugging_face_headless.safetensors")
    (folder / "saved/config.json").unlink()
    (folder / "saved").rmdir()


def positions(folder):
    """A position embedding for 4×4 patches, resized by timm; `5x7` is height by width."""
    embedding = torch.randn(1, 17, 6)
    out = {"4x4": embedding}
    for height, width in [(6, 6), (3, 3), (5, 7), (2, 9), (1, 1), (14, 14)]:
        resized = resample_abs_pos_embed(embedding, [height, width], [4, 4])
        out[f"{height}x{width}"] = resized.contiguous()
    save_file(out, folder / "positions.safetensors")


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    timm_models(folder)
    hugging_face(folder)
    positions(folder)


if __name__ == "__main__":
    main()
