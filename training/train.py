"""Trains the bundled model: `python -m training.train --minutes 85`, or `make train`.

Two processes of one thread each train on their own batches and average their gradients: at this
size that is half as fast again as two threads on one batch. The learning rate follows the share of
the time budget that is used up, so a slow machine trains less, not wrongly. A run saves every
minute and goes on where it stood when started again; evaluation is on development sentences, half
of them in voices that training never hears.
"""

import argparse
import json
import logging
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.tokenizer import Tokenizer
from training import nano
from training import tokenizer as tokenizers
from training.augment import Augmenter
from training.batch import Batch, Batcher, Spoken
from training.corpus import Corpus, Example, Splits, load
from training.evaluate import Score, answer, score
from training.model import Nano
from training.phases import HEARING, READING, Encoded, Phase, current, phases
from training.run import Average, Progress, Run, export

log = logging.getLogger(__name__)

POOL = 8  # batches drawn at once, sorted by length, so that little is padding
PEAK_RATE = 1.2e-3
WARMUP_STEPS = 120
LETTERS_WEIGHT = 0.5
FORGET_SHARE = 0.35  # of the answer's words, at the start; it falls to nothing with time
HALF_WIDTH_SHARE = 0.25
MASK_SHARE = 0.5
CLEAN_SHARE = 0.1
ENCODED = 16_000  # utterances for the second phase
CLEAN_START = 12_000  # utterances until clean ones have become that rare
SAVE_EVERY_S = 60
EVALUATE_EVERY_S = 360


class Batches:
    """An endless stream of augmented batches.

    Early on most utterances are left clean: the encoder then finds the letters much sooner.
    ``seen`` is how many utterances training had when the stream begins, ``share`` the part of all
    that come through this stream.
    """

    def __init__(
        self, corpus: Corpus, batcher: Batcher, size: int, seed: int, seen: int, share: float
    ) -> None:
        self._corpus, self._batcher, self._size, self._seed = corpus, batcher, size, seed
        self._seen, self._share = float(seen), share

    def __iter__(self) -> Iterator[Batch]:
        rng = random.Random(self._seed)
        babble = self._corpus.recordings(60, self._seed)
        augment = Augmenter(rng.randrange(2**31), babble)
        while True:
            pool = [self._spoken(rng, augment) for _ in range(POOL * self._size)]
            pool.sort(key=lambda one: len(one.samples))
            batches = [pool[i : i + self._size] for i in range(0, len(pool), self._size)]
            rng.shuffle(batches)
            for batch in batches:
                yield self._batcher(batch, rng)

    def encoded(self, model: Nano, rng: random.Random) -> Iterator[Batch]:
        """The same of a fixed number of utterances that ``model`` encodes now, once."""
        augment = Augmenter(rng.randrange(2**31), self._corpus.recordings(60, self._seed))
        count = round(ENCODED * self._share)
        spoken = [self._spoken(rng, augment) for _ in range(count)]
        return Encoded(model, spoken, self._size).batches(self._batcher, rng)

    def _spoken(self, rng: random.Random, augment: Augmenter) -> Spoken:
        example = self._corpus[rng.randrange(len(self._corpus))]
        self._seen += 1 / self._share
        clean = max(CLEAN_SHARE, 1 - self._seen / CLEAN_START)
        return augmented(example, rng, None if rng.random() < clean else augment)


def augmented(example: Example, rng: random.Random, augment: Augmenter | None) -> Spoken:
    """An example in a random room, with silence around it as a segmenter leaves it."""
    lead, tail = rng.randrange(800, 8_000), rng.randrange(3_200, 10_400)
    quiet = torch.nn.functional.pad(example.samples.float() / 32_768, (lead, tail))
    samples, scale = augment(quiet) if augment else (quiet, 1.0)
    ends = [round((end + lead) * scale) for end in example.word_ends_samples]
    return Spoken(samples, example.words, ends, example.spanish, example.english_prefixes)


def plain(example: Example) -> Spoken:
    """An example as it was spoken, with a little silence around it."""
    samples = torch.nn.functional.pad(example.samples.float() / 32_768, (4_800, 6_400))
    ends = [end + 4_800 for end in example.word_ends_samples]
    return Spoken(samples, example.words, ends, example.spanish, example.english_prefixes)


def mel_mask(batch: Batch, bands: int, rng: random.Random) -> torch.Tensor | None:
    """SpecAugment (Park et al., 2019): two bands and two short stretches, never the first frames,
    where the cumulative norm would see no variance."""
    if batch.features is not None or rng.random() > MASK_SHARE:
        return None
    B, frames = batch.audio.shape[0], batch.audio.shape[1] // 160
    mask = torch.zeros(B, frames, bands, dtype=torch.bool)
    for row in range(B):
        for _ in range(2):
            low, width = rng.randrange(bands), rng.randrange(1, 16)
            mask[row, 40:, low : low + width] = True
            start, length = rng.randrange(40, max(41, frames)), rng.randrange(1, 12)
            mask[row, start : start + length] = True
    return mask


def rate(phase: Phase, over: float, step: int) -> float:
    """Learning rate with ``over`` of a phase behind it, at its step ``step``: a warm-up, then down
    along a cosine."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    fall = 0.5 * (1 + math.cos(math.pi * over))
    return PEAK_RATE * warm * (phase.last + (phase.first - phase.last) * fall)


def train(rank: int, args: argparse.Namespace) -> None:
    """One of ``args.processes`` trainers; the first one saves, evaluates and exports."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    store = f"file://{(args.run / 'rendezvous').resolve()}"
    dist.init_process_group("gloo", store, rank=rank, world_size=args.processes)
    corpus = load(args.corpus)
    run = Run(args.run)
    tokenizer = Tokenizer.from_file(args.run / "tokenizer.json")
    prompt = prompts.build(tokenizer, "es", "en")
    config = nano.config(tokenizer)
    torch.manual_seed(args.seed)
    model = Nano(config, prompt, tokenizer.special("<audio_soft_token>"))
    groups = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.02},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    average = Average(model, 0.998)
    now = run.load(model, average, optimizer) if run.exists else Progress()
    rng = random.Random(f"{args.seed}-{now.step}-{rank}")
    source = Batches(
        corpus.train,
        Batcher(tokenizer, prompt),
        args.batch,
        rng.randrange(2**31),
        now.utterances,
        1 / args.processes,
    )
    loop(args, run, model, average, optimizer, now, source, rng, corpus, tokenizer)
    if rank == 0:
        finish(args, run, model, average, now, corpus, tokenizer, config)


def loop(
    args: argparse.Namespace,
    run: Run,
    model: Nano,
    average: Average,
    optimizer: torch.optim.Optimizer,
    now: Progress,
    source: Batches,
    rng: random.Random,
    corpus: Splits,
    tokenizer: Tokenizer,
) -> None:
    """Steps until the time budget is used up; evaluation does not count."""
    budget = args.minutes * 60
    half = model.language_model.config.ffn_widths[0] // 2
    plan = phases(args.hearing, args.reading)
    saved = evaluated = now.seconds
    batches: Iterator[Batch] = iter(())
    entered = ""
    while now.seconds < budget:
        phase, over = current(plan, now.seconds / budget)
        if phase.name != entered:
            batches = source.encoded(model, rng) if phase.name == READING else iter(source)
            entered = phase.name
        if phase.name != now.phase:
            now.phase, now.phase_step = phase.name, 0
        started = time.monotonic()
        batch = next(batches)
        lr = rate(phase, over, now.phase_step)
        for group in optimizer.param_groups:
            group["lr"] = lr
        width = half if rng.random() < HALF_WIDTH_SHARE else None
        mask = mel_mask(batch, model.mel.bands, rng)
        forget = FORGET_SHARE * (1 - now.seconds / budget)
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.losses(batch, mask, width, phase.name == HEARING, forget)
        losses.total(LETTERS_WEIGHT).backward()
        share_gradients(model)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            optimizer.step()
            average.update(model, now.step)
        else:
            now.skipped += 1
        optimizer.zero_grad(set_to_none=True)
        now.step += 1
        now.phase_step += 1
        now.utterances += len(batch.tokens) * args.processes
        now.seconds += agreed(time.monotonic() - started)
        if dist.get_rank() > 0:
            continue
        if now.step % 10 == 0:
            run.log(
                **asdict(now),
                rate=lr,
                answer=losses.answer.item(),
                letters=losses.letters.item(),
                gathered=losses.gathered.item(),
                norm=norm.item(),
                half=width is not None,
            )
        if now.seconds - saved > SAVE_EVERY_S:
            saved = now.seconds
            run.save(model, average, optimizer, now)
        if now.seconds - evaluated > EVALUATE_EVERY_S:
            evaluated = now.seconds
            got = evaluate(model, average, corpus.dev, tokenizer, 60)
            run.log(**asdict(now), split="dev", wer=got.wer, chrf=got.chrf)
            log.info("step %d, %.0f s: %s", now.step, now.seconds, got)
    if dist.get_rank() == 0:
        run.save(model, average, optimizer, now)


def share_gradients(model: torch.nn.Module) -> None:
    """Replaces every gradient by its mean over the processes."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def agreed(seconds: float) -> float:
    """The first process's time, which all go by: they must take the same steps."""
    told = torch.tensor(seconds, dtype=torch.float64)
    dist.broadcast(told, 0)
    return told.item()


def evaluate(
    model: Nano, average: Average, corpus: Corpus, tokenizer: Tokenizer, count: int
) -> Score:
    """The averaged weights on the first ``count`` utterances; the trained ones are put back."""
    trained = {n: p.detach().clone() for n, p in model.named_parameters()}
    put(model, average.weights)
    model.eval()
    heard, said = [], []
    for i in range(min(count, len(corpus))):
        example = corpus[i]
        text = tokenizer.decode(answer(model, plain(example)))
        transcript, _, translation = text.partition("\nEnglish:")
        heard.append((example.spanish, transcript))
        said.append((example.english, translation.strip()))
    model.train()
    put(model, trained)
    return score(heard, said)


@torch.no_grad()
def put(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def make_tokenizer(corpus: Corpus, folder: Path) -> None:
    """Trains the run's tokenizer on the training text, unless it is there."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        pair = prompts.prompt_text("es", "en")
        texts = [*pair, "\n" + prompts.label("en")] * 50
        for record in corpus.records:
            texts += [record.spanish, " " + record.english]
        tokenizers.train(texts, nano.TEXT_VOCAB, path)


def finish(
    args: argparse.Namespace,
    run: Run,
    model: Nano,
    average: Average,
    now: Progress,
    corpus: Splits,
    tokenizer: Tokenizer,
    config: dict,
) -> None:
    """Rounds to bf16, exports, and scores what was exported on the test set."""
    rounded = {n: p.to(torch.bfloat16).float() for n, p in average.weights.items()}
    export(rounded, config, args.out)
    source = (args.run / "tokenizer.json").read_text(encoding="utf-8")
    (args.out / "tokenizer.json").write_text(source, encoding="utf-8")
    Checkpoint.open(str(args.out)).language_model()  # what cannot be loaded is not finished
    average.weights = rounded
    got = evaluate(model, average, corpus.test, tokenizer, len(corpus.test))
    run.log(**asdict(now), split="test", wer=got.wer, chrf=got.chrf)
    print(json.dumps({"split": "test", "wer": got.wer, "chrf": got.chrf, **asdict(now)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, default=Path("build/corpus"))
    parser.add_argument("--run", type=Path, default=Path("build/run"))
    parser.add_argument("--out", type=Path, default=Path("models/nano"))
    parser.add_argument("--minutes", type=float, default=85.0)
    parser.add_argument("--hearing", type=float, default=0.25, help="end of the first phase")
    parser.add_argument("--reading", type=float, default=0.6, help="end of the second phase")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "rendezvous").unlink(missing_ok=True)
    make_tokenizer(load(args.corpus).train, args.run)
    mp.spawn(train, (args,), nprocs=args.processes)  # pyright: ignore[reportPrivateImportUsage]


if __name__ == "__main__":
    main()
