"""The cut of torch_pruning_rival.py: Torch-Pruning brings a small ViT down to a budget.

One step of its pruner, as in its own examples for ViTs, at the smallest ratio that meets the budget.
With heads the same ratio holds for heads and hidden dimensions, which the library ranks apart; what
whole heads leave of the budget goes to hidden dimensions. The library passes over a layer of which it
would remove everything, and the layer is whole again: ratios are searched from below, and that of
heads ends where a block would lose its last one.
"""
import copy
import warnings

import torch
import torch_pruning
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.functional import cross_entropy

SIDE = 28
HEADS = 4
IMPORTANCES = {
    "taylor": torch_pruning.importance.GroupTaylorImportance,
    "hessian": torch_pruning.importance.GroupHessianImportance,
    "magnitude": lambda: torch_pruning.importance.GroupMagnitudeImportance(p=2),
    "random": torch_pruning.importance.RandomImportance,
}


class Unreachable(Exception):
    """No ratio meets the budget."""


def read_dense(path):
    """The dense model of a safetensors file with timm's names."""
    state = load_file(path)
    model = VisionTransformer(img_size=SIDE, patch_size=4, in_chans=1,
                              num_classes=len(state["head.bias"]), embed_dim=64, depth=6,
                              num_heads=HEADS, mlp_ratio=4.0)
    model.load_state_dict(state)
    return model.eval()


def example():
    return torch.zeros(1, 1, SIDE, SIDE)


@torch.no_grad()
def macs(model):
    """Products of all linear layers and convolutions for one image, and attention's two; no norms."""
    total = 0

    def count(module, _, output):
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    model(example())
    for hook in hooks:
        hook.remove()
    tokens = model.pos_embed.shape[1]
    return total + sum(2 * tokens**2 * block.attn.attn_dim for block in model.blocks)


def gradients(model, importance, images, labels, batch):
    """What an importance needs of every parameter: the gradient, or the mean of the images' squares.

    GroupHessianImportance.accumulate_grad of release 1.6.1 looks for names among tensors, and so
    forgets all images but the last; the sum is made here instead.
    """
    sums = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    if importance in ("magnitude", "random"):
        return sums
    parts = 1 if importance == "hessian" else batch
    for some, classes in zip(images.split(parts), labels.split(parts)):
        model.zero_grad()
        cross_entropy(model(some), classes, reduction="sum").backward()
        for name, value in model.named_parameters():
            sums[name] += value.grad.square() if importance == "hessian" else value.grad
    model.zero_grad()
    return {name: value / len(images) for name, value in sums.items()}


class Cutter:
    """Cuts copies of a dense model."""

    def __init__(self, dense, importance, what, everywhere, seed, grads):
        self.dense, self.importance, self.heads = dense, importance, what == "heads_ffn"
        self.everywhere, self.seed, self.grads = everywhere, seed, grads
        self.dense_macs = macs(dense)

    def cut(self, width, heads):
        """A copy cut at two ratios; the heads and hidden dimensions that each block keeps; whether
        the library took the last head of a block for gone."""
        torch.manual_seed(self.seed)  # of the random importance
        model = copy.deepcopy(self.dense)
        for name, value in model.named_parameters():
            value.grad = self.grads[name].clone()
        # Nothing but a block's inside: whatever changes the residual stream is left alone.
        ignored = [model.patch_embed.proj, model.head]
        for block in model.blocks:
            ignored += [block.attn.proj, block.mlp.fc2] + ([] if self.heads else [block.attn.qkv])
        num_heads = {block.attn.qkv: HEADS for block in model.blocks} if self.heads else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the embeddings' parameters, which stay as they are
            pruner = torch_pruning.pruner.BasePruner(
                model, example(), IMPORTANCES[self.importance](), isomorphic=False,
                global_pruning=self.everywhere, pruning_ratio=width, head_pruning_ratio=heads,
                num_heads=num_heads, prune_num_heads=True, prune_head_dims=False,
                # The library's defaults are dicts that all its pruners share.
                ignored_layers=ignored, in_channel_groups={}, out_channel_groups={})
            gone = {}
            for group in pruner.step(interactive=True):
                for dependency, indices in group:
                    if dependency.handler == torch_pruning.prune_linear_in_channels:
                        gone[dependency.target.module] = set(indices)
                group.prune()
        kept = [self.repair(block, gone) for block in model.blocks]
        return model, kept, 0 in num_heads.values()

    def repair(self, block, gone):
        """Tells timm's attention how many heads are left; the heads and hidden dimensions kept."""
        attention, mlp = block.attn, block.mlp
        lost = gone.get(attention.proj, ())
        values = [index for index in range(HEADS * attention.head_dim) if index not in lost]
        heads = sorted({index // attention.head_dim for index in values})
        count = attention.proj.in_features
        assert len(values) == len(heads) * attention.head_dim == count
        assert attention.qkv.out_features == 3 * count
        attention.num_heads, attention.attn_dim = len(heads), count
        lost = gone.get(mlp.fc2, ())
        before = mlp.fc1.out_features + len(lost)
        return heads, [index for index in range(before) if index not in lost]

    def most_heads(self):
        """The largest ratio of heads at which every block keeps one."""
        total = HEADS * len(self.dense.blocks) if self.heads else 0
        ratios = [0.0] + [(count - 0.5) / total for count in range(1, total + 1)]
        for below, ratio in zip(ratios, ratios[1:]):
            if self.cut(1e-3, ratio)[2]:
                return below
        return ratios[-1]

    def to(self, budget):
        """The largest cut model of at most this share of the MACs, and what its blocks keep."""
        most = self.most_heads()

        def share(width, heads):
            return macs(self.cut(width, heads)[0]) / self.dense_macs

        def smallest(low, high, fits):
            for _ in range(12):
                middle = (low + high) / 2
                low, high = (low, middle) if fits(middle) else (middle, high)
            return high

        least = 1.0
        for step in range(1, 100):
            ratio = step / 100
            found = share(ratio, min(ratio, most))
            least = min(least, found)
            if found <= budget:
                break
        else:
            raise Unreachable(f"a budget of {budget} cannot be met: this cut comes down to {least:.4f}"
                              " of the dense model's MACs; beyond, layers would have nothing left, and"
                              " the library leaves such layers whole")
        ratio = smallest(ratio - 0.01, ratio,
                         lambda middle: share(middle, min(middle, most)) <= budget)
        heads = min(ratio, most)
        width = smallest(0.0, ratio, lambda middle: share(middle, heads) <= budget)
        return self.cut(width, heads)[:2]


@torch.no_grad()
def difference(dense, model, kept, images):
    """The largest difference of logits from those of the dense model whose cut weights are 0."""
    masked = copy.deepcopy(dense)
    for block, (heads, hidden) in zip(masked.blocks, kept):
        attention, mask = block.attn, torch.zeros(block.mlp.fc2.in_features)
        mask[hidden] = 1
        block.mlp.fc2.weight *= mask
        mask = torch.zeros(HEADS, attention.head_dim)
        mask[heads] = 1
        attention.proj.weight *= mask.flatten()
    return (masked(images) - model(images)).abs().max().item()
