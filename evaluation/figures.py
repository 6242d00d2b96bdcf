"""Figures from kept answers: what docs/evaluation.json publishes, and nothing else.

Of the parts that differ only in how much was run, the largest counts.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from statistics import mean
from typing import Any

from dragoman.models.words import words
from evaluation import confidence
from evaluation.scores import Confusions, by_voice, translation_scores, word_errors
from evaluation.store import Part, Row, Store

TRAINED, UNTRAINED = ("kokoro", "espeak"), ("pico", "debian")
MOST_SHOWN = 15  # lines of a confusion list
SURE_RIGHT = 0.9
# What was promised, as (figure, limit, whether less is better).
TARGETS = {
    "WER, Kokoro styles never trained": (("heard", "kokoro", "mean"), 0.12, True),
    "chrF, Kokoro styles never trained": (("translated", "kokoro", "mean"), 60, False),
    "WER, synthesizers never trained": (("heard", "untrained", "mean"), 0.20, True),
    "chrF, synthesizers never trained": (("translated", "untrained", "mean"), 55, False),
    "WER, people": (("heard", "people", "mean"), 0.35, True),
    "right among sure words, people": (("confidence", "people", "right_of_shown"), 0.9, False),
    "sure among right words, people": (("confidence", "people", "shown_of_right"), 0.5, False),
    "invented words a minute": (("invented", "all", "shown_a_minute"), 2, True),
    "LongYAAL CU, ms": (("talks", "mean", "longyaal_cu_ms"), 2000, True),
}

Figures = dict[str, Any]


def figures(store: Store) -> Figures:
    """All of them; a measurement that was not run has an empty entry."""
    utterances = _largest(store.parts("utterances"))
    by_set = _grouped(utterances, 0)
    return {
        "heard": _heard(by_set),
        "translated": _translated(by_set),
        "noise": {at: _heard_row(parts) for at, parts in _noises(store).items()},
        "sizes": _sizes(_grouped(_largest(store.parts("sizes")), 1)),
        "peer": _peer(store, by_set.get("people", {})),
        "invented": _invented(_largest(store.parts("invented"))),
        "confidence": {name: _confidence(_rows(parts)) for name, parts in by_set.items()},
        "confusions": {lang: _confusions(rows) for lang, rows in _by_language(by_set).items()},
        "talks": _talks(_largest(store.parts("talks"))),
        "subtitles": _by_direction(_largest(store.parts("subtitles"))),
        "commands": _commands(store),
    }


def targets(found: Figures) -> dict[str, dict[str, Any]]:
    """Each target with what was reached (None: not measured) and whether that meets it."""
    rows = {}
    for name, (path, limit, less) in TARGETS.items():
        value: Any = found
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        met = None if value is None else (value <= limit if less else value >= limit)
        rows[name] = {"reached": value, "limit": limit, "less_is_better": less, "met": met}
    return rows


def _heard(by_set: dict[str, dict[str, Part]]) -> Figures:
    heard = {name: _heard_row(parts) for name, parts in by_set.items()}
    unheard = [by_set[name] for name in UNTRAINED if name in by_set]
    if unheard:
        joined = {f"{number}/{key}": p for number, s in enumerate(unheard) for key, p in s.items()}
        heard["untrained"] = _heard_row(joined)
    return heard


def _heard_row(parts: Mapping[str, Part]) -> Figures:
    """Word error rate by language, and the mean of the languages."""
    languages: dict[str, list[Row]] = defaultdict(list)
    for name, part in parts.items():
        languages[_direction(name)[0]] += part.rows
    rates = {lang: round(word_errors(rows).rate, 4) for lang, rows in sorted(languages.items())}
    clips = {lang: len({row["clip"] for row in rows}) for lang, rows in languages.items()}
    return {**rates, "mean": _mean(rates.values()), "clips": sum(clips.values())}


def _translated(by_set: dict[str, dict[str, Part]]) -> Figures:
    found: Figures = {}
    for name, parts in by_set.items():
        if name == "people":
            continue
        found[name] = {"-".join(_direction(key)): _scores(part) for key, part in parts.items()}
        found[name] |= _means(found[name])
    unheard = {k: v for name in UNTRAINED for k, v in found.get(name, {}).items() if "-" in k}
    if unheard:
        found["untrained"] = unheard | _means(unheard)
    return found


def _scores(part: Part) -> dict[str, float]:
    return translation_scores(part.rows)


def _means(directions: Mapping[str, Mapping[str, float]]) -> Figures:
    return {
        "mean": _mean(scores["chrf"] for scores in directions.values()),
        "mean_bleu": _mean(scores["bleu"] for scores in directions.values()),
    }


def _sizes(sizes: Mapping[str, Mapping[str, Part]]) -> Figures:
    """Largest first, by what they cost."""
    found = {size: _size(parts) for size, parts in sizes.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]["cpu_factor"]))


def _size(parts: Mapping[str, Part]) -> Figures:
    scores = [translation_scores(part.rows)["chrf"] for part in parts.values()]
    seconds = sum(row["seconds"] for row in _rows(parts))
    spent = sum(part.made.cpu_s for part in parts.values())
    return {**_heard_row(parts), "chrf": _mean(scores), "cpu_factor": round(spent / seconds, 4)}


def _peer(store: Store, ours: Mapping[str, Part]) -> Figures:
    theirs = _largest(store.parts("peer"))
    found = {}
    for name, parts in (("whisper", theirs), ("dragoman", ours)):
        if parts:
            seconds = sum(row["seconds"] for row in _rows(parts))
            spent = sum(part.made.cpu_s for part in parts.values())
            found[name] = {**_heard_row(parts), "cpu_factor": round(spent / seconds, 4)}
    return found if theirs else {}


def _invented(parts: Mapping[str, Part]) -> Figures:
    """Words a minute by kind of sound: at most shown at any time, and in final captions."""
    kinds: dict[str, list[Part]] = defaultdict(list)
    for name, part in parts.items():
        kinds[name.split("/")[0]].append(part)
    found = {kind: _invented_row(of_kind) for kind, of_kind in kinds.items()}
    if parts:
        found["all"] = _invented_row(list(parts.values()))
    return found


def _invented_row(parts: Iterable[Part]) -> Figures:
    minutes = shown = final = 0.0
    confidences: list[float] = []
    for part in parts:
        length, *segments = part.rows
        minutes += length["seconds"] / 60
        shown += sum(row["shown"] for row in segments)
        final += sum(len(words(row["transcript"])) for row in segments)
        confidences += [c for row in segments for c in row["transcript_confidences"]]
    row = {
        "minutes": round(minutes, 2),
        "shown_a_minute": round(shown / minutes, 2),
        "final_a_minute": round(final / minutes, 2),
    }
    if confidences:
        sure = sum(confidence >= 0.5 for confidence in confidences)
        row["final_a_minute_over_half"] = round(sure / minutes, 2)
    return row


def _confidence(rows: list[Row]) -> Figures:
    """The curve, how well it is calibrated, and the two thresholds; empty without confidences."""
    known = confidence.words(rows)
    if not known:
        return {}
    points = confidence.curve(known)
    sure = confidence.sure_threshold(points, SURE_RIGHT)
    return {
        "curve": [asdict(point) for point in points],
        "calibration_error": round(confidence.calibration(known), 4),
        "cue_threshold": confidence.cue_threshold(rows),
        "sure_threshold": None if sure is None else sure.threshold,
        "right_of_shown": None if sure is None else round(sure.right_of_shown, 4),
        "shown_of_right": 0.0 if sure is None else round(sure.shown_of_right, 4),
    }


def _confusions(rows: list[Row]) -> Figures:
    """What is most often taken for something else, and the voices that are heard worst."""
    found = Confusions.of(rows)
    worst = list(by_voice(rows).items())[:MOST_SHOWN]
    return {
        "words": [[*pair, count] for pair, count in found.words.most_common(MOST_SHOWN)],
        "letters": [[*pair, count] for pair, count in found.letters.most_common(MOST_SHOWN)],
        "voices": [[voice, round(rate, 3)] for voice, rate in worst],
    }


def _talks(parts: Mapping[str, Part]) -> Figures:
    found = _by_direction(parts)
    scored = [row["committed"] for row in found.values() if row["committed"]]
    if scored:
        found["mean"] = {key: _mean(row[key] for row in scored) for key in scored[0]}
    return found


def _by_direction(parts: Mapping[str, Part]) -> Figures:
    """The one row of each part."""
    return {"-".join(_direction(name)): part.rows[0] for name, part in parts.items()}


def _commands(store: Store) -> dict[str, str]:
    """By measurement: the newest date on which a part was made, and the command."""
    names = ("utterances", "noise", "sizes", "peer", "invented", "talks", "subtitles")
    newest = {
        name: max((part.made for part in store.parts(name).values()), key=lambda made: made.date)
        for name in names
        if store.parts(name)
    }
    return {name: f"{made.command} ({made.date})" for name, made in newest.items()}


def _largest(parts: Mapping[str, Part]) -> dict[str, Part]:
    """By all of a name but its end, which says how much was run: the part with the most."""
    found: dict[str, tuple[float, Part]] = {}
    for name, part in parts.items():
        key, _, amount = name.rpartition("/")
        size = float(re.sub(r"[a-z]+$", "", amount))
        if key not in found or size > found[key][0]:
            found[key] = size, part
    return {key: part for key, (_, part) in found.items()}


def _grouped(parts: Mapping[str, Part], keep: int) -> dict[str, dict[str, Part]]:
    """Parts by the beginning of their names; of what follows, ``keep`` levels are dropped."""
    groups: dict[str, dict[str, Part]] = defaultdict(dict)
    for name, part in parts.items():
        first, *rest = name.split("/")
        groups[first]["/".join(rest[keep:])] = part
    return dict(groups)


def _noises(store: Store) -> dict[str, dict[str, Part]]:
    """By kind and distance; the sets are one."""
    inner = _grouped(_largest(store.parts("noise")), 0).values()
    found = {at: parts for group in inner for at, parts in _grouped(group, 0).items()}
    return dict(sorted(found.items(), key=lambda item: _kind_and_distance(item[0])))


def _kind_and_distance(name: str) -> tuple[str, int]:
    """Of `pink 10 dB`, to be sorted by: from far to near."""
    kind, distance, _ = name.split(" ")
    return kind, -int(distance)


def _by_language(by_set: Mapping[str, Mapping[str, Part]]) -> dict[str, list[Row]]:
    """One answer for each clip of a language, over all sets: English is asked several times."""
    rows: dict[str, dict[str, Row]] = defaultdict(dict)
    for parts in by_set.values():
        for name, part in parts.items():
            for row in part.rows:
                rows[_direction(name)[0]].setdefault(row["clip"], row)
    return {language: list(found.values()) for language, found in sorted(rows.items())}


def _direction(name: str) -> list[str]:
    """The languages at the end of a part's name: `es-en`, or `es` alone."""
    return name.split("/")[-1].split("-")


def _rows(parts: Mapping[str, Part]) -> list[Row]:
    return [row for part in parts.values() for row in part.rows]


def _mean(values: Iterable[float]) -> float:
    return round(mean(values), 4)
