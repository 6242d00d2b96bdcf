"""One process that loads a model, listens, answers, and reports its memory: see `memory.py`.

`python -m benchmarks.probe SIDE DEVICE FOLDER BEGUN`, where SIDE is `dragoman`, `dragoman+audio`
(whose audio tower is int8 as well) or `transformers`, and BEGUN the monotonic clock when the
process was asked for. Imports happen inside the functions, because they are part of a cold start.
Unusual: ours gives memory back where `pipeline.runner` does, after loading and after the first
utterance, and is measured after more of them, so what a session goes on using is there again.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

SECONDS = 2
UTTERANCES = 3  # after the first
TOKENS = 6  # decoded behind the first one, so that everything decoding needs is in memory


def ours(folder: Path, device: str, audio: str | None = None) -> tuple[float, dict[str, int]]:
    """Clock at the first token, and bytes while the model is still there."""
    from benchmarks import sounds
    from benchmarks.ours import language_model, stages
    from benchmarks.passes import Watched
    from dragoman.models import resident
    from dragoman.models.checkpoint import Checkpoint
    from dragoman.stages.messages import SessionOptions

    checkpoint = Checkpoint.open(str(folder))
    live = stages(checkpoint, language_model(checkpoint, device), device, audio)
    resident.give_back()
    loaded = {"peak_after_loading": memory()["peak"]}
    options = SessionOptions(update_chunks=4, max_answer_tokens=TOKENS)

    def listen() -> None:
        encoded, state = live.encode.init_state(options), live.translate.init_state(options)
        for piece in sounds.segment(sounds.noise(SECONDS)):
            (tokens,), encoded = live.encode.step(piece, encoded)
            _, state = live.translate.step(tokens, state)

    with Watched(live.model) as watched:
        listen()
    assert watched.first_answer is not None, "two seconds of sound have an update"
    # The other clock of the same kind: translate by what both say now.
    first = watched.first_answer - time.perf_counter() + time.monotonic()
    resident.give_back()
    for _ in range(UTTERANCES):
        listen()
    return first, {**loaded, **memory()}


def theirs(folder: Path, device: str) -> tuple[float, dict[str, int]]:
    """The same for transformers."""
    import torch

    from benchmarks import sounds
    from benchmarks.peer import Peer
    from dragoman.models import prompt as prompts
    from dragoman.models.tokenizer import Tokenizer

    text = prompts.build(Tokenizer.from_file(folder / "tokenizer.json"), "es", "en")
    peer = Peer.load(folder, device)
    loaded = {"peak_after_loading": memory()["peak"]}
    token = peer.answer(sounds.noise(SECONDS), list(text.before), list(text.after))
    first = time.monotonic()
    cache = peer.new_cache()
    for _ in range(TOKENS):
        row = torch.tensor([[token]], device=peer.device)
        token = int(peer.text(row, cache).argmax())
    return first, {**loaded, **memory()}


SIDES: dict[str, Callable[[Path, str], tuple[float, dict[str, int]]]] = {
    "dragoman": ours,
    "dragoman+audio": partial(ours, audio="int8"),
    "transformers": theirs,
}


def memory() -> dict[str, int]:
    """Bytes of this process, as the kernel counts them.

    resident: all of it; peak: the most it ever was; anonymous: what no file backs.
    """
    names = {"VmRSS": "resident", "VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "mapped"}
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[names[name]] = 1024 * int(value.split()[0])
    return found


def main() -> None:
    side, device, folder, begun = sys.argv[1:]
    first, held = SIDES[side](Path(folder), device)
    print(json.dumps({"first_token_s": first - float(begun), **held}))


if __name__ == "__main__":
    main()
