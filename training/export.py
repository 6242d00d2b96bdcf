"""A model folder from a run that may still be going: `python -m training.export build/run OUT`.

Takes the run's averaged weights as they were saved last.
"""

import argparse
from pathlib import Path

from dragoman.models.checkpoint import Checkpoint
from dragoman.models.tokenizer import Tokenizer
from training import nano
from training.growth import shape_of, weights_of
from training.run import export


def export_run(run: Path, out: Path) -> None:
    """Writes ``out`` in the Hugging Face layout, bf16, and checks that it loads."""
    weights = weights_of(run)
    tokenizer = run / "tokenizer.json"
    config = nano.config(Tokenizer.from_file(tokenizer), shape_of(weights))
    export(weights, config, out)
    (out / "tokenizer.json").write_text(tokenizer.read_text(encoding="utf-8"), encoding="utf-8")
    Checkpoint.open(str(out)).language_model()


def main() -> None:
    parser = argparse.ArgumentParser(description="Export what a run has learnt so far.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    export_run(args.run, args.out)
    print(f"{args.out}: {(args.out / 'model.safetensors').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
