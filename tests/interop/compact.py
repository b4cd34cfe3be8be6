"""SPViT's compact form as a plain PyTorch module: reads our safetensors as they are."""
from torch import cat, nn, zeros


class Msa(nn.Module):
    def __init__(self, dim, heads, width):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * width), nn.Linear(width, dim)

    def forward(self, x, grid):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).flatten(2))


class BConv(nn.Module):
    def __init__(self, dim, inner, kernel, eps):
        super().__init__()
        self.bconv = nn.Sequential(nn.Conv2d(dim, inner, kernel, padding=kernel // 2),
                                   nn.BatchNorm2d(inner, eps), nn.ReLU(), nn.Conv2d(inner, dim, 1))

    def forward(self, x, grid):
        patches = self.bconv(x[:, 1:].transpose(1, 2).unflatten(2, grid))
        return cat([x[:, :1], patches.flatten(2).transpose(1, 2)], dim=1)


class Ffn(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x):
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Bias(nn.Module):
    """What is left of an FFN without hidden dimensions."""
    def __init__(self, dim):
        super().__init__()
        self.bias = nn.Parameter(zeros(dim))

    def forward(self, x):
        return self.bias


class Block(nn.Module):
    def __init__(self, net, block):
        super().__init__()
        dim, heads, op = block["dim"], block["heads"], block["operation"]
        self.norm1, self.norm2 = (nn.LayerNorm(dim, block["epsilon"]) for _ in range(2))
        self.attn = (lambda x, grid: x if block["shortcut_adds_norm"] else 0) if op == "shortcut" \
            else Msa(dim, block["kept_heads"], block["kept_heads"] * dim // heads) if op == "msa" \
            else BConv(dim, dim // heads, op["bconv"]["kernel"], net["batch_norm_epsilon"])
        self.mlp = Ffn(dim, block["hidden"]) if block["hidden"] else Bias(dim)

    def forward(self, x, grid):
        x = x + self.attn(self.norm1(x), grid)
        return x + self.mlp(self.norm2(x))


class CompactViT(nn.Module):
    def __init__(self, net):
        super().__init__()
        dim, size = net["dim"], net["patch_size"]
        self.grid = [n // size for n in net["image_size"]]
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(net["channels"], dim, size, size)})
        self.cls_token = nn.Parameter(zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(zeros(1, self.grid[0] * self.grid[1] + 1, dim))
        self.blocks = nn.ModuleList(Block(net, block) for block in net["blocks"])
        self.norm = nn.LayerNorm(dim, net["epsilon"])
        self.head = nn.Linear(dim, net["classes"])

    def forward(self, image):
        x = self.patch_embed["proj"](image).flatten(2).transpose(1, 2)
        x = cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x, self.grid)
        return self.head(self.norm(x[:, 0]))
