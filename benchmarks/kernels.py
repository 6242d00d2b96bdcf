"""What single kernels bring against torch's own operation: the table of kernels/README.md.

    python -m benchmarks.kernels [products | sparse | pieces]

Both sides take turns in one thread and are timed in CPU time, so that other work on the machine
counts for little; medians of ROUNDS turns are printed. Products go through several matrices in
turn, so that weights come from memory, as they do in a decode step. ONEDNN_MAX_CPU_ISA shows what
torch does on other CPUs.
"""

import sys
import time
from collections.abc import Callable
from statistics import NormalDist, median

import torch
import torch.nn.functional as F
from torch import Tensor

from dragoman.decoder.layers import opened
from dragoman.decoder.quantize import quantized
from dragoman.kernels import conformer_ops, gates, products

ROUNDS = 9
WIDTH, HIDDEN, MATRICES = 2048, 8192, 6
GROUP = 32  # of torch's int4
DEVIATIONS = NormalDist().inv_cdf(0.95)  # of sparse layers
HALF = torch.bfloat16
Side = Callable[[], object]


def main() -> None:
    torch.set_num_threads(1)
    parts = {"products": by_products, "sparse": by_sparse, "pieces": by_pieces}
    with torch.inference_mode():
        for name in sys.argv[1:] or parts:
            parts[name]()


def compare(name: str, ours: Side, theirs: Side) -> None:
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        for side, times in zip((ours, theirs), spent, strict=True):
            start = time.thread_time()
            side()
            if number:  # the first turn makes kernels
                times.append(1e3 * (time.thread_time() - start))
    a, b = map(median, spent)
    print(
        f"{name:<32} ours {a:8.2f} ms   torch {b:8.2f} ms   torch / ours {b / a:5.2f}", flush=True
    )


def by_products() -> None:
    """int8, int4 and bf16 weights [HIDDEN, WIDTH]."""
    weights = [0.02 * torch.randn(HIDDEN, WIDTH) for _ in range(MATRICES)]
    halves = [weight.to(HALF) for weight in weights]
    ours = {form: [quantized(form, weight) for weight in weights] for form in ("int8", "int4")}
    int8 = [_int8(weight) for weight in weights]
    int4 = [_int4() for _ in weights]
    pack8 = torch.ops.aten._weight_int8pack_mm
    pack4 = torch.ops.aten._weight_int4pack_mm_for_cpu
    for rows in (1, 4, 16, 64):
        x = torch.randn(rows, WIDTH).to(HALF)

        def own(form: str, x: Tensor = x) -> Side:
            return lambda: [products.quantized_linear(form, x, *stored) for stored in ours[form]]

        compare(
            f"int8, {rows} rows", own("int8"),
            lambda x=x: [pack8(x, *stored) for stored in int8],
        )  # fmt: skip
        compare(
            f"int4, {rows} rows", own("int4"),
            lambda x=x: [pack4(x, codes, GROUP, scale) for codes, scale in int4],
        )  # fmt: skip
        compare(
            f"bf16, {rows} rows",
            lambda x=x: [products.linear(x, weight) for weight in halves],
            lambda x=x: [F.linear(x, weight) for weight in halves],
        )


def by_sparse() -> None:
    """A sparse feed-forward behind its gate, in bf16."""
    up, down = torch.randn(HIDDEN, WIDTH).to(HALF), torch.randn(WIDTH, HIDDEN).to(HALF)
    for tokens in (64, 256, 512):
        x, gate = torch.randn(tokens, WIDTH).to(HALF), torch.randn(tokens, HIDDEN).to(HALF)

        def dense(x: Tensor = x, gate: Tensor = gate) -> Tensor:
            return F.linear(gates.gated(opened(gate, DEVIATIONS), F.linear(x, up)), down)

        compare(
            f"sparse feed-forward, {tokens} tokens",
            lambda x=x, gate=gate: gates.sparse_mlp(gate, x, up, down, DEVIATIONS),
            dense,
        )


def by_pieces() -> None:
    """What lies between the products of a prompt of 256 tokens."""
    x, weight = torch.randn(256, WIDTH).to(HALF), torch.ones(WIDTH).to(HALF)
    compare(
        f"RMS norm, {tuple(x.shape)}",
        lambda: conformer_ops.norm(x, weight, 1e-6),
        lambda: F.rms_norm(x, (WIDTH,), weight, 1e-6),
    )
    gate, up = torch.randn(2, 256, HIDDEN).to(HALF)
    compare(
        f"GELU(gate) * up, {tuple(gate.shape)}",
        lambda: gates.gated(gate, up),
        lambda: F.gelu(gate, approximate="tanh") * up,
    )


def _int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """torch's form: one scale for each output."""
    scale = weight.abs().amax(1) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale.to(HALF)


def _int4() -> tuple[Tensor, Tensor]:
    """torch's form of random codes; scale and zero for each group."""
    codes = torch.randint(0, 16, (HIDDEN, WIDTH), dtype=torch.int32)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    return packed, torch.randn(WIDTH // GROUP, HIDDEN, 2).to(HALF)


if __name__ == "__main__":
    main()
