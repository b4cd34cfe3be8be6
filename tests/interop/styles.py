"""Small models of every style that spvit reads, for it to write as ONNX.

`cases(folder)` writes FOLDER/styles/NAME/*: the model as its own library saves it, its logits
(io.safetensors), and for timm's the architecture and arguments that make it (style.json).
"""

import json

import timm
import torch
import transformers
from safetensors.torch import save_file
from timm.models import save_for_hf

import small

#: Blocks, so that a compact form can have every operation.
DEPTH = 5
#: Name of the case, timm's architecture, further arguments.
TIMM = [
    ("deit_distilled", "deit_tiny_distilled_patch16_224", {}),
    ("deit3_layer_scale", "deit3_small_patch16_224", {}),
    ("fc_norm_registers", "vit_base_patch16_reg4_gap_256", {}),
    ("average_no_class_token", "vit_base_patch16_siglip_gap_224", {}),
    ("average_norm", "vit_giant_patch16_gap_224", {}),
    ("no_qkv_bias", "vit_base_patch16_224_miil", {}),
    ("qk_norm", "vit_small_patch16_224", {"qk_norm": True}),
    ("dinov2", "vit_small_patch14_dinov2", {}),
    ("dinov2_registers", "vit_small_patch14_reg4_dinov2", {}),
    ("dinov2_swiglu", "vit_giant_patch14_dinov2", {}),
    ("clip_pre_norm", "vit_base_patch16_clip_224", {}),
    ("clip_quick_gelu", "vit_base_patch16_clip_quickgelu_224", {}),
    ("siglip_pool", "vit_base_patch16_siglip_224", {}),
    ("siglip_pool_tanh_gelu", "vit_giantopt_patch16_siglip_256", {}),
    ("pool_with_prefix", "test_vit3", {}),
    ("rms_norm", "test_vit4", {}),
    ("beit_bias_tables", "beit_base_patch16_224", {}),
    ("beit3_inner_norms", "beit3_base_patch16_224", {}),
    ("average_fc_norm", "eva_large_patch14_196", {}),
    ("eva02", "eva02_tiny_patch14_224", {}),
    ("eva02_inner_norms", "eva02_base_patch16_clip_224", {}),
    ("dinov3", "vit_small_patch16_dinov3", {}),
    ("dinov3_swiglu", "vit_small_plus_patch16_dinov3", {}),
    ("rope_and_positions", "vit_small_patch16_rope_ape_224", {}),
    ("perception_encoder", "vit_pe_core_tiny_patch16_384", {}),
]
#: Name of the case, and of the model in small.py.
TRANSFORMERS = [
    ("hf_deit_with_teacher", "DeiT with teacher"),
    ("hf_relu", "ViT, relu"),
    ("hf_tanh_gelu", "ViT, gelu_new"),
    ("hf_oblong", "ViT, oblong"),
    ("hf_beit", "Beit, bias tables"),
    ("hf_swin", "Swin"),
    ("hf_siglip", "Siglip vision, attention pool"),
]


def arguments(name, more):
    """Those of a small timm model of some depth."""
    cut = small.cut(name)
    deep = {"depths": (2, 4)} if "depths" in cut else {"depth": DEPTH}
    return cut | deep | more


@torch.no_grad()
def timm_case(folder, name, chosen, bare=False):
    """With its configuration, or alone: spvit refuses arguments that it does not know."""
    model = small.randomise(timm.create_model(name, **chosen))
    if bare:
        folder.mkdir(parents=True)
        save_file(model.state_dict(), folder / "model.safetensors")
    else:
        save_for_hf(model, folder, safe_serialization=True)
    (folder / "style.json").write_text(json.dumps({"timm": name, "arguments": chosen}))
    size = small.pair(chosen.get("img_size", 224))
    save_io(folder, model, torch.randn(3, 3, *size))


@torch.no_grad()
def save_io(folder, model, image):
    out = model(image)
    logits = getattr(out, "logits", out)
    save_file({"input": image, "logits": logits.contiguous()}, folder / "io.safetensors")


def transformers_case(folder, make):
    model = small.randomise(make())
    model.save_pretrained(folder)
    config = getattr(model.config, "vision_config", model.config)
    image = torch.randn(3, config.num_channels, *small.pair(config.image_size))
    save_io(folder, model, image)


def cases(folder):
    folder = folder / "styles"
    for name, architecture, more in TIMM:
        timm_case(folder / name, architecture, arguments(architecture, more), bare=bool(more))
    # Swin at full size, and small with shifted windows in a map that they divide.
    tiny = "swin_tiny_patch4_window7_224"
    timm_case(folder / "swin_tiny", tiny, {})
    timm_case(folder / "swin_small_windows", tiny, arguments(tiny, {}))
    transformers.logging.set_verbosity_error()
    made = small.transformers_models()
    for name, model in TRANSFORMERS:
        transformers_case(folder / name, made[model])
