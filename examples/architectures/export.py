"""Exports networks of torchvision, with random weights, as TorchScript, scripted and traced.

In a Python environment with torch and torchvision:  python export.py FOLDER
"""

import pathlib
import sys

import torch
import torchvision.models as models

NAMES = """resnet18 resnet50 vgg11_bn densenet121 googlenet inception_v3 squeezenet1_1 mobilenet_v2 mobilenet_v3_small
shufflenet_v2_x1_0 efficientnet_b0 convnext_tiny regnet_y_400mf vit_b_16 swin_t""".split()


def randomise(model, generator):
    """Fresh normalisations scale by 1 and shift by 0, and fresh layer scales are tiny: that hides mistakes."""
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.2, generator=generator)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1 and name.endswith("bias"):
                parameter.normal_(0, 0.2, generator=generator)
            elif parameter.dim() == 1 or name.endswith("layer_scale"):
                parameter.uniform_(0.5, 1.5, generator=generator)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        more = {"init_weights": True, "transform_input": False} if name in ("googlenet", "inception_v3") else {}
        model = getattr(models, name)(weights=None, **more).eval()
        randomise(model, generator)
        size = 299 if name == "inception_v3" else 224
        example = torch.randn(1, 3, size, size, generator=generator)
        with torch.no_grad():
            torch.jit.script(model).save(str(folder / f"{name}.scripted.pt"))
            torch.jit.trace(model, example, check_trace=False).save(str(folder / f"{name}.traced.pt"))
        print(name, flush=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
