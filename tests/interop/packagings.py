"""The ways in which people pack a state dict into a file.

`PACKAGINGS` maps a file name to a function (path, state dict) that writes it. The reader must
give the same tensors for each of them.
"""

import argparse
import collections

import numpy
import safetensors.torch
import torch


def training_checkpoint(state, key="model"):
    """What a training script saves: the weights among an optimizer, arguments and counters."""
    weights = [torch.nn.Parameter(t.clone()) for t in state.values() if t.is_floating_point()]
    optimizer = torch.optim.AdamW(weights, lr=1e-3)
    for w in weights:
        w.grad = torch.ones_like(w)
    optimizer.step()
    return {
        key: collections.OrderedDict(state),
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": {"base_values": [1e-3], "metric": None},
        "epoch": 7,
        "best_accuracy": numpy.float64(71.5),
        "arch": "deit",
        "scaler": {},
        "args": argparse.Namespace(lr=1e-3, data_set="IMNET", betas=(0.9, 0.999), dims=[1, 2]),
    }


def zipped(value):
    return lambda path, state: torch.save(value(state), path)


def legacy(value):
    return lambda path, state: torch.save(
        value(state), path, _use_new_zipfile_serialization=False)


def plain(state):
    return collections.OrderedDict(state)


def parameters(state):
    """A state dict taken without detaching: floating-point tensors are parameters."""
    return {k: torch.nn.Parameter(t) if t.is_floating_point() else t for k, t in state.items()}


def prefixed(state):
    return collections.OrderedDict(("module." + k, t) for k, t in state.items())


def with_ema(state):
    """`model_ema` beside `model`: the plain weights are preferred, whatever the order."""
    ema = {k: torch.zeros_like(t) for k, t in state.items()}
    return {"model_ema": ema, "model": plain(state)}


def strided(state):
    """The same values from a shared storage, and transposed where a tensor is a matrix."""
    out = {}
    for name, t in state.items():
        out[name] = t.t().contiguous().t() if t.dim() == 2 else torch.stack([t, t], dim=-1)[..., 1]
    return out


PACKAGINGS = {
    "plain.zip.pth": zipped(plain),
    "plain.legacy.pth": legacy(plain),
    "protocol4.zip.pth": lambda path, state: torch.save(plain(state), path, pickle_protocol=4),
    "parameters.zip.pth": zipped(parameters),
    "training.zip.pth": zipped(lambda s: training_checkpoint(prefixed(s))),
    "training.legacy.pth": legacy(lambda s: training_checkpoint(prefixed(s))),
    "state_dict.zip.pth": zipped(lambda s: {"state_dict": prefixed(s), "epoch": 3}),
    "state_dict.legacy.pth": legacy(lambda s: {"state_dict": prefixed(s), "epoch": 3}),
    "model_ema.zip.pth": zipped(lambda s: {"model_ema": plain(s), "args": None}),
    "both.zip.pth": zipped(with_ema),
    "strided.zip.pth": zipped(strided),
    "strided.legacy.pth": legacy(strided),
    "model.safetensors": lambda path, state: safetensors.torch.save_file(
        {k: t.contiguous().clone() for k, t in state.items()}, path, metadata={"format": "pt"}),
}


def reference(state):
    """What the reader must give: contiguous float32, and no integer tensors."""
    return {k: t.detach().float().contiguous().clone()
            for k, t in state.items() if t.is_floating_point()}
