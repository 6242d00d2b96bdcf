"""How well a model hears and translates: word error rate and chrF on whole utterances.

Greedy decoding of whole clips, as fast as possible; what a live session yields on the same test set
is measured by `make bench`, through the stages themselves. Unusual: `spell` reads the letters off
the encoder alone, which tells how far it is long before the decoder listens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer
import sacrebleu
import torch
from torch import Tensor

from dragoman.models.prompt import Prompt
from dragoman.models.words import normalized
from training.batch import CHUNK_SAMPLES, LETTERS, Spoken
from training.model import Nano


@dataclass(frozen=True)
class Score:
    """``wer`` in [0, 1] over all words, but for case and punctuation; ``chrf`` in [0, 100]."""

    wer: float
    chrf: float
    utterances: int


def score(pairs: Iterable[tuple[str, str]], translations: Iterable[tuple[str, str]]) -> Score:
    """``pairs`` and ``translations`` are (reference, hypothesis)."""
    heard, said = list(pairs), list(translations)
    chrf = sacrebleu.corpus_chrf([h for _, h in said], [[r for r, _ in said]])
    return Score(word_error_rate(heard), chrf.score, len(heard))


def word_error_rate(pairs: Sequence[tuple[str, str]]) -> float:
    """Of (reference, hypothesis), but for case and punctuation."""
    references = [normalized(reference) for reference, _ in pairs]
    hypotheses = [normalized(hypothesis) for _, hypothesis in pairs]
    return float(jiwer.wer(references, hypotheses))


@torch.inference_mode()
def answer(model: Nano, spoken: Spoken, prompt: Prompt, most: int = 96) -> list[int]:
    """Greedy answer ids to a whole utterance, one chunk of silence after it, without the stop."""
    soft = model.embed_audio.soft(model.features(_audio(model, [spoken])))
    lm, cache = model.language_model, model.language_model.new_cache()
    before = torch.tensor([prompt.before], device=model.device)
    after = torch.tensor([prompt.after], device=model.device)
    lm.extend(lm.embed(before), before, cache)
    ids_of_soft = torch.full(soft.shape[:2], model.soft_token, device=model.device)
    lm.extend(soft, ids_of_soft, cache)
    end = model.embed_audio.hard(after[:, :1])
    logits = lm.prefill(torch.cat((end, lm.embed(after[:, 1:])), 1), after, cache)
    ids: list[int] = []
    while len(ids) < most:
        token = int(logits.argmax())
        if token in prompt.stop:
            break
        ids.append(token)
        logits = lm.step(torch.tensor([token], device=model.device), cache)
    return ids


@torch.inference_mode()
def spell(model: Nano, spoken: Sequence[Spoken]) -> list[str]:
    """What the letters' head reads, frame by frame, without repetitions and blanks."""
    frames = model.audio_tower.frames(model.mel(_audio(model, spoken)))
    best = model.letters(frames).argmax(-1).cpu()
    ends = [(-(-len(one.samples) // CHUNK_SAMPLES) + 1) * model.reduction for one in spoken]
    return [_collapsed(row[:end]) for row, end in zip(best, ends, strict=True)]


def _collapsed(row: Tensor) -> str:
    changes = torch.unique_consecutive(row).tolist()
    return "".join(LETTERS[index - 1] for index in changes if index)


def _audio(model: Nano, spoken: Sequence[Spoken]) -> Tensor:
    chunks = max(-(-len(one.samples) // CHUNK_SAMPLES) for one in spoken) + 1
    audio = torch.zeros(len(spoken), chunks * CHUNK_SAMPLES)
    for row, one in zip(audio, spoken, strict=True):
        row[: len(one.samples)] = one.samples
    return audio.to(model.device)
