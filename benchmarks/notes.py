"""Why a target is not met, by row: what bounds it and what was tried, in words without figures.

Shown beside a row only while it misses its target; the figures and the profile of the same run
stand next to it.
"""

_PREFILL = (
    "closed gates of the sparse layers are skipped, which the limit counts as work; the rest is "
    "mostly torch's matrix products. Next: no masks where nobody reads them"
)
_DECODE = (
    "the layers are one call; what is left is matrices too small to be read at full speed, waits "
    "between threads, and rows of `up` behind closed gates, which are read although they count for "
    "nothing. Next: leave those out"
)
_FIRST = (
    "one close of the encoder, and one decoder pass over the waiting soft tokens and the suffix, "
    "most of the time (see `where`). Next: cheaper rows in that pass"
)
_MEMORY = (
    "beyond the weights, what a CUDA build of torch writes when it is imported, and the "
    "tokenizer's tables. Next: a build of torch for CPUs only; the audio tower quantized "
    "(`--dtype` with `+audio`)"
)
_ENCODER = (
    "a step is the reading of the weights by products of four rows, which lose some of the "
    "bandwidth where inputs are many; the rest is calls between them. Next: products split over "
    "inputs, the blocks as one recorded call, quantized weights"
)
_LIVE = (
    "a pass for each new token, and two passes an update over all that was said, which the newest "
    "audio changes. Next: cheaper rows; the decoder on all cores in the graph"
)

NOTES: dict[str, str] = {
    **{f"prefill_{n}_bf16{size}": _PREFILL for n in (256, 512) for size in ("", "_e4b")},
    **{f"decode_{form}": _DECODE for form in ("bf16", "int8", "int4")},
    **{f"first_token_after_{seconds}s": _FIRST for seconds in (5, 10, 28)},
    **{f"memory_{form}": _MEMORY for form in ("bf16", "int8", "int4")},
    "encoder_stream_30s": _ENCODER,
    "live_e2b_int8": _LIVE,
}
