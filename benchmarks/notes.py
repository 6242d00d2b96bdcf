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
    "between threads, and small steps around the layers. Next: the streams' projections in the "
    "same call"
)
_FIRST = (
    "one close of the encoder, and one decoder pass over the waiting soft tokens and the suffix, "
    "most of the time (see `where`). Next: cheaper rows in that pass"
)
_MEMORY = (
    "beyond the weights, mostly what importing a CUDA build of torch writes (tables, "
    "registrations, Python modules). The same weights in bf12 are well below the target. Next: a "
    "CPU-only build of torch"
)
_ENCODER = (
    "these are bf16 weights, mapped as they are stored: a step is one call, most of it their "
    "reading, and at the very speed of the memory the target would just be met. The same weights "
    "in bf12, of which nothing is lost, are fewer bytes: see the row of the bf12 tower. Tried: "
    "four outputs together, weights asked for in the order of use, all blocks as one recorded "
    "call. Next: subsampling in the same call"
)
_ENCODER_BF12 = (
    "most of a step is the reading of weights, below the speed of the memory; the front end and "
    "the convolutions before the Conformer take about as long as what is missed. Tried: three "
    "outputs together (four leave no registers for what is unpacked), long rows part by part, "
    "large pages. Next: the convolutions in the same call"
)
_LIVE = (
    "a pass for each new token, and two passes an update over all that was said, which the newest "
    "audio changes. Next: cheaper rows"
)

NOTES: dict[str, str] = {
    **{f"prefill_{n}_bf16{size}": _PREFILL for n in (256, 512) for size in ("", "_e4b")},
    "decode_bf16": _DECODE,
    **{f"first_token_after_{seconds}s": _FIRST for seconds in (5, 10, 28)},
    "memory_bf16": _MEMORY,
    "encoder_stream_30s": _ENCODER,
    "encoder_stream_30s_bf12": _ENCODER_BF12,
    "live_e2b_int8": _LIVE,
}
