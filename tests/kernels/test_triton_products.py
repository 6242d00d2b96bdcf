"""Triton's products with quantized weights, by its interpreter, against the definition."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

SCRIPT = """
import sys, torch
from dragoman.decoder import quantize, storage
from dragoman.kernels import triton_products

form, outputs, inputs, rows = sys.argv[1], *map(int, sys.argv[2:])
generator = torch.Generator().manual_seed(1)
weight = torch.randn(outputs, inputs, generator=generator)
codes, scale = quantize.quantized(form, weight)
x = torch.randn(rows, inputs, generator=generator)
found = triton_products.unpacked(form, codes, scale, torch.float32)
assert torch.equal(found, storage.unpacked(form, codes, scale, torch.float32))
for codes, scale, x in (
    (codes, scale, x),
    (codes[1:3, : codes.shape[1] // 2], scale[1:3, : scale.shape[1] // 2], x[:, : inputs // 2]),
):
    found = triton_products.product(form, x, codes, scale)
    expected = storage.product(form, x, codes, scale)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
"""


@pytest.mark.parametrize("form", ["int8", "int4"])
@pytest.mark.parametrize(
    ("outputs", "inputs", "rows"), [(64, 512, 3), (48, 256, 17), (64, 768, 70)]
)
def test_numbers_and_products_are_those_of_the_definition(form, outputs, inputs, rows):
    """Of whole matrices and of views of some blocks and columns; more words than a tile has."""
    command = [sys.executable, "-c", SCRIPT, form, *map(str, (outputs, inputs, rows))]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
