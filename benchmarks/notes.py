"""Why a target is not met, by row: what bounds it and what was tried, in words without figures.

Shown beside a row only while it misses its target; the figures and the profile of the same run
stand next to it.
"""

_PREFILL = (
    "the matrix products run near the measured rate; what stands between is attention with a full "
    "mask, the sparsity's statistics and the gate in separate passes over memory. Next: causal "
    "attention without a mask, and gate, cutoff, GELU and product in one pass"
)
_DECODE = (
    "bound by products of one row, which torch's kernels read slower than memory allows, and then "
    "by hundreds of small operations a token"
)
_FIRST = (
    "two to three reads of the encoder (the last chunk, the silence behind it, the flush) and one "
    "of the decoder, each with more time a byte than memory needs. Next: chunk and silence in one "
    "encoder step, kernels for few rows in the encoder, and for the ten or so rows of the last pass"
)
_MEMORY = (
    "beyond weights that one token reads, half a gigabyte is the import of torch with its "
    "accelerator libraries, before any weight is mapped. Next: a build of torch for CPUs only"
)
_ENCODER = (
    "a step multiplies four rows by every matrix, which torch's bf16 product does at a fraction of "
    "the read bandwidth, and copies between types. Next: the decoder's kernels for few rows here"
)
_LIVE = (
    "the encoder's steps alone take most of real time (see its row), and every soft token is a "
    "pass of its own over the decoder. Next: the encoder's kernels; soft tokens prefilled in groups"
)

NOTES: dict[str, str] = {
    **{f"prefill_{n}_bf16{size}": _PREFILL for n in (256, 512) for size in ("", "_e4b")},
    **{f"decode_{form}": _DECODE for form in ("bf16", "int8", "int4")},
    **{f"first_token_after_{seconds}s": _FIRST for seconds in (5, 10, 28)},
    **{f"memory_{form}": _MEMORY for form in ("bf16", "int8", "int4")},
    "encoder_stream_30s": _ENCODER,
    "live_e2b_int8": _LIVE,
}
