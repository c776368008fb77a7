"""Cuts `upsampled.safetensors` here from the golden set of that name: `make.py FULL.safetensors` (needs numpy).

The first 16 images; intersection and union are counted anew, from the reference's own upsampled maps.
"""

import json
import pathlib
import struct
import sys

import numpy as np

KINDS = {"U8": np.uint8, "F32": np.float32, "F64": np.float64, "I64": np.int64, "I32": np.int32}


def read(path):
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, end = (8 + length + o for o in entry["data_offsets"])
            tensors[name] = np.frombuffer(data[first:end], KINDS[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def write(path, tensors):
    names = {np.dtype(kind): name for name, kind in KINDS.items()}
    header, body = {}, b""
    for name, tensor in sorted(tensors.items()):
        raw = np.ascontiguousarray(tensor).tobytes()
        span = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        body += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


full = read(sys.argv[1])
images = slice(0, 16)
masks, maps = full["masks"][:, images], full["activations_upsampled"][:, images].astype(np.float64)
active = maps > full["thresholds"][:, None, None, None]
inside = masks.astype(bool)
intersection = np.einsum("unhw,cnhw->uc", active.astype(np.int64), inside.astype(np.int64))
union = active.sum((1, 2, 3))[:, None] + inside.sum((1, 2, 3))[None] - intersection
write(
    pathlib.Path(__file__).with_name("upsampled.safetensors"),
    {
        "masks": masks,
        "activations": full["activations"][:, images],
        "thresholds": full["thresholds"],
        "intersection": intersection.astype(np.int64),
        "union": union.astype(np.int64),
    },
)
