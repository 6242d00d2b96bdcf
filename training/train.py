"""Trains the bundled model: `python -m training.train --minutes 85`, or `make train`.

On the CPU two processes of one thread each train on their own batches and average their gradients:
at this size that is half as fast again as two threads on one batch, and other work on the machine
slows it less. On a GPU one process trains, and ``--workers`` others make its batches. The learning
rate follows the share of the time budget that is used up, so a slow machine trains less, not
wrongly; on the CPU the budget is in processor time, so a busy one takes longer. A run saves every
two minutes and goes on where it stood when started again, with the speech and the text that are
there then; `--from` starts a new run from an earlier model.
"""

import argparse
import json
import logging
import os
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.compiler import set_stance

from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.tokenizer import Tokenizer
from training import nano, sizes
from training import tokenizer as tokenizers
from training.batch import Batch, Batcher
from training.compiling import compile_parts
from training.growth import take, weights_of
from training.model import Nano
from training.optimizing import agreed, optimizers, rate, set_rate, share_gradients
from training.phases import HEARING, READING, Phase, current, encoded, phases
from training.progress import Evaluator
from training.run import Average, Progress, Run, export
from training.stream import Stream, loader
from training.text import LANGUAGES, Texts

log = logging.getLogger(__name__)

LETTERS_WEIGHT = 0.5
PLACED_WEIGHT = 0.3
FORGET_SHARE = 0.35  # of the answer's words, at the start; it falls to nothing with time
FORGET_READ_SHARE = 0.1  # of a text that is to be translated
WRITTEN_EVERY = (6, 3, 6)  # one step in so many of each phase is text alone
WRITTEN_ROWS = 16
MASK_SHARE = 0.5
VOCABULARY_DRAWS = 20_000
SAVE_EVERY_S = 120
EVALUATE_EVERY_S = 360


@dataclass
class Trainer:
    """What one process of a run holds."""

    args: argparse.Namespace
    rank: int
    run: Run
    tokenizer: Tokenizer
    config: dict
    model: Nano
    average: Average
    optimizers: list[torch.optim.Optimizer]
    now: Progress
    stream: Stream
    rng: random.Random
    evaluator: Evaluator
    waited: float = 0.0  # seconds in this sitting, for batches

    @classmethod
    def open(cls, rank: int, args: argparse.Namespace) -> "Trainer":
        """Begins a run, or finds it where it stood."""
        run = Run(args.run)
        tokenizer = Tokenizer.from_file(args.run / "tokenizer.json")
        config = nano.config(tokenizer, args.shape)
        torch.manual_seed(args.seed)
        prompt = prompts.build(tokenizer, "es", "en")
        model = Nano(config, prompt.after, tokenizer.special("<audio_soft_token>"))
        if args.start_from and not run.exists:
            new = take(model, weights_of(args.start_from))
            log.info("taken from %s; %d weights are new", args.start_from, len(new))
        model.to(args.device)
        made = optimizers(model, args.muon)
        average = Average(model, 0.998)
        now = run.load(model, average, made) if run.exists else Progress()
        rng = random.Random(f"{args.seed}-{now.step}-{rank}")
        torch.manual_seed(rng.randrange(2**31))
        batcher = Batcher(tokenizer)
        stream = Stream(
            args.corpus, args.text, batcher, args.seconds, rng.randrange(2**31),
            now.utterances, 1 / (args.processes * max(1, args.workers)),
        )  # fmt: skip
        evaluator = Evaluator(args.corpus, tokenizer, batcher)
        if args.compile:
            compile_parts(model)
        return cls(
            args, rank, run, tokenizer, config, model, average, made, now, stream, rng, evaluator
        )

    def loop(self) -> None:
        """Steps until the time budget is used up; evaluation does not count."""
        args, now = self.args, self.now
        budget, plan = args.minutes * 60, phases(args.hearing, args.reading)
        saved, evaluated = time.monotonic(), now.seconds
        written = loader(partial(self.stream.written, args.rows), min(2, args.workers))
        batches: Iterator[Batch] = iter(())
        entered = ""
        while now.seconds < budget:
            phase, over = current(plan, now.seconds / budget)
            if phase.name != entered:
                batches, entered = self.batches(phase), phase.name
            if phase.name != now.phase:
                now.phase, now.phase_step = phase.name, 0
            started = clock(args.device)
            every = args.written_every[plan.index(phase)]
            reads = now.step % every == every - 1
            asked = time.monotonic()
            batch = next(written if reads else batches)
            self.waited += time.monotonic() - asked
            self.step(batch, phase, over, reads)
            now.seconds += agreed(clock(args.device) - started)
            if self.rank == 0 and time.monotonic() - saved > SAVE_EVERY_S:
                saved = time.monotonic()
                self.run.save(self.model, self.average, self.optimizers, now)
            if self.rank == 0 and 0 < args.evaluate * 60 < now.seconds - evaluated:
                evaluated = now.seconds
                self.evaluate()
        if self.rank == 0:
            self.run.save(self.model, self.average, self.optimizers, now)

    def batches(self, phase: Phase) -> Iterator[Batch]:
        """What a phase hears: nothing again, and as noisy as it was at last."""
        self.stream.seen, self.stream.seed = self.now.utterances, self.rng.randrange(2**31)
        return loader(self.stream.heard, self.args.workers)

    def step(self, batch: Batch, phase: Phase, over: float, reads: bool) -> None:
        """One step of both optimizers, and its line in the log."""
        now, model = self.now, self.model
        share = rate(phase, over, now.phase_step)
        set_rate(self.optimizers, share)
        # All processes draw the same size: they share the gradients of what it has.
        same = random.Random(f"{self.args.seed}-{now.step}")
        size = sizes.drawn(model.language_model.config, same)
        batch = batch.to(model.device)
        mask = mel_mask(batch, model.mel.bands, self.rng)
        forget = FORGET_SHARE * (1 - now.seconds / (self.args.minutes * 60))
        if reads:
            forget = FORGET_READ_SHARE
        elif phase.name == READING:
            batch = encoded(self.model, batch)
        with torch.autocast(model.device.type, torch.bfloat16):
            hears_only = phase.name == HEARING and not reads
            losses = model.losses(batch, mask, size, hears_only, forget)
        losses.total(LETTERS_WEIGHT, PLACED_WEIGHT).backward()
        share_gradients(model)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.average.update(model, now.step)
        else:
            now.skipped += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        now.step += 1
        now.phase_step += 1
        if not reads:
            now.utterances += len(batch.tokens) * self.args.processes
        if self.rank == 0 and now.step % 10 in (0, 5):
            told = {"reads": losses.answer} if reads else {
                "answer": losses.answer, "letters": losses.letters, "gathered": losses.gathered,
                "placed": losses.placed,
            }  # fmt: skip
            self.run.log(
                **asdict(now), rate=share, norm=norm.item(), whole=size is None, waited=self.waited,
                **{k: round(v.item(), 4) for k, v in told.items()},
            )  # fmt: skip

    def evaluate(self) -> None:
        """Logs how the averaged weights do on development speech."""
        trained = {n: p.detach().clone() for n, p in self.model.named_parameters()}
        put(self.model, self.average.weights)
        self.model.eval()
        with set_stance("force_eager"):
            for line in self.evaluator(self.model, listens=self.now.phase != HEARING):
                self.run.log(step=self.now.step, seconds=self.now.seconds, split="dev", **line)
                log.info("step %d, %.0f s: %s", self.now.step, self.now.seconds, line)
        self.model.train()
        put(self.model, trained)

    def finish(self) -> None:
        """Rounds to bf16, exports, and scores what was exported."""
        args = self.args
        rounded = {n: p.to(torch.bfloat16).float() for n, p in self.average.weights.items()}
        export(rounded, self.config, args.out)
        source = (args.run / "tokenizer.json").read_text(encoding="utf-8")
        (args.out / "tokenizer.json").write_text(source, encoding="utf-8")
        Checkpoint.open(str(args.out)).language_model()  # what cannot be loaded is not finished
        self.average.weights = rounded
        if args.evaluate:
            self.evaluate()


def clock(device: str) -> float:
    """Seconds: of this process on the CPU, where other work shall delay a run and not cut it short;
    of the world where a GPU works."""
    return time.process_time() if device == "cpu" else time.monotonic()


def mel_mask(batch: Batch, bands: int, rng: random.Random) -> torch.Tensor | None:
    """SpecAugment (Park et al., 2019): two bands and two short stretches, never the first frames,
    where the cumulative norm would see no variance."""
    if not batch.audio.shape[1] or rng.random() > MASK_SHARE:
        return None
    B, frames = batch.audio.shape[0], batch.audio.shape[1] // 160
    mask = torch.zeros(B, frames, bands, dtype=torch.bool)
    for row in range(B):
        for _ in range(2):
            low, width = rng.randrange(bands), rng.randrange(1, 16)
            mask[row, 40:, low : low + width] = True
            start, length = rng.randrange(40, max(41, frames)), rng.randrange(1, 12)
            mask[row, start : start + length] = True
    return mask.to(batch.audio.device)


@torch.no_grad()
def put(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copies ``weights`` into ``model``."""
    for name, parameter in model.named_parameters():
        parameter.copy_(weights[name])


def make_tokenizer(args: argparse.Namespace) -> None:
    """Takes over the tokenizer of `--from`, or trains one on the text, unless it is there."""
    path = args.run / "tokenizer.json"
    if path.is_file():
        return
    if args.start_from:
        source = (args.start_from / "tokenizer.json").read_text(encoding="utf-8")
        path.write_text(source, encoding="utf-8")
        return
    rng, texts = random.Random(args.seed), Texts(args.text)
    lines = []
    for pair in nano.DIRECTIONS:
        lines += [*prompts.prompt_text(*pair), "\n" + prompts.label(pair[1])] * 2_000
    for _ in range(VOCABULARY_DRAWS):
        said = texts.draw(rng, "train").texts
        lines += [text for language in LANGUAGES for text in (said[language], " " + said[language])]
    tokenizers.train(lines, nano.TEXT_VOCAB, path)


def train(rank: int, args: argparse.Namespace) -> None:
    """One of ``args.processes`` trainers; the first one saves, evaluates and exports."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if args.device == "cpu":
        torch.set_num_threads(1)
    else:
        torch.set_float32_matmul_precision("high")
    store = f"file://{(args.run / 'rendezvous').resolve()}"
    dist.init_process_group("gloo", store, rank=rank, world_size=args.processes)
    trainer = Trainer.open(rank, args)
    trainer.loop()
    if rank == 0:
        trainer.finish()
    dist.destroy_process_group()


def options(argv: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--corpus", type=Path, default=Path("build/speech"))
    parser.add_argument("--text", type=Path, default=Path("training/text"))
    parser.add_argument("--run", type=Path, default=Path("build/run"))
    parser.add_argument("--out", type=Path, default=Path("models/nano"))
    parser.add_argument("--from", dest="start_from", type=Path, help="folder of a run or model")
    parser.add_argument("--minutes", type=float, default=85.0)
    parser.add_argument("--hearing", type=float, default=0.4, help="end of the first phase")
    parser.add_argument("--reading", type=float, default=0.6, help="end of the second phase")
    parser.add_argument(
        "--evaluate", type=float, default=6.0, help="every so many minutes and at the end; 0: never"
    )
    parser.add_argument("--seconds", type=float, default=64.0, help="of audio in a batch")
    parser.add_argument("--rows", type=int, default=WRITTEN_ROWS, help="in a batch of text")
    parser.add_argument(
        "--written-every", type=int, nargs=3, default=WRITTEN_EVERY, metavar="STEPS",
        help="in each phase, one step in so many is text alone",
    )  # fmt: skip
    parser.add_argument("--blocks", type=int, default=nano.SHAPE.audio_blocks)
    parser.add_argument("--ffn", type=int, default=nano.SHAPE.ffn)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, help="default: 2 on the CPU, 1 on a GPU")
    parser.add_argument("--workers", type=int, default=0, help="that make batches, a process")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="default: on the CPU"
    )
    parser.add_argument("--no-muon", dest="muon", action="store_false")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(argv)
    args.shape = replace(nano.SHAPE, audio_blocks=args.blocks, ffn=args.ffn)
    on_cpu = args.device == "cpu"
    args.processes = args.processes or (2 if on_cpu else 1)
    args.compile = on_cpu if args.compile is None else args.compile
    return args


def main(argv: list[str] | None = None) -> None:
    args = options(argv)
    args.run.mkdir(parents=True, exist_ok=True)
    (args.run / "rendezvous").unlink(missing_ok=True)
    make_tokenizer(args)
    (args.run / "options.json").write_text(json.dumps(vars(args), default=str, indent=1) + "\n")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if args.processes == 1:
        train(0, args)
    else:
        mp.spawn(train, (args,), nprocs=args.processes)  # pyright: ignore[reportPrivateImportUsage]


if __name__ == "__main__":
    main()
