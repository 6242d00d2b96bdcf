"""The clock, the limits, and the watching of a decoder."""

import pytest
import torch

from benchmarks import limits, machine, realtime
from benchmarks.checkpoint import SIZES
from benchmarks.context import Bench
from benchmarks.machine import Beside
from benchmarks.ours import FORMS, SCHEMES, quantized_bytes
from benchmarks.passes import Watched
from benchmarks.profile import shares
from benchmarks.sounds import noise
from benchmarks.timing import Contender, alternate, clock, medians
from dragoman.decoder import LanguageModel
from dragoman.decoder.packed import Request
from dragoman.decoder.quantize import quantize
from dragoman.stages.messages import CHUNK_SAMPLES, SessionOptions
from tests.parts import layer


def test_contenders_take_turns_and_warm_up_does_not_count():
    calls: list[str] = []
    contenders = {
        name: Contender(lambda _, name=name: calls.append(name)) for name in ("ours", "theirs")
    }
    spent = alternate(contenders, rounds=2, warm_up=1)
    assert calls == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert {name: len(seconds) for name, seconds in spent.items()} == {"ours": 2, "theirs": 2}


def test_preparing_is_not_timed_and_work_may_say_when_it_was_done():
    given = []

    def work(value: float) -> float:
        given.append(value)
        return clock() + 100.0

    spent = alternate({"it": Contender(work, prepare=lambda: 7.0)}, rounds=1, warm_up=0)
    assert given == [7.0] and spent["it"][0] == pytest.approx(100.0, abs=1.0)


def test_medians_and_rounds():
    assert medians({"a": [1.0, 9.0, 2.0]}) == {"a": 2.0}
    with pytest.raises(ValueError, match="rounds must be at least 1, got 0"):
        alternate({}, rounds=0)


def test_a_machine_is_measured():
    found = machine.measure("cpu", scale=0.005)
    assert found.read_bandwidth > 0 and found.gemm_rate > 0 and found.cores >= 1
    assert "GB/s" in found.describe() and "GFLOP/s" in found.describe()


def test_the_machine_beside_a_row_bounds_its_work(monkeypatch):
    """Medians of the rounds but the first; whichever of reading and computing takes longer."""
    bandwidths, rates = iter([99e9, 5e9, 30e9, 10e9]), iter([9e9, 100e9, 300e9, 200e9])
    monkeypatch.setattr(machine.Reading, "bandwidth", lambda self, tries: next(bandwidths))
    monkeypatch.setattr(machine, "_gemm_rate", lambda device, width, tries: next(rates))
    beside = Beside("cpu", 0.001, products=True)
    alternate({"machine": beside.contender}, rounds=3, warm_up=1)
    assert (beside.bandwidth, beside.rate) == (10e9, 200e9)
    assert beside.seconds(50e9) == 5.0 and beside.seconds(50e9, 2e12) == 10.0
    counted = {"weights_gb": 4.0, "reads_gb_s": 10.0, "products_gflop_s": 200}
    assert beside.detail(4e9) == counted


def test_products_are_measured_on_demand():
    beside = Beside("cpu", 0.001)
    beside.measure()
    assert beside.bandwidth > 0 and beside.seconds(0.0, 1e30) == 0.0
    assert set(beside.detail(1e9)) == {"weights_gb", "reads_gb_s"}


@pytest.mark.parametrize(("size", "gigabytes", "gflop"), [("E2B", 4.84, 2.41), ("E4B", 8.97, 4.32)])
def test_what_true_sizes_read_and_compute(size, gigabytes, gflop):
    with torch.device("meta"):
        model = LanguageModel(SIZES[size].text).to(torch.bfloat16)
    assert limits.read_bytes(model) / 1e9 == pytest.approx(gigabytes, abs=0.01)
    work = limits.prompt_work(SIZES[size].text)
    assert work.per_token / 1e9 == pytest.approx(gflop, abs=0.01)
    assert work.flops(1) == pytest.approx(2 * limits.read_bytes(model) / 2, rel=0.01)


@pytest.mark.parametrize(("form", "gigabytes"), [("bf12", 3.65), ("int8", 2.42), ("int4", 1.36)])
def test_what_quantized_weights_read(form, gigabytes):
    with torch.device("meta"):
        model = LanguageModel(SIZES["E2B"].text).to(torch.bfloat16)
        model = quantize(model, SCHEMES[form], torch.bfloat16)
    assert limits.read_bytes(model) / 1e9 == pytest.approx(gigabytes, rel=0.05)


def test_what_a_folder_of_another_form_takes_on_the_disk(bench: Bench):
    """At least what it does take, and little more."""
    for form in SCHEMES:
        counted = quantized_bytes(bench.checkpoint("E2B"), SCHEMES[form])
        files = bench.folder("E2B", form).glob("*.safetensors")
        taken = sum(path.stat().st_size for path in files)
        assert 0.9 * counted < taken < counted + 2**17, form


def test_one_form_of_a_model_is_open_at_a_time(bench: Bench):
    peer = bench.peer("E2B")
    weights = {form: layer(bench.model("E2B", form), 0).mlp.down_proj.weight for form in FORMS}
    assert len({(weight.dtype, weight.shape) for weight in weights.values()}) == len(FORMS)
    assert layer(bench.model("E2B", "int4"), 0).mlp.down_proj.weight is weights["int4"]
    assert bench.peer("E2B") is peer


def test_passes_are_counted_once_and_the_model_is_left_as_it_was(bench: Bench):
    model = bench.model("E2B")
    cache, ids = model.new_cache(), torch.tensor([[500, 501, 502]])
    seen = []
    with Watched(model, lambda ids, logits: seen.append((ids, logits.shape))) as watched:
        model.extend(model.embed(ids), ids, cache)
        assert (watched.count, watched.answers, watched.first_answer) == (1, 0, None)
        model.step(ids[:, 0], cache)  # which is a verification of one token
        assert (watched.count, watched.answers) == (2, 1)
        assert watched.first_answer is not None
        watched.reset()
        assert watched.count == 0
        embeddings = model.embed(ids)
        requests = [Request(model.new_cache(), ids, embeddings, wanted) for wanted in (2, 0, 1)]
        model.answer_together(requests)
        assert (watched.count, watched.answers) == (1, 1)
    V = model.config.vocab_size
    whole = [500, 501, 502]
    assert seen == [([500], (1, V)), (whole, (2, V)), (whole, (1, V))]
    assert "step" not in vars(model)


def test_a_profile_names_the_largest_first():
    matrix = torch.randn(256, 256)
    found = shares(lambda: [matrix @ matrix for _ in range(20)])
    assert found[0][0] == "aten::mm" and found[0][2] == 20
    assert 0 < sum(share for _, share, _ in found) <= 1.001


def test_the_scripted_reply_is_what_the_stage_decodes(bench: Bench):
    from benchmarks.ours import stages
    from dragoman.models import prompt as prompts

    checkpoint = bench.checkpoint("E2B")
    ours = stages(checkpoint, bench.model("E2B"), "cpu")
    script = realtime.Script(prompts.build(checkpoint.tokenizer, "es", "en"))
    options = SessionOptions(update_chunks=realtime.UPDATE_CHUNKS)
    encoded, state = ours.encode.init_state(options), ours.translate.init_state(options)
    captions = []
    with Watched(ours.model, script.choose):
        for piece in realtime.sounds.segment(noise(3)):
            script.hear(piece.end)
            (tokens,), encoded = ours.encode.step(piece, encoded)
            found, state = ours.translate.step(tokens, state)
            captions += found
    said = int(3.04 * realtime.TOKENS_A_SECOND / 2)
    assert script.words == said == len(state.transcript.ids) == len(state.translation.ids)
    for text, first in zip(
        (state.transcript, state.translation), realtime.FIRST_WORDS, strict=True
    ):
        assert text.ids[:-1] == list(range(first, first + said - 1))
    assert [caption.kind for caption in captions[-2:]] == ["partial", "final"]


def test_how_far_behind_a_listener_falls():
    assert realtime.furthest_behind([0.1, 0.1, 0.1]) == pytest.approx(0.1)
    assert realtime.furthest_behind([0.5, 0.1]) == pytest.approx(0.5)
    assert realtime.furthest_behind([0.3, 0.3, 0.3]) == pytest.approx(0.3 + 2 * 0.14)


def test_noise_is_a_whole_number_of_chunks():
    assert len(noise(5)) % CHUNK_SAMPLES == 0 and len(noise(0)) == 2 * CHUNK_SAMPLES
