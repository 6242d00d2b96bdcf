"""Fine-tunes a model on one's own speech: `python -m training.lora FOLDER`, or `make finetune`.

    python -m training.lora recordings/ --model google/gemma-3n-E2B-it --language es --out adapter
    dragoman captions --model adapter

Recordings with what is said in them (:mod:`training.lora_data`) become a LoRA adapter in the form
of PEFT (:mod:`training.lora_layers`), which every command loads. What is learnt is the answer to a
whole utterance; where nobody gave a translation, its transcript and that a translation comes next.

Unusual: word errors before and after are those of the live pipeline, on recordings that nothing was
learnt from: what a user of the adapter gets. A run that is started again goes on where it stood.
"""

import argparse
import json
import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import dragoman
from dragoman.encoders import LogMel
from dragoman.errors import DragomanError, InputError
from dragoman.models import hub
from dragoman.models.checkpoint import Checkpoint
from training import lora_layers
from training.batch import CHUNK_SAMPLES, IGNORE, Batch, Batcher, Row
from training.evaluate import score, word_error_rate
from training.listener import Listener
from training.lora_data import Recording, Recordings, read
from training.lora_layers import TARGETS, Lora
from training.lora_state import State

log = logging.getLogger(__name__)

WARMUP_SHARE = 0.05  # of all steps
LAST_SHARE = 0.05  # of the learning rate, at the end
MOST_TOKENS = 448  # of an answer: more is no utterance of 30 s
SAVE_EVERY_S = 120


@dataclass
class Tuner:
    """A run: what is learnt from, by what, and how far it is."""

    args: argparse.Namespace
    recordings: Recordings
    model: Listener
    batcher: Batcher
    state: State

    @classmethod
    def open(cls, args: argparse.Namespace, recordings: Recordings) -> "Tuner":
        """Loads the model and gives it changes, those of an earlier sitting if there was one."""
        checkpoint = replace(Checkpoint.open(args.model), quick=False)
        direction = args.language, args.target_language
        batcher = Batcher(checkpoint.tokenizer, directions=[direction])
        model = listener(checkpoint, batcher.prompt(*direction).after, args.dtype, args.device)
        changed = lora_layers.insert(model, args.lora, args.seed)
        state = State.open(args.out, changed, args.rate, asked(args))
        return cls(args, recordings, model, batcher, state)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return math.ceil(self.args.epochs * self._steps_an_epoch)

    @property
    def _steps_an_epoch(self) -> int:
        return math.ceil(len(self.recordings.learnt) / self.args.batch)

    def check(self) -> None:
        """Raises InputError for a recording that no step can learn from; the first steps would
        otherwise tell it, after all that comes before them.
        """
        for recording in (*self.recordings.learnt, *self.recordings.held_out):
            self._row(recording)

    def run(self) -> None:
        """Steps to the end, keeping the adapter that did best on what is held out."""
        state, saved = self.state, time.monotonic()
        if state.step == 0:
            self._keep(self.loss_held_out())
        while state.step < self.steps:
            state.set_rate(rate(state.step, self.steps))
            loss = self._step(state.step)
            log.info("step %d of %d: loss %.4f", state.step, self.steps, loss)
            if state.step % self._steps_an_epoch == 0 or state.step == self.steps:
                self._keep(self.loss_held_out())
            elif time.monotonic() - saved < SAVE_EVERY_S:
                continue
            state.save()
            saved = time.monotonic()

    def _keep(self, loss: float) -> None:
        """Writes the adapter if nothing before it did better."""
        state = self.state
        log.info("held out, after %d steps: loss %.4f", state.step, loss)
        if loss < state.best:
            state.best = loss
            base = name_of_base(self.args.model)
            lora_layers.write(self.args.out, base, self.args.lora, state.changed)

    def _step(self, number: int) -> float:
        """One step of the optimizer, whose utterances go through the model some at a time; the
        mean loss of their answers' tokens.
        """
        batches = [*self._batches(number)]
        total = sum(int((batch.targets != IGNORE).sum()) for batch in batches)
        loss = 0.0
        for batch in batches:
            share = int((batch.targets != IGNORE).sum()) / total
            part = self._loss(batch) * share
            part.backward()
            loss += part.item()
        self.state.update()
        return loss

    def _loss(self, batch: Batch) -> Tensor:
        batch = batch.to(self.model.device)
        return self.model.answer_loss(self.model.heard(batch), batch)

    def _batches(self, number: int) -> Iterator[Batch]:
        """What step ``number`` learns from: each epoch has an order of its own, and each sound
        begins at another moment of its first soft token.
        """
        args = self.args
        epoch, place = divmod(number, self._steps_an_epoch)
        learnt, rng = self.recordings.learnt, random.Random(f"{args.seed}-{number}")
        order = random.Random(f"{args.seed}-{epoch}").sample(learnt, len(learnt))
        rows = [
            self._row(recording, rng.randrange(CHUNK_SAMPLES))
            for recording in order[place * args.batch : (place + 1) * args.batch]
        ]
        yield from self._padded(sorted(rows, key=lambda row: row.tokens))

    def _padded(self, rows: Sequence[Row]) -> Iterator[Batch]:
        for i in range(0, len(rows), self.args.rows):
            some = rows[i : i + self.args.rows]
            yield self.batcher.heard(some, max(row.tokens for row in some))

    def _row(self, recording: Recording, silence: int = 0) -> Row:
        """A whole utterance with ``silence`` samples before it and a chunk of silence after it, as
        the pipeline has it.
        """
        samples = torch.from_numpy(recording.samples(self.args.language))
        samples = torch.nn.functional.pad(samples, (silence, 0))
        direction = self.args.language, self.args.target_language
        answer = self.batcher.answer(direction, recording.text, recording.translation)
        if not recording.translation:
            answer = answer[:-1]  # not that the translation is empty
        if len(answer) > MOST_TOKENS:
            raise InputError(
                f"{recording.path}: its text has {len(answer)} tokens, expected at most "
                f"{MOST_TOKENS}: cut it between sentences, its sound too"
            )
        tokens = -(-len(samples) // CHUNK_SAMPLES) + 1
        return Row(samples, tokens, direction, answer, 0, [], False)

    @torch.no_grad()
    def loss_held_out(self) -> float:
        """The mean loss of an answer's token on recordings that nothing is learnt from."""
        rows = [self._row(recording) for recording in self.recordings.held_out]
        total = count = 0
        for batch in self._padded(sorted(rows, key=lambda row: row.tokens)):
            tokens = int((batch.targets != IGNORE).sum())
            total += self._loss(batch).item() * tokens
            count += tokens
        return total / count


def listener(
    checkpoint: Checkpoint, after: Sequence[int], form: str = "auto", device: str = "cpu"
) -> Listener:
    """The whole way from sound to answer of a model folder, with frozen weights."""
    dtype = checkpoint.dtype(form)
    return Listener(
        LogMel(checkpoint.audio_config.input_feat_size).to(device),
        checkpoint.audio_encoder(dtype, device),
        checkpoint.embedder("audio", dtype, device),
        checkpoint.language_model(dtype, device),
        after,
        checkpoint.tokenizer.special("<audio_soft_token>"),
    )


def rate(step: int, steps: int) -> float:
    """Share of the highest learning rate: a warm-up, then down along a cosine."""
    warm = min(1.0, (step + 1) / max(1.0, WARMUP_SHARE * steps))
    fall = 0.5 * (1 + math.cos(math.pi * step / steps))
    return warm * (LAST_SHARE + (1 - LAST_SHARE) * fall)


def name_of_base(model: str) -> str:
    """``model`` as an adapter that may lie anywhere names it: a folder by its whole path."""
    folder = hub.here(model)
    return model if folder is None or folder.parent == hub.BUNDLED else str(folder.resolve())


def asked(args: argparse.Namespace) -> dict[str, str]:
    """What must be the same where a run goes on, by its options."""
    lora: Lora = args.lora
    values = {
        "--model": name_of_base(args.model),
        "--targets": lora.targets,
        "--alpha": lora.alpha,
        "--rank": lora.rank,
    }
    names = ("language", "target_language", "rate", "batch", "seed")
    values |= {f"--{name.replace('_', '-')}": getattr(args, name) for name in names}
    return {name: str(value) for name, value in values.items()}


def measured(
    model: str, recordings: Sequence[Recording], args: argparse.Namespace
) -> dict[str, float]:
    """Word error rate in [0, 1] of live captions, and chrF of their translations, where the
    recordings have some.
    """
    options = dragoman.Options(language=args.language, target_language=args.target_language)
    spec = dragoman.ModelSpec(model, device=args.device, dtype=args.dtype)
    heard, said = [], []
    with dragoman.Captioner(spec) as captioner:
        for one in recordings:
            captions = captioner.caption(one.path, options, pace="fast")
            finals = [caption for caption in captions if caption.kind == "final"]
            heard.append((one.text, " ".join(final.transcript.whole for final in finals)))
            if one.translation:
                meant = " ".join(final.translation.whole for final in finals)
                said.append((one.translation, meant))
    found = {"recordings": len(heard), "wer": round(word_error_rate(heard), 4)}
    return found | ({"chrf": round(score(heard, said).chrf, 1)} if said else {})


def tell(when: str, found: dict[str, float], args: argparse.Namespace) -> None:
    """A line on the screen and in the log of the run."""
    args.out.mkdir(parents=True, exist_ok=True)
    with (args.out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"when": when} | found) + "\n")
    translated = f", chrF of translations {found['chrf']:.1f}" if "chrf" in found else ""
    print(
        f"{when}: word error rate {100 * found['wer']:.1f} %{translated} "
        f"({found['recordings']} recordings held out)"
    )


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Fine-tune a model on your own speech (LoRA).")
    parser.add_argument(
        "recordings", type=Path, help="folder of NAME.wav + NAME.txt, or a manifest"
    )
    parser.add_argument("--model", default="nano", help="bundled name, folder or hub id")
    parser.add_argument("--out", type=Path, default=Path("build/adapter"))
    parser.add_argument("--language", default="es")
    parser.add_argument("--target-language", default="en")
    parser.add_argument("--targets", default="all", help="text, audio, all, or a pattern of names")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=32.0)
    parser.add_argument("--rate", type=float, default=5e-4, help="the highest learning rate")
    parser.add_argument("--epochs", type=float, default=4.0)
    parser.add_argument("--batch", type=int, default=16, help="utterances a step")
    parser.add_argument("--rows", type=int, default=4, help="utterances at once, for memory")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the recordings")
    parser.add_argument("--measured", type=int, default=50, help="at most, before and after")
    parser.add_argument("--dtype", choices=("auto", "float32", "bf16"), default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    asked: str = args.targets
    known = {**TARGETS, "all": Lora.targets}
    args.lora = Lora(known.get(asked, asked), args.rank, args.alpha)
    return args


def main(argv: list[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    args = options(argv)
    try:
        recordings = read(args.recordings, args.target_language, args.held_out)
        judged = recordings.held_out[: args.measured]
        tuner = Tuner.open(args, recordings)
        tuner.check()
        if not State.exists(args.out):
            tell("before", measured(args.model, judged, args), args)
        tuner.run()
        tell("after", measured(str(args.out), judged, args), args)
    except DragomanError as error:
        raise SystemExit(f"training.lora: {error}") from None
    print(f"Use it: dragoman captions --model {args.out} --language {args.language}")


if __name__ == "__main__":
    main()
