"""Cut-down models of timm and transformers with every structural option of the full ones.

`timm_models()` and `transformers_models()` give {name: function that makes the model}. Depth is 2
blocks (Swin: two stages of 2), heads are as wide as in the full model but few, images have 4×4
patches (Swin: 2×2 windows), or the full model's height to width. No weight keeps its default, and
what the blocks add to is small, so that nothing can be left out or exchanged unseen: an ε of 1e-5
in place of 1e-6 changes the logits by percents.
"""

import importlib
import inspect
import types

import timm
import torch
import transformers

MODULES = ["vision_transformer", "deit", "beit", "eva", "swin_transformer", "swin_transformer_v2",
           "swin_transformer_v2_cr", "vision_transformer_relpos", "vision_transformer_hybrid"]
CLASSES = 7
#: Scale of the residual stream.
STREAM = 0.01
#: What enters the stream, and what adds to it.
ENTRIES = ("patch_embed", "pos_embed", "cls_token", "reg_token", "dist_token", "register_tokens",
           "embeddings.", "norm_pre.", "pre_layrnorm.", "mask_token", "embedding.")
WRITERS = ("attn.proj.", "mlp.fc2.", "mlp.w3.", "output.dense.", "o_proj.", "out_proj.",
           "down_proj.", "weights_out.", "mlp_out_proj.", "attn_out_proj.", "reduction.")


def pair(value):
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


@torch.no_grad()
def randomise(model):
    """Weights that show: see this module's docstring."""
    norms = {name for name, m in model.named_modules() if "Norm" in type(m).__name__}
    for name, t in model.named_parameters():
        layer, _, leaf = name.rpartition(".")
        if layer in norms and leaf == "weight":
            t.normal_(1.0, 0.3)
        elif any(part in name for part in ("gamma", "lambda", "layer_scale")):
            t.uniform_(0.5, 1.5)
        elif leaf == "bias":
            t.normal_(0.0, 0.3)
        elif t.dim() > 1 and "table" not in name and "_embed" not in leaf and "token" not in leaf:
            t.normal_(0.0, 1.5 * t[0].numel() ** -0.5)
        else:
            t.normal_(0.0, 1.0)
        pool = "attn_pool" in name or name.startswith(("head.", "vision_model.head."))
        if not pool and any(part in name for part in ENTRIES + WRITERS):
            t.mul_(STREAM)
    for name, t in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            t.uniform_(0.5, 1.5)
    return model.eval()


class Captured(Exception):
    """Carries what an architecture's function in timm asks its builder for."""


def arguments(name):
    """The model's class and the arguments that timm builds it with."""
    def capture(cls, variant, pretrained=False, **kwargs):
        error = Captured()
        error.found = cls, kwargs
        raise error

    entry = timm.models.model_entrypoint(name)
    modules = [importlib.import_module(f"timm.models.{m}") for m in MODULES]
    saved = [(m, m.build_model_with_cfg) for m in modules if hasattr(m, "build_model_with_cfg")]
    try:
        for module, _ in saved:
            module.build_model_with_cfg = capture
        entry(pretrained=False)
    except Captured as error:
        return error.found
    finally:
        for module, build in saved:
            module.build_model_with_cfg = build
    raise RuntimeError(f"{name}: its function does not call build_model_with_cfg")


def cut(name):
    """The arguments that make a timm model small."""
    cls, full = arguments(name)
    defaults = {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items()}
    value = lambda key: full.get(key, defaults.get(key))
    small = {"num_classes": CLASSES}
    size = pair(timm.get_pretrained_cfg(name).input_size[1:]
                if "img_size" not in full else full["img_size"])
    if "depths" in full:
        head = full["embed_dim"] // full["num_heads"][0]
        small |= {"depths": (2, 2), "embed_dim": 2 * head, "num_heads": (2, 4)}
        window = value("window_size")
        small["img_size"] = 8 * window if isinstance(window, int) else 64
        if isinstance(window, tuple):
            # One for each stage: those of the second and the third, on maps of 28×28 and 14×14.
            small |= {"window_size": tuple((n, n) for n in window[1:3]), "img_size": 112}
        if isinstance(full.get("pretrained_window_sizes"), tuple):
            small["pretrained_window_sizes"] = full["pretrained_window_sizes"][:2]
        return small
    head = full["embed_dim"] // full["num_heads"]
    small["depth"] = 2
    if name != "vit_base_mci_224":  # its stem has a fixed width
        small |= {"embed_dim": 2 * head, "num_heads": 2}
    if "embed_layer" in full and hasattr(full["embed_layer"], "keywords"):
        # A convolutional stem: its stride is in the name (s16, s32); 16 where it is not.
        small["img_size"] = 128 if "_s32" in name else 64
    else:
        patch = value("patch_size")
        small["img_size"] = tuple(4 * patch * n // min(size) for n in size)
        small["img_size"] = tuple(n // patch * patch for n in small["img_size"])
    if isinstance(full.get("num_kv_heads"), tuple):
        few = min(full["num_kv_heads"]) != full["num_heads"]
        small["num_kv_heads"] = (2, 1 if few else 2)
    if full.get("attn_pool_num_heads"):
        small["attn_pool_num_heads"] = 2
    if full.get("rel_pos_dim"):
        small["rel_pos_dim"] = head
    return small


def timm_models():
    names = [name for module in MODULES for name in timm.list_models(module=module)]
    return {name: (lambda name=name: timm.create_model(name, **cut(name))) for name in names}


SHAPE = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 96, "image_size": 32, "patch_size": 8, "num_labels": CLASSES}
DINO = {k: v for k, v in SHAPE.items() if k != "intermediate_size"}
SWIN = {"image_size": 56, "patch_size": 4, "embed_dim": 24, "depths": [2, 2], "num_heads": [2, 4],
        "window_size": 7, "num_labels": CLASSES}


def tower(config, model, **more):
    """A model of transformers whose image tower's configuration is nested."""
    vision = {k: v for k, v in SHAPE.items() if k != "num_labels"} | more
    text = {"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 3,
            "intermediate_size": 96, "vocab_size": 99}
    made = getattr(transformers, config)(vision_config=vision, text_config=text,
                                         num_labels=CLASSES)
    return getattr(transformers, model)(made)


def plain(family, shape, model=None, **more):
    config = getattr(transformers, f"{family}Config")(**(shape | more))
    return getattr(transformers, model or f"{family}ForImageClassification")(config)


class SiglipVisionWithClassifier(transformers.SiglipVisionModel):
    """A classifier on the attention pool that transformers' own leaves out."""

    def __init__(self, config):
        super().__init__(config)
        self.classifier = torch.nn.Linear(config.hidden_size, CLASSES)

    def forward(self, pixel_values):
        logits = self.classifier(super().forward(pixel_values).pooler_output)
        return types.SimpleNamespace(logits=logits)


def transformers_models():
    rows = {
        "ViT": ("ViT", SHAPE, {}),
        "ViT, relu": ("ViT", SHAPE, {"hidden_act": "relu"}),
        "ViT, gelu_new": ("ViT", SHAPE, {"hidden_act": "gelu_new"}),
        "ViT, no qkv bias, ε 1e-6": ("ViT", SHAPE, {"qkv_bias": False, "layer_norm_eps": 1e-6}),
        "ViT, oblong": ("ViT", SHAPE, {"image_size": [32, 72]}),
        "ViT, one channel": ("ViT", SHAPE, {"num_channels": 1}),
        "ViTMSN": ("ViTMSN", SHAPE, {}),
        "DeiT": ("DeiT", SHAPE, {}),
        "DeiT with teacher": ("DeiT", SHAPE,
                              {"model": "DeiTForImageClassificationWithTeacher"}),
        "Dinov2": ("Dinov2", DINO, {}),
        "Dinov2, SwiGLU": ("Dinov2", DINO, {"use_swiglu_ffn": True}),
        "Dinov2WithRegisters": ("Dinov2WithRegisters", DINO, {}),
        "Swin": ("Swin", SWIN, {}),
        "Swin, absolute positions": ("Swin", SWIN, {"use_absolute_embeddings": True}),
        "Swinv2": ("Swinv2", SWIN, {}),
        "Beit": ("Beit", SHAPE, {}),
        "Beit, bias tables": ("Beit", SHAPE, {"use_relative_position_bias": True}),
        "Beit, one bias table": ("Beit", SHAPE, {"use_shared_relative_position_bias": True}),
        "Beit, positions, token pool": ("Beit", SHAPE, {"use_absolute_position_embeddings": True,
                                                        "use_mean_pooling": False}),
        "Data2VecVision": ("Data2VecVision", SHAPE, {"use_relative_position_bias": True}),
    }
    models = {name: (lambda row=row: plain(row[0], row[1], **row[2]))
              for name, row in rows.items()}
    models["CLIP vision"] = lambda: tower("CLIPConfig", "CLIPForImageClassification")
    models["CLIP vision, gelu"] = lambda: tower("CLIPConfig", "CLIPForImageClassification",
                                                hidden_act="gelu")
    models["Siglip vision"] = lambda: tower("SiglipConfig", "SiglipForImageClassification")
    models["Siglip vision, attention pool"] = lambda: SiglipVisionWithClassifier(
        transformers.SiglipVisionConfig(**SHAPE))
    return models
