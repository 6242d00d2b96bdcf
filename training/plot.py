"""Draws a run's curves: `python -m training.plot build/run/log.jsonl docs/training.png`."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402  (after the backend is chosen)


def draw(events: list[dict[str, Any]], out: Path) -> None:
    """Losses above; below, on development speech of each synthesizer, means over languages: of the
    word error rate (%) of the letters' head and of answers, and of their chrF."""
    kept = _without_redone(events)
    steps = [e for e in kept if "answer" in e]
    scores = [e for e in kept if e.get("split") == "dev"]
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(8, 7), sharex=True, layout="constrained")
    for key, name in (("answer", "answer (nats a token)"), ("letters", "letters, CTC (nats)")):
        known = [e for e in steps if e.get(key)]  # a phase may leave one of the losses out
        upper.plot([_minutes(e) for e in known], _smooth([e[key] for e in known]), ".", label=name)
    upper.set_ylabel("loss")
    upper.set_yscale("log")
    upper.legend()
    upper.grid(alpha=0.3)
    lower.set_ylim(0, 105)
    for synthesizer in sorted({e["synthesizer"] for e in scores}):
        said = [e for e in scores if e["synthesizer"] == synthesizer]
        for key, line, scale in (("spelling", ":", 100), ("wer", "-", 100), ("chrf", "--", 1)):
            known = [e for e in said if key in e]
            means = [scale * sum(e[key].values()) / len(e[key]) for e in known]
            lower.plot([_minutes(e) for e in known], means, line, label=f"{synthesizer}, {key}")
    lower.set_xlabel("minutes of training")
    lower.set_ylabel("held-out sentences and voices")
    lower.legend(fontsize="small", ncols=3)
    lower.grid(alpha=0.3)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)


def _without_redone(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what a killed run did after its last save, and did again."""
    kept: list[dict[str, Any]] = []
    for event in (e for e in events if "note" not in e):
        while kept and kept[-1]["seconds"] > event["seconds"]:
            kept.pop()
        kept.append(event)
    return kept


def _minutes(event: dict[str, Any]) -> float:
    return event["seconds"] / 60


def _smooth(values: list[float], keep: float = 0.9) -> list[float]:
    smoothed: list[float] = []
    for value in values:
        smoothed.append(keep * smoothed[-1] + (1 - keep) * value if smoothed else value)
    return smoothed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    lines = args.log.read_text(encoding="utf-8").splitlines()
    draw([json.loads(line) for line in lines], args.out)


if __name__ == "__main__":
    main()
