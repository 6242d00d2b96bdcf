"""Whether a true-size model keeps up with someone speaking.

Random weights say nothing sensible, so the answer is scripted: after every pass the logits are
overwritten, in place, so that the decoder chooses the scripted token. All of the work is done, the
choice included; only its outcome is set. The reply is as asked for, with the label between both
texts. It grows by eight tokens a second, four of the transcript and four of the translation, and
the last token of either changes with every update: each draft is wrong there, as live drafts are.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from benchmarks import machine, sounds
from benchmarks.context import Bench
from benchmarks.ours import FORMS, Stages, stages
from benchmarks.passes import Watched
from benchmarks.rows import Measurement, Result, Row
from benchmarks.timing import clock
from dragoman.models import prompt as prompts
from dragoman.models.prompt import Prompt
from dragoman.stages.messages import CHUNK_MS, SAMPLE_RATE_HZ, SessionOptions

TOKENS_A_SECOND = 8
FIRST_WORDS = (600, 750)  # of the two texts: ids of words, in the made tokenizers of any size
BEGIN = -1  # stands for the prompt, which ends with a newline as the transcript does
UNSURE = (900, 902)  # the last word of either text is this id or the next
SECONDS, LONG_SECONDS = 8, 20  # without a pause, so that the reply grows all the time
UPDATE_CHUNKS = 4  # 640 ms
RUNS = 3  # at most: each has a few dozen updates


def _row(form: str, seconds: int = SECONDS) -> Row:
    return Row(
        f"live_e2b_{form}" + (f"_{seconds}s" if seconds != SECONDS else ""),
        f"live E2B, {form}, {seconds} s without a pause, 160 ms chunks, updates every 640 ms, "
        "8 tokens/s: compute / audio time",
        "RTF",
        higher=False,
        peer="real time",
        target=1.0 if form == "int8" else None,
    )


ROWS = {form: _row(form) for form in FORMS}
LONG = _row("int8", LONG_SECONDS)


@dataclass
class Script:
    """What is to be said, as the id that follows each id.

    ``words`` says how many tokens of either text there are by now.
    """

    prompt: Prompt
    words: int = 0
    chunks: int = 0

    def hear(self, samples: int) -> None:
        """So much of the segment has been heard."""
        self.words = int(samples / SAMPLE_RATE_HZ * TOKENS_A_SECOND / 2)
        self.chunks += 1

    def following(self) -> dict[int, int]:
        """The scripted successor of every id that has one, and of BEGIN."""
        transcript, translation = (
            [
                *range(text, text + max(0, self.words - 1)),
                *[unsure + self.chunks // UPDATE_CHUNKS % 2] * bool(self.words),
            ]
            for text, unsure in zip(FIRST_WORDS, UNSURE, strict=True)
        )
        answer = [*transcript, *self.prompt.separator, *translation, self.prompt.stop[0]]
        return dict(zip([BEGIN, *answer[:-1]], answer, strict=True))

    def choose(self, ids: list[int], logits: Tensor) -> None:
        """Overwrites ``logits`` [K, V] so that the script goes on after each of the last K ids."""
        after, prompt_end = self.following(), [*self.prompt.after[-2:]]
        logits.zero_()
        for place, end in enumerate(range(len(ids) - len(logits) + 1, len(ids) + 1)):
            last = BEGIN if ids[:end][-2:] == prompt_end else ids[end - 1]
            logits[place, after.get(last, self.prompt.stop[0])] = 1.0


@dataclass(order=True)
class Run:
    """``spent``: of each chunk, seconds in the encoder and in the decoder; ``bandwidth``: bytes a
    second that memory gave just before."""

    seconds: float = field(init=False)
    spent: list[tuple[float, float]]
    bandwidth: float

    def __post_init__(self) -> None:
        self.seconds = sum(map(sum, self.spent))


def keeps_up(bench: Bench, form: str, row: Row, seconds: int) -> Iterable[Result]:
    """Hears a sound through both stages, one after the other, on all threads; several times, since
    memory is quick and slow by turns on a shared machine."""
    checkpoint = bench.checkpoint("E2B", form)
    ours = stages(checkpoint, bench.model("E2B", form), bench.device)
    script = Script(prompts.build(checkpoint.tokenizer, "es", "en"))
    sound = sounds.noise(3 if bench.small else seconds)
    reading, runs = machine.Reading(bench.device, 0.1 if bench.small else 1.0), []
    with Watched(ours.model, script.choose) as watched:
        hear(ours, sounds.noise(1), script)  # to warm up
        for _ in range(min(RUNS, bench.rounds)):
            bandwidth = reading.bandwidth(machine.ROUND_TRIES)
            watched.reset()
            runs.append(Run(hear(ours, sound, script), bandwidth))
    audio, run = len(sound) / SAMPLE_RATE_HZ, statistics.median_low(runs)
    spent = [sum(of_chunk) for of_chunk in run.spent]
    encoder, decoder = map(sum, zip(*run.spent, strict=True))
    updates = -(-len(spent) // UPDATE_CHUNKS)
    detail = {
        "audio_tower": checkpoint.audio_form() or "bf16",
        "encoder_rtf": round(encoder / audio, 3),
        "decoder_rtf": round(decoder / audio, 3),
        "by_run_with_gb_s_read": [
            [round(each.seconds / audio, 3), round(each.bandwidth / 1e9, 1)] for each in runs
        ],
        "passes": watched.count,
        "passes_of_sound_alone": watched.count - watched.answers,
        "passes_an_update": round(watched.count / updates, 1),
        "rows_a_pass": round(watched.rows / watched.count, 1),
        "seconds_of_audio": audio,
        "longest_chunk_ms": round(1000 * max(spent)),
        "furthest_behind_ms": round(1000 * furthest_behind(spent)),
        "tokens_said": 2 * script.words,
    }
    yield Result(row, run.seconds / audio, 1.0, rounds=len(runs), detail=detail)


def hear(ours: Stages, sound, script: Script) -> list[tuple[float, float]]:
    """Seconds that each chunk took in the encoder and in the decoder."""
    options = SessionOptions(update_chunks=UPDATE_CHUNKS)
    encoded, state = ours.encode.init_state(options), ours.translate.init_state(options)
    spent = []
    for piece in sounds.segment(sound):
        script.hear(piece.end)
        begun = clock()
        (tokens,), encoded = ours.encode.step(piece, encoded)
        between = clock()
        _, state = ours.translate.step(tokens, state)
        spent.append((between - begun, clock() - between))
    return spent


def furthest_behind(spent: Sequence[float]) -> float:
    """Seconds from a chunk's arrival to its end, the longest, if chunks come every 160 ms."""
    done, longest = 0.0, 0.0
    for number, seconds in enumerate(spent, start=1):
        arrived = number * CHUNK_MS / 1000
        done = max(done, arrived) + seconds
        longest = max(longest, done - arrived)
    return longest


def _measurement(form: str) -> Measurement:
    row = ROWS[form]
    return Measurement(row.name, (row,), lambda b: keeps_up(b, form, row, SECONDS))


MEASUREMENTS = {form: _measurement(form) for form in ROWS}
LONG_MEASUREMENTS = {
    "int8": Measurement(LONG.name, (LONG,), lambda b: keeps_up(b, "int8", LONG, LONG_SECONDS))
}
