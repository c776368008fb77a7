"""A scripted network of which one pass shows only a part: a second method, a branch on the size of the input, a flag.
Usage: python make.py OUT"""
import sys, torch, torch.nn as nn, torch.nn.functional as F

class Paths(nn.Module):
    def __init__(s):
        super().__init__(); s.stem = nn.Conv2d(3, 6, 1); s.mid = nn.Conv2d(6, 5, 1); s.tail = nn.Conv2d(5, 4, 1)
        s.down = nn.Conv2d(4, 4, 1); s.head = nn.Linear(4, 3); s.project = nn.Linear(6, 2)
    def forward(s, x):
        x = F.relu(s.tail(F.relu(s.mid(F.relu(s.stem(x))))))
        if x.size(2) > 8: x = F.relu(s.down(x))
        return s.head(x.mean([2, 3]))
    @torch.jit.export
    def embed(s, x): return s.project(F.relu(s.stem(x)).mean([2, 3]))
    @torch.jit.export
    def probabilities(s, x): return s.forward(x).softmax(1)

torch.manual_seed(0); torch.jit.script(Paths().eval()).save(sys.argv[1] + "/paths.pt")
