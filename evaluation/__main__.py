"""`python -m evaluation`: measures what is not measured yet, and writes what `docs/` publishes."""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

from dragoman.errors import DragomanError
from dragoman.models.checkpoint import Checkpoint
from dragoman.pipeline.outputs import write_whole
from evaluation import report
from evaluation.bench import FULL, QUICK, Bench, Unavailable
from evaluation.figures import Figures, figures, targets
from evaluation.longform import ScorerError
from evaluation.plan import MEASUREMENTS
from evaluation.plots import plot
from evaluation.store import Store


def main() -> None:
    args = _arguments()
    if args.list:
        print("\n".join(f"{name}: {run.__doc__}" for name, run in MEASUREMENTS.items()))
        return
    torch.set_num_threads(args.threads)
    try:
        bench = _bench(args)
        fine = run(bench, args.only or list(MEASUREMENTS))
        publish(bench, args.out)
    except DragomanError as error:
        sys.exit(f"evaluation: {error}")
    if not fine:
        sys.exit(1)


def run(bench: Bench, wanted: list[str]) -> bool:
    """Measures; False where something could not be, which is said and stops nothing else."""
    fine = True
    for name in wanted:
        begun = time.monotonic()
        try:
            MEASUREMENTS[name](bench)
        except (Unavailable, ScorerError) as error:
            fine = False
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{name}: {time.monotonic() - begun:.0f} s", flush=True)
    return fine


def publish(bench: Bench, out: Path) -> None:
    """Writes `evaluation.md`, `.json` and `.png` of all that the store holds of this model, and of
    what was published of it before and is not in this store.
    """
    out.mkdir(parents=True, exist_ok=True)
    about = _about(bench)
    found = with_earlier(figures(bench.store), about["model"], out / "evaluation.json")
    reached = targets(found)
    document = {"about": about, "targets": reached, **found}
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_whole(out / "evaluation.json", text)
    write_whole(out / "evaluation.md", report.markdown(found, reached, about))
    plot(found, out / "evaluation.png")


def with_earlier(found: Figures, model: str, path: Path) -> Figures:
    """``found``, with what is published at ``path`` of the same ``model`` where it has nothing."""
    if not path.is_file():
        return found
    earlier = json.loads(path.read_text(encoding="utf-8"))
    if earlier["about"]["model"] != model:
        return found
    commands = earlier["commands"] | found["commands"]
    return {key: row or earlier.get(key, row) for key, row in found.items()} | {
        "commands": commands
    }


def _about(bench: Bench) -> dict[str, str]:
    stored = Checkpoint.open(bench.model).tensors.values()
    megabytes = sum(tensor.bytes for tensor in stored) / 1e6
    return {
        "model": f"{bench.store.folder.name}, {megabytes:.1f} MB of weights",
        "directions": ", ".join(f"{spoken} to {written}" for spoken, written in bench.pairs),
        "machine": f"{_processor()}, {torch.get_num_threads()} thread",
    }


def _processor() -> str:
    """The processor's name, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _bench(args: argparse.Namespace) -> Bench:
    return Bench(
        model=args.model,
        store=Store(args.build, args.model, _command(args)),
        speech=args.speech,
        whisper=args.whisper,
        build=args.build,
        amounts=QUICK if args.quick else FULL,
        device=args.device,
    )


def _command(args: argparse.Namespace) -> str:
    """What to type for the same figures elsewhere: without the folders of this machine."""
    model = [] if args.model == "nano" else ["--model", Path(args.model).name]
    quick = ["--quick"] if args.quick else []
    only = ["--only", *args.only] if args.only else []
    return " ".join(["python -m evaluation", *model, *quick, *only])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    parser.add_argument("--model", default="nano", help="bundled name, folder or hub id")
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, metavar="NAME")
    parser.add_argument("--list", action="store_true", help="the measurements")
    parser.add_argument("--quick", action="store_true", help="a few clips and minutes of each")
    parser.add_argument("--speech", type=Path, default=Path("build/speech"), help="test sets")
    parser.add_argument("--whisper", type=Path, default=Path("build/whisper"), help="the peer")
    parser.add_argument("--build", type=Path, default=Path("build/evaluation"), help="kept answers")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
