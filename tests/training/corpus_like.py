"""A little stored speech and a little text, in the form in which training reads them."""

import json
from pathlib import Path

import numpy as np

from training.speech_parts import SAMPLE_RATE_HZ

LANGUAGES = ("en", "es", "fr", "it", "pt")
ROWS = (
    ("The dog sleeps.", "El perro duerme.", "Le chien dort.", "Il cane dorme.", "O cão dorme."),
    ("A cat drinks milk.", "Un gato bebe leche.", "Un chat boit du lait.",
     "Un gatto beve il latte.", "Um gato bebe leite."),
    ("Where is the train?", "¿Dónde está el tren?", "Où est le train ?", "Dov'è il treno?",
     "Onde está o trem?"),
    ("We eat bread today.", "Hoy comemos pan.", "Nous mangeons du pain.", "Oggi mangiamo pane.",
     "Hoje comemos pão."),
)  # fmt: skip


KEPT = (
    ("My sister works in town.", "Mi hermana trabaja en la ciudad.", "Ma sœur travaille en ville.",
     "Mia sorella lavora in città.", "Minha irmã trabalha na cidade."),
)  # fmt: skip


def write_part(folder: Path, split: str, synthesizer: str, name: str, rows: list[tuple]) -> Path:
    """Writes a part of rows (language, texts, seconds); word ends are evenly spread."""
    path = folder / split / synthesizer / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rng, pieces, lines = np.random.default_rng(len(name)), [], []
    for number, (language, texts, seconds) in enumerate(rows):
        count = round(seconds * SAMPLE_RATE_HZ)
        pieces.append((rng.normal(0, 3_000, count) + number).astype(np.int16))
        words = texts.get(language, "").split()
        ends = [count * (i + 1) // len(words) for i in range(len(words))]
        record = {
            "samples": count, "language": language, "texts": texts, "ids": [str(number)],
            "synthesizer": synthesizer, "voice": f"{synthesizer}-{number}", "exact_times": True,
            "word_starts_samples": [0, *ends[:-1]][: len(words)], "word_ends_samples": ends,
        }  # fmt: skip
        lines.append(json.dumps(record))
    np.save(path.with_suffix(".npy"), np.concatenate(pieces))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_speech(folder: Path) -> Path:
    """All sentences in all languages, for training and for development, and foreign speech."""
    for split, said in (("train", ROWS), ("dev", KEPT)):
        rows = [
            (language, dict(zip(LANGUAGES, row, strict=True)), 0.6 + 0.2 * number)
            for number, row in enumerate(said)
            for language in LANGUAGES
        ]
        write_part(folder, split, "noise", "s1-0000", rows)
    write_part(folder, "foreign", "noise", "de", [("de", {}, 0.7), ("de", {}, 0.9)])
    return folder


def write_text(folder: Path) -> Path:
    """Tables of the same sentences."""
    for name in ("sentences", "frames", "slots"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rows = ["\t".join(LANGUAGES), *("\t".join(row).replace(" ?", "?") for row in ROWS)]
    (folder / "sentences" / "few.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder
