"""How well a model hears and translates: word error rate and chrF on whole utterances.

Greedy decoding of whole clips, as fast as possible; what a live session yields on the same test set
is measured by `make bench`, through the stages themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import jiwer
import sacrebleu
import torch

from dragoman.models.words import normalized
from training.batch import CHUNK_SAMPLES, Spoken
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
    references = [normalized(reference) for reference, _ in heard]
    hypotheses = [normalized(hypothesis) for _, hypothesis in heard]
    chrf = sacrebleu.corpus_chrf([h for _, h in said], [[r for r, _ in said]])
    return Score(float(jiwer.wer(references, hypotheses)), chrf.score, len(heard))


@torch.inference_mode()
def answer(model: Nano, spoken: Spoken, most: int = 96) -> list[int]:
    """Greedy answer ids to a whole utterance, one chunk of silence after it, without the stop."""
    chunks = -(-len(spoken.samples) // CHUNK_SAMPLES) + 1
    audio = torch.zeros(1, chunks * CHUNK_SAMPLES)
    audio[0, : len(spoken.samples)] = spoken.samples
    soft = model.embed_audio.soft(model.audio_tower(model.mel(audio)))
    lm, cache = model.language_model, model.language_model.new_cache()
    before = torch.tensor([model.prompt.before])
    after = torch.tensor([model.prompt.after])
    lm.extend(lm.embed(before), before, cache)
    lm.extend(soft, torch.full(soft.shape[:2], model.soft_token), cache)
    end = model.embed_audio.hard(after[:, :1])
    logits = lm.prefill(torch.cat((end, lm.embed(after[:, 1:])), 1), after, cache)
    ids: list[int] = []
    while len(ids) < most:
        token = int(logits.argmax())
        if token in model.prompt.stop:
            break
        ids.append(token)
        logits = lm.step(torch.tensor([token]), cache)
    return ids
