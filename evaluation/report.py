"""`docs/evaluation.md`, made from the figures and from nothing else."""

from collections.abc import Iterable, Mapping
from typing import Any

from evaluation.figures import Figures
from evaluation.peer import NAME as WHISPER
from evaluation.sets import SETS

LANGUAGES = {"en": "English", "es": "Spanish", "fr": "French", "it": "Italian", "pt": "Portuguese"}
TITLES = SETS | {"untrained": "the synthesizers that were never trained, together"}
INVENTED = {"all": "all of them"}

HEAD = """# Evaluation

Written by `make eval`; `docs/evaluation.json` has the same figures. They say how good the captions
of a model are; `docs/benchmarks.md` says how fast it is. Sentences and voices of all test sets
are kept out of training. WER is the share of wrong, missing and invented words, but for case and
punctuation; it may exceed 100 %. chrF and BLEU are sacreBLEU's. A language's WER is over all of its
answers, one for each direction; a mean is that of the languages or directions.
"""
HEARD = """Whole utterances, decoded greedily; a segment as the live pipeline would make it."""
NOISE = """The same clips with noise so far below the speech; babble is other voices of the set."""
PEER = f"""{WHISPER}, on the same recordings. *Processor time* is seconds of one core a second of
sound; ours holds transcript and translation, Whisper's the transcript."""
INVENTED_TEXT = """Sounds in which nobody says a word that the model could know, through the live
pipeline with its voice activity detection. *Shown* counts every word that stood on the screen at
any time, *final* what remained."""
CONFIDENCE = """A word is *sure* from the lowest confidence on from which at least 90 % of the words
that are shown are right. *Calibration error* is the mean distance between confidence and share of
right words. The threshold for cues is the mean confidence below which an utterance has more wrong
words than right ones, by and large."""
TALKS = """Held-out sentences in one held-out voice with pauses, played as fast as they are spoken.
Computation-aware (CA) scores rest on the time that a listener waited, queues included; CU scores on
the sound alone. *Lag* is wall-clock time from a sound to the caption that rests on it, around that
minute. *Committed*: words count from when they can no longer change; *shown*: from when they are
last shown anew. simulstream's real-time factor adds up waiting and is an upper bound; processor
time is seconds of all cores a second of sound."""

SUBTITLES = """The same talks by `dragoman translate`. SubER counts, in percent, what has to be
edited in words, line breaks and cues; the reference is what our own layout makes of the true
sentences and their times, so it says nothing about where people would break lines. *Within the
rules*: cues with which `dragoman check` finds no fault."""


def markdown(found: Figures, targets: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The whole document."""
    sections = [
        ("Targets", _targets(targets), ""),
        ("What it hears", _rates(found["heard"]), _said(HEARD, "utterances", found)),
        ("What it translates", _translated(found["translated"]), ""),
        ("In noise", _rates(found["noise"]), _said(NOISE, "noise", found)),
        ("Nested sizes", _sizes(found["sizes"]), _said("", "sizes", found)),
        ("People, and Whisper", _peer(found["peer"]), _said(PEER, "peer", found)),
        ("Invented words", _invented(found["invented"]), _said(INVENTED_TEXT, "invented", found)),
        ("What it knows of its errors", _confidence(found["confidence"]), CONFIDENCE),
        ("What it confuses", _confusions(found["confusions"]), ""),
        ("Talks", _talks(found["talks"]), _said(TALKS, "talks", found)),
        (
            "Subtitles",
            _subtitles(found["subtitles"]),
            _said(SUBTITLES, "subtitles", found),
        ),
    ]
    parts = [HEAD, "\n".join(f"- {key}: {value}" for key, value in about.items()) + "\n"]
    for title, table, text in sections:
        parts.append(f"## {title}\n")
        if text:
            parts.append(text + "\n")
        parts.append(table or "Not measured yet.\n")
    parts.append("![WER by language, noise and confidence](evaluation.png)\n")
    return "\n".join(parts)


def _said(text: str, name: str, found: Figures) -> str:
    command = found["commands"].get(name)
    return f"{text}\n\n`{command}`".strip() if command else text


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; empty without rows."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    head = list(head)
    if not lines:
        return ""
    return "\n".join(["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *lines]) + "\n"


def _targets(targets: Mapping[str, Any]) -> str:
    rows = []
    for name, row in targets.items():
        limit = f"at {'most' if row['less_is_better'] else 'least'} {_number(name, row['limit'])}"
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        reached = "not measured" if row["met"] is None else _number(name, row["reached"])
        rows.append((name, limit, reached, met))
    return _table(("", "target", "reached", "met"), rows)


def _number(name: str, value: float) -> str:
    shares = name.startswith(("WER", "right", "sure"))
    return _percent(value) if shares else f"{value:g}"


def _rates(sets: Mapping[str, Figures]) -> str:
    """Word error rates: a line a set, a column a language."""
    known = [lang for lang in LANGUAGES if any(lang in row for row in sets.values())]
    rows = [
        (TITLES.get(name, name), row["clips"], *(_percent(row.get(lang)) for lang in known),
         _percent(row["mean"]))
        for name, row in sets.items()
    ]  # fmt: skip
    return _table(("WER", "clips", *(LANGUAGES[lang] for lang in known), "mean"), rows)


def _translated(sets: Mapping[str, Figures]) -> str:
    """chrF and BLEU: a line a set, a column a direction."""
    known = sorted({key for row in sets.values() for key in row if "-" in key})
    rows = []
    for name, row in sets.items():
        cells = [_pair(row.get(key)) for key in known]
        rows.append((TITLES.get(name, name), *cells, f"{row['mean']:.1f} / {row['mean_bleu']:.1f}"))
    return _table(("chrF / BLEU", *known, "mean"), rows)


def _pair(scores: Mapping[str, float] | None) -> str:
    return "" if scores is None else f"{scores['chrf']:.1f} / {scores['bleu']:.1f}"


def _sizes(sizes: Mapping[str, Figures]) -> str:
    rows = [
        (f"`{size}`", _percent(row["mean"]), f"{row['chrf']:.1f}", f"{row['cpu_factor']:.3f}")
        for size, row in sizes.items()
    ]
    return _table(("size", "WER, mean", "chrF, mean", "processor time"), rows)


def _peer(models: Mapping[str, Figures]) -> str:
    known = [lang for lang in LANGUAGES if any(lang in row for row in models.values())]
    rows = [
        (name, row["clips"], *(_percent(row.get(lang)) for lang in known), _percent(row["mean"]),
         f"{row['cpu_factor']:.3f}")
        for name, row in models.items()
    ]  # fmt: skip
    names = (LANGUAGES[lang] for lang in known)
    return _table(("WER", "recordings", *names, "mean", "processor time"), rows)


def _invented(kinds: Mapping[str, Figures]) -> str:
    rows = [
        (INVENTED.get(kind, kind), row["minutes"], row["shown_a_minute"], row["final_a_minute"],
         row.get("final_a_minute_over_half", ""))
        for kind, row in kinds.items()
    ]  # fmt: skip
    head = ("words a minute", "minutes", "shown", "final", "final, confidence from 0.5")
    return _table(head, rows)


def _confidence(sets: Mapping[str, Figures]) -> str:
    rows = [
        (TITLES.get(name, name), _from(row["sure_threshold"]), _percent(row["right_of_shown"]),
         _percent(row["shown_of_right"]), row["calibration_error"], row["cue_threshold"])
        for name, row in sets.items()
        if row
    ]  # fmt: skip
    head = (
        "", "sure from", "right among sure", "sure among right", "calibration error",
        "threshold for cues",
    )  # fmt: skip
    return _table(head, rows)


def _from(threshold: float | None) -> str:
    return "never" if threshold is None else f"{threshold:g}"


def _confusions(languages: Mapping[str, Figures]) -> str:
    """Three lists a language."""
    parts = []
    for language, row in languages.items():
        lists = {
            "words": ", ".join(_confusion(*entry) for entry in row["words"]),
            "letters": ", ".join(_confusion(*entry) for entry in row["letters"]),
            "voices": ", ".join(f"{voice} {_percent(rate)}" for voice, rate in row["voices"]),
        }
        lines = [f"- {name}: {text}" for name, text in lists.items() if text]
        parts.append("\n".join([f"**{LANGUAGES[language]}**\n", *lines]) + "\n")
    return "\n".join(parts)


def _confusion(said: str, heard: str, count: int) -> str:
    return f"{said or '(nothing)'} → {heard or '(nothing)'} {count}x"


def _talks(talks: Mapping[str, Figures]) -> str:
    rows = []
    for name, row in talks.items():
        if name == "mean":
            continue
        lag = ", ".join(f"{minute} min: {ms} ms" for minute, ms in row["lag_ms"].items() if ms)
        for kind in ("committed", "shown"):
            rows.append((name, kind, row["minutes"], *_latencies(row[kind]), lag,
                         row["cpu_factor"]))  # fmt: skip
    head = (
        "direction", "words", "minutes", "LongYAAL CU / CA, s", "StreamLAAL CU / CA, s", "BLEU",
        "chrF", "normalized erasure", "RTF", "lag", "processor time",
    )  # fmt: skip
    return _table(head, rows)


def _subtitles(talks: Mapping[str, Figures]) -> str:
    rows = [
        (name, text, row["minutes"], f"{scores['suber']:.1f}", scores["cues"],
         _percent(scores["within_rules"]))
        for name, row in talks.items()
        for text in ("transcript", "translation")
        if (scores := row[text])
    ]  # fmt: skip
    return _table(("direction", "text", "minutes", "SubER", "cues", "within the rules"), rows)


def _latencies(scores: Mapping[str, float]) -> list[str]:
    if not scores:  # not a word was committed
        return [""] * 6
    both = [
        " / ".join(f"{scores[f'{name}_{kind}_ms'] / 1000:.2f}" for kind in ("cu", "ca"))
        for name in ("longyaal", "streamlaal")
    ]
    names = ("bleu", "chrf", "normalized_erasure", "real_time_factor")
    return [*both, *(f"{scores[name]:.3g}" for name in names)]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
