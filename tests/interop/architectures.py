"""Writes what the names of timm's architectures say and tensors do not.

    python architectures.py > ../../crates/spvit-interchange/src/detect/timm.txt

A line: facts, a colon, the names that have them. DIM/HEADS come first, of Swin for every stage
HEADS,HEADS,..; pool is token, act gelu and eps 1e-6 where they are left out.
"""

import warnings

import small

ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu",
               "ReLU": "relu"}
POST_NORM = ("ResPostBlock", "EvaBlockPostNorm", "ResPostRelPosBlock")


def size(value):
    return "x".join(str(n) for n in small.pair(value))


def activation(block):
    for module in getattr(block, "mlp", block).modules():
        if type(module).__name__ in ACTIVATIONS:
            return ACTIVATIONS[type(module).__name__]
    return "unknown"


def facts(name, make):
    _, full = small.arguments(name)
    model = make()
    if "depths" in full:
        out = [f"{full['embed_dim']}/{','.join(map(str, full['num_heads']))}"]
        windows = full.get("window_size", 7)
        if not name.startswith("swinv2_cr"):
            windows = windows if isinstance(windows, tuple) else [windows]
            out.append(f"window={','.join(map(str, windows))}")
        block, pool = model.get_submodule(
            "layers.0.blocks.0" if hasattr(model, "layers") else "stages.0.blocks.0"), "avg"
    else:
        out = [f"{full['embed_dim']}/{full['num_heads']}"]
        block = model.blocks[0]
        pool = model.global_pool
        # EVA's attention pool looks at them, too.
        eva = type(model).__name__ == "Eva" and pool == "map"
        if eva or getattr(model, "pool_include_prefix", False) and pool != "prr":
            pool += "+prefix"
        names = dict(model.named_parameters())
        if not any(name in names for name in ("norm.weight", "fc_norm.weight")):
            out.append("no-norm")
        if type(block).__name__ in POST_NORM:
            out.append("post-norm")
        if isinstance(full.get("img_size"), tuple) and len(set(full["img_size"])) > 1:
            out.append(f"image={size(full['img_size'])}")
        if full.get("use_rot_pos_emb"):
            out.append(f"rope={full.get('rope_type', 'cat')}")
            out.append(f"theta={full.get('rope_temperature', 10000.0):g}")
            if full.get("ref_feat_shape"):
                out.append(f"reference={size(full['ref_feat_shape'])}")
            if full.get("rope_grid_indexing", "ij") == "xy":
                out.append("xy")
            if full.get("rope_grid_offset"):
                out.append(f"offset={full['rope_grid_offset']:g}")
            if full.get("rope_rotate_half"):
                out.append("halves")
    norm = next(m for m in block.modules() if hasattr(m, "eps"))
    epsilon, act = f"{norm.eps:g}".replace("e-0", "e-"), activation(block)
    out += [f"pool={pool}"] if pool != "token" else []
    heads = full.get("attn_pool_num_heads")
    out += [f"pool-heads={heads}"] if heads else []
    out += [f"act={act}"] if act != "gelu" else []
    out += [f"eps={epsilon}"] if epsilon != "1e-6" else []
    return " ".join(out)


def main():
    warnings.filterwarnings("ignore")
    lines = {}
    for name, make in small.timm_models().items():
        lines.setdefault(facts(name, make), []).append(name)
    order = lambda item: (int(item[0].split("/")[0]), item[0])
    for text, names in sorted(lines.items(), key=order):
        print(f"{text}: {' '.join(sorted(names))}")


if __name__ == "__main__":
    main()
