"""Times PyTorch training steps on request, with the protocol of the Rust worker.

A dense DeiT step, and the search step as the published code takes it: every candidate of every
attention layer is computed and back-propagated, with the search-time kernel built in each step.
Written from the method's equations; weights are random, the shapes are what is measured.
"""

import argparse
import resource
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

SHAPES = {  # image, patch, channels, classes, dim, depth, heads
    "vit_micro": (28, 4, 1, 10, 64, 6, 4),
    "vit_mini": (32, 4, 3, 100, 128, 6, 4),
    "deit_tiny": (224, 16, 3, 1000, 192, 12, 3),
    "deit_small": (224, 16, 3, 1000, 384, 12, 6),
    "deit_base": (224, 16, 3, 1000, 768, 12, 12),
}


def sample(theta, train):
    """Straight-through sample of gates (Eq. 1)."""
    p = torch.sigmoid(theta)
    u = torch.rand_like(p).clamp(1e-7, 1 - 1e-7)
    logit = torch.log(u) - torch.log(1 - u) + torch.log(p) - torch.log(1 - p)
    soft = torch.sigmoid(logit)
    return (logit > 0).float().detach() + soft - soft.detach() if train else (p > 0.5).float()


class Attention(nn.Module):
    """Multi-head self-attention; with `search`, also both bottleneck convolutions."""

    def __init__(self, dim, heads, side, search):
        super().__init__()
        self.heads, self.side, self.search = heads, side, search
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        if search:
            self.mix = nn.Parameter(torch.randn(heads, 9) * 0.02)
            self.theta = nn.Parameter(torch.full((3,), 1.5))
            self.bn1, self.bn3 = nn.BatchNorm2d(dim // heads), nn.BatchNorm2d(dim // heads)

    def msa(self, x):
        b, t, dim = x.shape
        d = dim // self.heads
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d).permute(2, 0, 3, 1, 4)
        a = (q @ k.transpose(-2, -1) * d**-0.5).softmax(-1)
        return self.proj((a @ v).transpose(1, 2).reshape(b, t, dim))

    def bconv(self, x, kernel):
        b, t, dim = x.shape
        h, d, side = self.heads, dim // self.heads, self.side
        p = (self.mix / 0.01).softmax(0)
        p = p if kernel == 3 else p[:, 4:5]
        value = self.qkv.weight[2 * dim :].reshape(h, d, dim)
        weight = torch.einsum("hk,hdi->dik", p, value).reshape(d, dim, kernel, kernel)
        bias = torch.einsum("hk,hd->d", p, self.qkv.bias[2 * dim :].reshape(h, d))
        out = torch.einsum("hk,ohd->od", p, self.proj.weight.reshape(dim, h, d))
        image = x[:, 1:].transpose(1, 2).reshape(b, dim, side, side)
        y = F.conv2d(image, weight, bias, padding=kernel // 2)
        y = F.relu((self.bn3 if kernel == 3 else self.bn1)(y))
        y = F.conv2d(y, out[:, :, None, None], self.proj.bias)
        return torch.cat([x[:, :1], y.flatten(2).transpose(1, 2)], 1)

    def forward(self, x):
        if not self.search:
            return self.msa(x)
        g = torch.cumprod(sample(self.theta, True), 0)
        one, three, msa = self.bconv(x, 1), self.bconv(x, 3), self.msa(x)
        return g[0] * (1 - g[1]) * (1 - g[2]) * one + g[1] * (1 - g[2]) * three + g[2] * msa


class Ffn(nn.Module):
    """Feed-forward network; with `search`, gated."""

    def __init__(self, dim, search):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.theta = nn.Parameter(torch.full((4 * dim,), 1.5)) if search else None

    def forward(self, x):
        x = F.gelu(self.fc1(x))
        return self.fc2(x if self.theta is None else x * sample(self.theta, True))


class Block(nn.Module):
    def __init__(self, dim, heads, side, search):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.attn, self.mlp = Attention(dim, heads, side, search), Ffn(dim, search)

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    def __init__(self, shape, search):
        super().__init__()
        image, patch, channels, classes, dim, depth, heads = SHAPES[shape]
        side = image // patch
        self.embed = nn.Conv2d(channels, dim, patch, patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(torch.randn(1, side * side + 1, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads, side, search) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim, 1e-6), nn.Linear(dim, classes)

    def cost(self):
        """A budget term of the expected gates, so that its part of the step is timed too."""
        total = 0.0
        for block in self.blocks:
            for theta in (block.attn.theta, block.mlp.theta):
                p = torch.sigmoid(theta)
                q = torch.sigmoid(p - 0.5)
                total = total + ((p > 0.5).float() + q - q.detach()).sum()
        return (total * 1e-3 - 0.6) ** 2

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.pos
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="vit_mini", choices=SHAPES)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    image, _, channels, classes, *_ = SHAPES[options.shape]
    # As spvit's own: parameters in float32, products in the lower type.
    low = torch.autocast(options.device, torch.bfloat16, enabled=options.dtype == "bfloat16")
    x = torch.randn(options.batch, channels, image, image).to(options.device)
    y = (torch.arange(options.batch) % classes).to(options.device)
    models, optimisers = {}, {}

    def model(name):
        if name not in models:
            own = Vit(options.shape, name == "search").to(options.device).train()
            optimisers[name] = torch.optim.AdamW(own.parameters(), 1e-4)
            models[name] = (own, torch.compile(own) if options.compile else own)
        return models[name]

    def step(name):
        own, forward = model(name)
        with low:
            loss = F.cross_entropy(forward(x), y)
        if name == "search":
            loss = loss + own.cost()
        optimisers[name].zero_grad()
        loss.backward()
        optimisers[name].step()

    for line in sys.stdin:
        name = line.strip()
        if name == "memory":
            host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            own = torch.cuda.max_memory_reserved() / 2**20 if options.device == "cuda" else host
            print(own, flush=True)
            continue
        began = time.perf_counter()
        if name == "dense_forward":
            with torch.no_grad(), low:
                model("dense")[1](x)
        else:
            step(name)
        if options.device != "cpu":
            torch.cuda.synchronize()
        print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
