"""What `dragoman doctor` finds out by running a model: sound, pictures and a translation go the way
that they go in every session.

The bundled clip is Spanish, with a picture track, and what is said in it and its English are known.
Of the released weights one answer is published: the beginning of what E4B-it writes down of one
recording (`REFERENCE`). Whoever has both sees it beside what came. Unusual: here that recording
goes through the segmenter, which makes one segment of it, as all sound does.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman.demos.doctor_machine import Finding, checked
from dragoman.demos.score import word_error_rate
from dragoman.errors import DragomanError, InputError
from dragoman.pipeline.start import check, session_options, start
from dragoman.spec import ModelSpec

if TYPE_CHECKING:
    from dragoman.pipeline.chain import Chain
    from dragoman.stages.messages import Caption, SessionOptions

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
CLIP, PAIR = SAMPLES / "talk.mp4", ("es", "en")
MOST_WRONG = 0.5  # of the words heard: a model that hears gets most of them right
MOST_OTHER = 0.8  # of the words of the translation, which may be worded in other ways
SHOWN_CHARACTERS = 60
PATIENCE_S = 60  # for a recording
LONGEST_PAUSE_MS = 5_000  # that a segment may hold
# From transformers' tests (tests/models/gemma3n/test_modeling_gemma3n.py, test_model_with_audio):
# google/gemma-3n-E4B-it in bf16, greedy, the first 16 tokens; two newlines are a space here.
REFERENCE = "Chapter 1. Mrs. Rachel Lind is surprised. Mrs. Rachel Lind"
REFERENCE_PROMPT = "Transcribe the following speech segment in {language}:"
REFERENCE_CLIP = (
    "https://huggingface.co/datasets/etechgrid/28.5k_wavfiles_dataset/resolve/main/"
    "wav_dataset/103-1240-0000.wav"
)


def model(spec: ModelSpec, ray: bool = True, clip: Path | None = None) -> Iterator[Finding]:
    """All about the model of ``spec``: that it starts, on Ray or here, hears, sees, translates.

    ``clip`` is the recording of which `REFERENCE` is said.
    """
    found = checked("model", lambda: _described(spec))
    yield found
    if found.status == "failed":
        return
    pairs = _pairs(spec)
    chains: list[Chain] = []
    for on_ray in (True, False) if ray else (False,):
        yield checked(
            "ray" if on_ray else "start", lambda on_ray=on_ray: _started(spec, on_ray, chains)
        )
        if chains:
            break
    if not chains:
        return
    with chains[0] as chain:
        known = not pairs or PAIR in pairs
        language, target_language = PAIR if known else pairs[0]
        options = session_options(spec, language=language, target_language=target_language)
        captions: list[Caption] = []
        yield checked("sound", lambda: _heard(chain, options, known, captions))
        if captions:
            yield _seen(captions, spec)
            yield _translated(captions, known)
        if not pairs:
            yield checked("reference", lambda: reference(chain, options, clip))


def _described(spec: ModelSpec) -> Finding:
    """Whether the model is there and whole, and what it is."""
    from dragoman.models.checkpoint import Checkpoint

    pairs = _pairs(spec)
    check(spec, *(PAIR if not pairs or PAIR in pairs else pairs[0]))
    opened = Checkpoint.open(spec.model)
    tokens = opened.tokenizer.vocab_size
    eyes = "with a vision tower" if opened.has_vision else "without a vision tower"
    said = ", ".join(f"{source} to {target}" for source, target in pairs) or "any languages"
    return Finding("model", "ok", f"{opened.folder}: vocabulary of {tokens}, {eyes}, {said}")


def _pairs(spec: ModelSpec) -> "Sequence[tuple[str, str]]":
    from dragoman.models import hub
    from dragoman.models.prompt import pairs_of

    return pairs_of(hub.read_config(hub.find(spec.model)))


def _started(spec: ModelSpec, ray: bool, chains: "list[Chain]") -> Finding:
    """Starts the stages, which are then the one of ``chains``."""
    check_, begin = "ray" if ray else "start", time.monotonic()
    try:
        chains.append(start(spec, ray=ray))
    except (DragomanError, ImportError) as error:
        remedy = "run commands with --no-ray" if ray else ""
        return Finding(check_, "failed", str(error), remedy)
    where = "as actors on Ray" if ray else "in this process"
    seconds = time.monotonic() - begin
    return Finding(check_, "ok", f"{len(chains[0])} stages started {where} in {seconds:.1f} s")


def _heard(
    chain: "Chain", options: "SessionOptions", known: bool, captions: "list[Caption]"
) -> Finding:
    """Captions the bundled clip, as fast as possible; the final ones go into ``captions``.

    Random weights talk without end, so what is not heard in time is left out.
    """
    begin = time.monotonic()
    whole = _captioned(chain, replace(options, finals_only=True), CLIP, captions)
    seconds = time.monotonic() - begin
    said = " ".join(caption.transcript.whole for caption in captions)
    shown = f"{len(captions)} segments in {seconds:.1f} s: {_short(said)}"
    if not captions:
        remedy = "try a model that hears Spanish, such as nano or google/gemma-3n-E2B-it"
        return Finding("sound", "failed", "no words were heard in a clip of Spanish speech", remedy)
    if not known:
        remedy = "the clip is Spanish, for which this model was not made: caption one you know"
        return Finding("sound", "warning", shown, remedy)
    reference = (SAMPLES / "talk.es.txt").read_text(encoding="utf-8")
    if not whole:
        reference = " ".join(reference.split()[: len(said.split())])
    wrong = word_error_rate(reference, said)
    shown = f"{wrong:.1%} of the words wrong, {shown}"
    if wrong > MOST_WRONG:
        remedy = f"it should be {_short(reference)}: see whether the weights are trained, and whole"
        return Finding("sound", "failed", shown, remedy)
    if not whole:
        remedy = "live captions will lag: close other programs, or take --dtype int8 or int4"
        return Finding("sound", "warning", f"{shown}, and then it was stopped", remedy)
    return Finding("sound", "ok", shown)


def _captioned(
    chain: "Chain", options: "SessionOptions", file: Path, captions: "list[Caption]"
) -> bool:
    """Puts the final captions of ``file`` into ``captions``; whether there was time for all."""
    from dragoman.pipeline.frames import read_frames
    from dragoman.pipeline.media import read_audio
    from dragoman.pipeline.session import Session

    end = time.monotonic() + PATIENCE_S
    for caption in Session(chain, read_audio(file), options, "fast", frames=read_frames(file)):
        captions.append(caption)
        if time.monotonic() > end:
            return False
    return True


def _seen(captions: "Sequence[Caption]", spec: ModelSpec) -> Finding:
    from dragoman.models.checkpoint import Checkpoint

    pictures = {frame.index for caption in captions for frame in caption.frames}
    if not pictures:
        remedy = "see whether another video has some: PyAV may lack this one's codec"
        return Finding("picture", "failed", "no picture of the clip was found", remedy)
    if not Checkpoint.listed(spec.model).has_vision:
        found = f"{len(pictures)} pictures named; a model without a vision tower sees none"
        return Finding("picture", "ok", found)
    return Finding("picture", "ok", f"{len(pictures)} pictures shown to the model")


def _translated(captions: "Sequence[Caption]", known: bool) -> Finding:
    said = " ".join(caption.translation.whole for caption in captions).strip()
    if not said:
        remedy = "try --model nano: if that translates, these weights do not"
        return Finding("translation", "failed", "the transcript was not translated", remedy)
    reference = (SAMPLES / "talk.en.txt").read_text(encoding="utf-8")
    if known and word_error_rate(reference, said) > MOST_OTHER:
        remedy = f"it should be close to {_short(reference)}"
        return Finding("translation", "warning", _short(said), remedy)
    return Finding("translation", "ok", _short(said))


def reference(chain: "Chain", options: "SessionOptions", clip: Path | None) -> Finding:
    """The one published answer beside what came. It is of E4B in bf16, so other weights may differ
    and are no failure.
    """
    if clip is None:
        remedy = f"download {REFERENCE_CLIP} and give it with --clip"
        return Finding("reference", "warning", f"not compared with {REFERENCE!r}", remedy)
    if not clip.is_file():
        raise InputError(f"there is no file {clip}: give the recording from {REFERENCE_CLIP}")
    asked = replace(
        options, language="en", target_language="es", prompt_style=REFERENCE_PROMPT,
        endpoint_ms=LONGEST_PAUSE_MS, pad_audio=True, finals_only=True,
    )  # fmt: skip
    captions: list[Caption] = []
    _captioned(chain, asked, clip, captions)
    came = " ".join(caption.transcript.whole for caption in captions)[: len(REFERENCE)]
    if came == REFERENCE:
        return Finding("reference", "ok", f"{came!r}, as published of E4B-it")
    remedy = "expected of E4B-it in bf16; other weights may differ: please report both lines"
    return Finding("reference", "warning", f"came {came!r}, published {REFERENCE!r}", remedy)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")
