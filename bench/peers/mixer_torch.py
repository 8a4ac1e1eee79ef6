"""Time PyTorch's mixers on the sizes of wedge's mixer_bench; prints JSON lines (see timing.py).

Groups: `mixer` is B x L = 32x128, 512x128 and 32x256; `length` is L from 128 to 65,536 with 65,536 tokens a call.
Attention is scaled_dot_product_attention between its two products, the Grassmann mixer follows its definition lag by lag;
each in several forms.
"""

import torch

import timing
from reference_models import CausalAttention, GrassmannMixer, ModelConfig


def sizes(args):
    tokens = 2048 if args.quick else 65536
    if "mixer" in args.groups:
        for batch, length in [(4, 32)] if args.quick else [(32, 128), (512, 128), (32, 256)]:
            yield "mixer", batch, length
    length = 128
    while "length" in args.groups and length <= (256 if args.quick else tokens):
        yield "length", tokens // length, length
        length *= 2


def main():
    args = timing.parse_arguments(__doc__, ["mixer", "length"])
    for group, batch, length in sizes(args):
        for name, mixer_class in (("grassmann", GrassmannMixer), ("attention", CausalAttention)):
            config = ModelConfig(name)
            mixer = mixer_class(config, 0).to(args.device)
            forms = timing.forms_of(mixer) if name == "grassmann" else {"plain": mixer, "cudnn": mixer}
            timing.report(args, f"{group}/{name}/{batch}x{length}", forms,
                          [lambda: torch.randn(batch, length, config.d_model)], list(mixer.parameters()))


if __name__ == "__main__":
    main()
