"""How late, how steady and how good captions are by commit policy, updates and endpoint.

    python -m evaluation.curves --minutes 2

One talk is heard as fast as possible once for each setting, so lateness is that of the sound alone
(CU). The presets of :mod:`stages.policies.presets` are chosen from its table. With `--presets
--real-time --minutes 10` they are heard as they would be spoken, and what a listener waits (CA) and
the lag at minute 10 are told as well.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dragoman.pipeline.session import Pace
from dragoman.pipeline.start import session_options
from dragoman.spec import ModelSpec
from dragoman.stages.messages import CHUNK_MS, SessionOptions
from dragoman.stages.policies.presets import PRESETS
from evaluation.longform import measure
from evaluation.talk import Talk, grammar_sentences, talk

# Policy, chunks from one update to the next, endpoint.
SETTINGS = [
    *((policy, 2, 560) for policy in ("local-agreement:2", "local-agreement:3")),
    *((policy, 2, 560) for policy in ("hold-n:1", "hold-n:2", "hold-n:4")),
    *((policy, 2, 560) for policy in ("wait-k:1", "wait-k:3", "wait-k:6")),
    *((f"align-att:{frames}", 2, 560) for frames in (1, 2, 3, 5)),
    *(("local-agreement:2", every, 560) for every in (1, 3, 4)),
    *(("align-att:2", every, 560) for every in (1, 3)),
    *(("local-agreement:2", 2, endpoint) for endpoint in (400, 800)),
]
HEAD = (
    "policy", "updates every, ms", "endpoint, ms", "LongYAAL CU / CA, s", "StreamLAAL CU / CA, s",
    "normalized erasure", "WER", "chrF", "lag at minute 10, ms", "processor time",
)  # fmt: skip


def rows(
    captioner: Any, said: Talk, target: str, settings: list[tuple], pace: Pace
) -> Iterator[list[str]]:
    """A row of the table for each setting. Raises ScorerError."""
    for policy, every, endpoint in settings:
        options = SessionOptions(
            said.language,
            target,
            commit_policy=policy,
            update_chunks=every,
            endpoint_ms=endpoint,
        )
        found = measure(captioner, said, target, options, pace)
        yield [policy, str(every * CHUNK_MS), str(endpoint), *_cells(found, pace)]


def _cells(found: dict[str, Any], pace: Pace) -> list[str]:
    sure, shown = found["committed"], found["shown"]
    if not sure:
        return [""] * (len(HEAD) - 3)
    kinds = ("cu",) if pace == "fast" else ("cu", "ca")
    return [
        *(
            " / ".join(f"{sure[f'{name}_{kind}_ms'] / 1000:.2f}" for kind in kinds)
            for name in ("longyaal", "streamlaal")
        ),
        f"{shown['normalized_erasure']:.2f}",
        f"{found['wer']:.1%}",
        f"{sure['chrf']:.1f}",
        str(found["lag_ms"]["10"] or ""),
        f"{found['cpu_factor']:.2f}",
    ]


def main() -> None:
    import dragoman

    parser = argparse.ArgumentParser(prog="python -m evaluation.curves", description=__doc__)
    parser.add_argument("--model", default="nano", help="bundled name, folder or hub id")
    parser.add_argument("--language", default="es")
    parser.add_argument("--target-language", default="en")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--presets", action="store_true", help="these alone")
    parser.add_argument("--real-time", action="store_true", help="as it would be spoken")
    parser.add_argument(
        "--grammar", action="store_true", help="sentences of training.grammar, said by espeak-ng"
    )
    parser.add_argument("--build", type=Path, default=Path("build/evaluation"))
    args = parser.parse_args()
    sentences = grammar_sentences(args.minutes) if args.grammar else None
    folder = args.build / ("grammar" if args.grammar else "talks")
    said = talk(folder, args.language, args.minutes, sentences=sentences)
    asked = [session_options(ModelSpec(), latency=name) for name in PRESETS]
    settings = [(one.commit_policy, one.update_chunks, one.endpoint_ms) for one in asked]
    print("| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|", sep="\n")
    with dragoman.Captioner(ModelSpec(args.model), ray=False) as captioner:
        chosen = settings if args.presets else SETTINGS
        pace: Pace = "real-time" if args.real_time else "fast"
        for row in rows(captioner, said, args.target_language, chosen, pace):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
