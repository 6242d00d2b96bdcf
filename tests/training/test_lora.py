"""Fine-tuning: changes act as their merged adapters do, runs go on, and losses fall."""

import json
import shutil
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import checkpoint as random_folders
from dragoman.decoder import Slice
from dragoman.errors import UsageError
from dragoman.models.checkpoint import Checkpoint
from training import lora, lora_layers
from training.batch import IGNORE
from training.lora_data import read
from training.lora_layers import TARGETS, Lora
from training.lora_state import State

SAID = ("El perro duerme.", "La mujer lee un libro.", "El niño come.", "Mañana lloverá.")
MEANT = ("The dog sleeps.", "The woman reads a book.", "The boy eats.", "It will rain tomorrow.")


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> Path:
    """A tiny folder with the released models' layout: shards, all towers, special tokens."""
    folder = tmp_path_factory.mktemp("official") / "tiny"
    return random_folders.ensure(random_folders.SIZES["tiny"], folder, block=10_007)


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """Four recordings, the last one without a translation."""
    folder = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(1)
    for number, (text, translation) in enumerate(zip(SAID, MEANT, strict=True)):
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            noise = rng.normal(0, 3_000, 8_000 + 2_000 * number)
            file.writeframes(noise.astype(np.int16).tobytes())
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
        if number < 3:
            (folder / f"{number}.en.txt").write_text(translation, encoding="utf-8")
    return folder


def options(own: Path, model: Path, out: Path, *more: str):
    quick = ("--batch", "2", "--rows", "1", "--rank", "4", "--rate", "0.01", "--measured", "1")
    given = [str(own), "--model", str(model), "--out", str(out), *quick, *more]
    return lora.options(given)


def tuner(own: Path, model: Path, out: Path, *more: str) -> lora.Tuner:
    args = options(own, model, out, *more)
    return lora.Tuner.open(args, read(own, "en", args.held_out))


def modules(model) -> dict[str, str]:
    """Official names of all modules by their names in training."""
    return {name: lora_layers._official(name) or "" for name, _ in model.named_modules()}


def shaken(changed) -> None:
    """Both halves random, so that every change is one."""
    torch.manual_seed(3)
    with torch.no_grad():
        for module in changed.values():
            module.lora_B.normal_(std=0.3)


@pytest.mark.parametrize("targets", ["text", "audio", "all"])
@pytest.mark.parametrize("model", ["tiny_folder", "official"])
def test_a_change_is_what_its_adapter_makes_of_the_model(model, targets, own, tmp_path, request):
    folder = request.getfixturevalue(model)
    run = tuner(own, folder, tmp_path / "lora", "--targets", targets, "--dtype", "float32")
    before = run.loss_held_out()
    shaken(run.state.changed)
    lora_layers.write(tmp_path / "lora", str(folder), run.args.lora, run.state.changed)
    found = Checkpoint.open(str(tmp_path / "lora"))
    merged = replace(run, model=lora.listener(found, run.model.after, "float32"))
    effect = run.loss_held_out() - before
    assert abs(effect) > 1e-3
    # What is merged is rounded to the type of the base.
    assert merged.loss_held_out() - before == pytest.approx(effect, rel=0.1, abs=1e-3)
    names = {place: name for name, place in modules(run.model).items()}
    for official_name, module in run.state.changed.items():
        found = merged.model.get_parameter(f"{names[official_name]}.weight")
        change = module.scale * module.lora_B @ module.lora_A
        assert torch.allclose(found, module.weight + change, rtol=2**-8, atol=1e-5)
    names = [name for name in TARGETS if targets in (name, "all")]
    patterns = [TARGETS[name].split(r"\d+")[0].replace("\\", "") for name in names]
    for name in run.state.changed:
        assert name.startswith(tuple(patterns))


def test_a_change_acts_in_slices_of_the_model(tiny_folder, own, tmp_path):
    run = tuner(own, tiny_folder, tmp_path / "lora", "--targets", "text")
    shaken(run.state.changed)
    lora_layers.write(tmp_path / "lora", str(tiny_folder), run.args.lora, run.state.changed)
    merged = lora.listener(Checkpoint.open(str(tmp_path / "lora")), run.model.after)
    layers = run.model.language_model.config.num_hidden_layers
    half = Slice(tuple(range(layers)), (32,) * layers)
    (batch,) = run._padded([run._row(run.recordings.held_out[0])])
    with torch.no_grad():
        found, expected, base = (
            one.answer_loss(one.heard(batch), batch, half).item()
            for one in (run.model, merged, tuner(own, tiny_folder, tmp_path / "none").model)
        )
    assert abs(found - base) > 0.02
    assert expected - base == pytest.approx(found - base, rel=0.1)


def test_only_changes_are_learnt_and_only_from_the_answer(tiny_folder, own, tmp_path):
    run = tuner(own, tiny_folder, tmp_path / "lora")
    learnt = {name for name, p in run.model.named_parameters() if p.requires_grad}
    assert learnt and all(name.endswith(("lora_A", "lora_B")) for name in learnt)
    with_translation, without = (
        run._row(next(r for r in read(own, "en", 0.1).learnt + run.recordings.held_out if test(r)))
        for test in (lambda r: r.translation, lambda r: not r.translation)
    )
    prompt = run.batcher.prompt("es", "en")
    assert with_translation.answer[-1] in prompt.stop
    assert tuple(without.answer[-len(prompt.separator) :]) == prompt.separator
    (batch,) = run._padded([without])
    assert int((batch.targets != IGNORE).sum()) == len(without.answer), "no token of the prompt"


def test_a_run_that_was_killed_goes_on_exactly(tiny_folder, own, tmp_path, monkeypatch):
    whole = tuner(own, tiny_folder, tmp_path / "whole", "--epochs", "3")
    begun = whole.loss_held_out()
    whole.run()
    assert whole.state.best < begun and whole.state.step == 6

    killed = tuner(own, tiny_folder, tmp_path / "killed", "--epochs", "3")
    save = State.save

    def last_save(state: State) -> None:
        save(state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(State, "save", last_save)
        killed.run()
    again = tuner(own, tiny_folder, tmp_path / "killed", "--epochs", "3")
    assert 0 < again.state.step < 6
    again.run()
    ours, theirs = (
        {name: half.detach() for name, half in lora_layers.weights(one.state.changed).items()}
        for one in (again, whole)
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.state.best == whole.state.best
    with pytest.raises(UsageError, match="is of a run with --rank 4, not --rank 3: give"):
        tuner(own, tiny_folder, tmp_path / "killed", "--rank", "3")
    twin = shutil.copytree(tiny_folder, tmp_path / "twin")
    with pytest.raises(UsageError, match=f"--model {tiny_folder}, not --model {twin}: give"):
        tuner(own, Path(twin), tmp_path / "killed", "--epochs", "3")


def test_the_command_tells_word_errors_and_leaves_an_adapter(official, own, tmp_path, capsys):
    out = tmp_path / "lora"
    args = ("--batch", "4", "--epochs", "1", "--rank", "2", "--measured", "1", "--dtype", "bf16")
    lora.main([str(own), "--model", str(official), "--out", str(out), *args])
    said = capsys.readouterr().out
    assert "before: word error rate" in said and "after: word error rate" in said
    config = json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(official) and config["r"] == 2
    assert Checkpoint.open(str(out)).tensors.keys() == Checkpoint.open(str(official)).tensors.keys()
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["when"] for line in lines] == ["before", "after"]


def test_what_cannot_be_changed_is_said(tiny_folder, own, tmp_path, capsys):
    with pytest.raises(UsageError, match="no matrix has a name like 'nothing'"):
        tuner(own, tiny_folder, tmp_path, "--targets", "nothing")
    with pytest.raises(UsageError, match="is a RMSNorm, which has no change of low rank"):
        tuner(own, tiny_folder, tmp_path, "--targets", r"model\.language_model\.norm")
    with pytest.raises(SystemExit, match="0 recordings with a text"):
        lora.main([str(tmp_path), "--model", str(tiny_folder), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_is_said_before_anything_is_measured(tiny_folder, own, tmp_path, monkeypatch):
    """A pattern that means nothing, and one text of four that is no utterance of 30 s."""

    def measures(*_) -> dict[str, float]:
        raise AssertionError("measured first")

    monkeypatch.setattr(lora, "measured", measures)
    given = ["--model", str(tiny_folder), "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="no matrix has a name like 'nothing'"):
        lora.main([str(own), *given, "--targets", "nothing"])
    long = Path(shutil.copytree(own, tmp_path / "long"))
    (long / "2.txt").write_text("El perro duerme. " * 200, encoding="utf-8")
    with pytest.raises(SystemExit, match=r"2\.wav: its text has \d+ tokens, expected at most 448"):
        lora.main([str(long), *given])


def test_a_bundled_base_is_named_and_a_folder_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(lora.__file__).parents[1] / "models" / "nano", tmp_path / "copy")
    assert lora.name_of_base("nano") == "nano"
    assert lora.name_of_base("copy") == str(tmp_path / "copy")
    assert lora.name_of_base("google/gemma-3n-E2B-it") == "google/gemma-3n-E2B-it"


def test_changes_begin_as_nothing(tiny_folder, own, tmp_path):
    run = tuner(own, tiny_folder, tmp_path / "lora")
    for module in run.state.changed.values():
        assert not module.lora_B.any() and module.lora_A.any()
    assert Lora().alpha / Lora().rank == 2
