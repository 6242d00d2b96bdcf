"""The measurements by name; each fills the store with its parts.

A part's name says what was run: `utterances/SET/SPOKEN-WRITTEN/CLIPS`, and alike for the others.
`evaluation.figures` reads them again.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from dragoman.decoder import Slice
from dragoman.models import sizes
from dragoman.models.checkpoint import Checkpoint
from dragoman.spec import ModelSpec
from evaluation import delivered
from evaluation.bench import Bench, Unavailable
from evaluation.longform import measure
from evaluation.noise import SAMPLE_RATE_HZ, pieces, sounds, with_noise
from evaluation.peer import PeerError, Whisper
from evaluation.sets import SETS, directions
from evaluation.store import Row
from evaluation.talk import talk

NOISES = ("pink", "babble")  # the second asks for other voices
SNR_DB = (20, 10, 5, 0)
MOST_SIZES = 4  # all of it, and the largest steps below


def utterances(bench: Bench) -> None:
    """Every set in every direction; people, who are not translated, once a language."""
    for name in SETS:
        found = bench.open(name, 10_000 if name == "people" else None)
        pairs = bench.spoken if name == "people" else bench.pairs
        for spoken, written in directions(pairs, found.languages) if pairs else []:
            clips = bench.clips(found, spoken)
            make = partial(bench.listener.answers, clips, spoken, written)
            bench.store.part(f"utterances/{name}/{spoken}-{written}/{len(clips)}", make)


def noise(bench: Bench) -> None:
    """The set most like people, in noise of two kinds, at falling distances."""
    found = bench.nearest()
    for spoken, written in directions(bench.spoken, found.languages):
        clean = bench.clips(found, spoken)
        alone = len({clip.voice for clip in clean}) < 2
        for kind in NOISES[:1] if alone else NOISES:
            for snr in SNR_DB:
                clips = [with_noise(clip, kind, snr, clean) for clip in clean]
                make = partial(bench.listener.answers, clips, spoken, written)
                part = f"noise/{found.name}/{kind} {snr} dB/{spoken}-{written}/{len(clips)}"
                bench.store.part(part, make)


def nested(bench: Bench) -> None:
    """The set most like people, at each nested size."""
    found = bench.nearest()
    for size in nested_sizes(bench.model):
        for spoken, written in directions(bench.spoken, found.languages):
            clips = bench.clips(found, spoken)
            make = partial(bench.listener.answers, clips, spoken, written, size)
            part = f"sizes/{size}/{found.name}/{spoken}-{written}/{len(clips)}"
            bench.store.part(part, make)


def nested_sizes(model: str) -> list[str]:
    """Full, half and quarter width, and half width without the layers that may be skipped.

    Of a published size that is one of its own, the names that `--size` knows.
    """
    config = Checkpoint.open(model).text_config
    named = sizes.sizes(config)
    if set(named) != {"full", "half"}:
        return [*named][:MOST_SIZES]
    quarter = Slice.cut(config, [max(1, width // 4) for width in config.ffn_widths])
    return [*named, sizes.name(quarter, config)]


def peer(bench: Bench) -> None:
    """whisper-base on people's recordings."""
    try:
        whisper = Whisper(bench.whisper)
    except PeerError as error:
        raise Unavailable(str(error)) from None
    found = bench.open("people", 10_000)
    for spoken, _ in directions(bench.spoken, found.languages):
        clips = bench.clips(found, spoken)
        bench.store.part(
            f"peer/people/{spoken}/{len(clips)}", partial(whisper.answers, clips, spoken)
        )


def invented(bench: Bench) -> None:
    """Sounds in which nobody says a word that the model knows, through the live pipeline."""
    kinds = sounds(bench.speech)
    minutes = bench.amounts.invented_minutes / len(kinds) / len(bench.spoken)
    samples = round(minutes * 60 * SAMPLE_RATE_HZ)
    for kind, make in kinds.items():
        for spoken, written in bench.spoken:
            rng = np.random.default_rng(list(f"{kind} {spoken}".encode()))
            try:
                sound = make(samples, rng)
            except FileNotFoundError as error:
                raise Unavailable(f"{error}: make it with python -m training.foreign") from None
            words = partial(_invented, bench, sound, spoken, written)
            bench.store.part(f"invented/{kind}/{spoken}-{written}/{minutes:.2f}min", words)


def _invented(bench: Bench, sound: np.ndarray, spoken: str, written: str) -> Iterator[Row]:
    """First how long it was, then a row for each segment in which words were shown."""
    import dragoman

    yield {"seconds": len(sound) / SAMPLE_RATE_HZ}
    options = dragoman.Options(language=spoken, target_language=written)
    shown = 0
    with bench.captioner() as captioner:
        for caption in captioner.caption(pieces(sound), options, pace="fast"):
            shown = max(shown, len(caption.transcript.words))
            if caption.kind == "final":
                yield {
                    "shown": shown,
                    "transcript": caption.transcript.whole,
                    "transcript_confidences": list(caption.transcript.confidences),
                    "translation": caption.translation.whole,
                }
                shown = 0


def talks(bench: Bench) -> None:
    """A long talk in each direction through the live pipeline, as fast as it is spoken."""
    amounts = bench.amounts
    for spoken, written in bench.pairs[: amounts.talks]:
        said = talk(bench.build / "talks", spoken, amounts.talk_minutes)

        def make(said=said, written=written) -> Iterator[Row]:
            with bench.captioner() as captioner:
                yield measure(captioner, said, written)

        bench.store.part(f"talks/{spoken}-{written}/{amounts.talk_minutes:g}min", make)


def subtitles(bench: Bench) -> None:
    """The same talks as files, and the subtitles that viewers get of them."""
    amounts = bench.amounts
    spec = ModelSpec(bench.model, bench.device)
    for spoken, written in bench.pairs[: amounts.talks]:
        said = talk(bench.build / "talks", spoken, amounts.talk_minutes)

        def make(said=said, written=written) -> Iterator[Row]:
            yield delivered.measure(said, written, spec)

        bench.store.part(f"subtitles/{spoken}-{written}/{amounts.talk_minutes:g}min", make)


MEASUREMENTS: dict[str, Callable[[Bench], None]] = {
    "utterances": utterances,
    "noise": noise,
    "sizes": nested,
    "peer": peer,
    "invented": invented,
    "talks": talks,
    "subtitles": subtitles,
}
