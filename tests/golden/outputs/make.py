"""Writes `dict.pt` here: a network that returns a dictionary, `features` and `logits` (needs torch)."""

import pathlib

import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 6, 3, padding=1)
        self.head = torch.nn.Linear(6, 10)

    def forward(self, x):
        features = torch.relu(self.conv(x))
        return {"features": features, "logits": self.head(features.mean([2, 3]))}


torch.manual_seed(0)
torch.jit.script(Net().eval()).save(str(pathlib.Path(__file__).parent / "dict.pt"))
