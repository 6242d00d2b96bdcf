"""`docs/evaluation.png`: word errors by language, in noise, and the confidence curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evaluation.figures import Figures
from evaluation.report import LANGUAGES


def plot(found: Figures, path: Path) -> bool:
    """False without matplotlib."""
    try:
        import matplotlib
    except ModuleNotFoundError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (heard, noise, curve) = pyplot.subplots(1, 3, figsize=(15, 4.5))
    _bars(heard, found["heard"])
    _noise(noise, found["noise"])
    _curves(curve, found["confidence"])
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _bars(axes: Any, sets: Mapping[str, Figures]) -> None:
    """A group a language, a bar a set."""
    width = 0.8 / max(1, len(sets))
    for place, (name, row) in enumerate(sets.items()):
        known = [(index, row[lang]) for index, lang in enumerate(LANGUAGES) if lang in row]
        spots = [index + place * width - 0.4 + width / 2 for index, _ in known]
        axes.bar(spots, [100 * rate for _, rate in known], width, label=name)
    axes.set_xticks(range(len(LANGUAGES)), list(LANGUAGES))
    axes.set_ylabel("WER, %")
    axes.set_title("Word errors by language")
    if sets:
        axes.legend(fontsize=8)


def _noise(axes: Any, rows: Mapping[str, Figures]) -> None:
    """A line a kind of noise, over its distance below speech."""
    lines: dict[str, list[tuple[int, float]]] = {}
    for name, row in rows.items():
        kind, distance, _ = name.split(" ")
        lines.setdefault(kind, []).append((int(distance), 100 * row["mean"]))
    for kind, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=kind)
    axes.set_xlabel("speech above noise, dB")
    axes.set_ylabel("WER, mean of languages, %")
    axes.set_title("Word errors in noise")
    if lines:
        axes.legend(fontsize=8)


def _curves(axes: Any, sets: Mapping[str, Figures]) -> None:
    """A line a set: the share of right words that is shown, and of shown words that is right."""
    for name, row in sets.items():
        if row:
            points = [(p["shown_of_right"], p["right_of_shown"]) for p in row["curve"]]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("right words that are shown")
    axes.set_ylabel("shown words that are right")
    axes.set_title("Showing only sure words")
    if any(sets.values()):
        axes.legend(fontsize=8)
