import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dragoman.encoders import LogMel
from tests import nano_like
from tests.encoders.helpers import sound
from training.batch import CHUNK_SAMPLES, IGNORE, Batch, Spoken
from training.evaluate import answer
from training.model import Nano
from training.phases import Encoded


@pytest.fixture(scope="module")
def model(tokenizer) -> Nano:
    """With weights that bf16 holds exactly, so that an export is the same model."""
    model = nano_like.module(tokenizer).eval()
    weights = {n: p.bfloat16().float() for n, p in nano_like.weights(tokenizer, seed=7).items()}
    model.load_state_dict(weights)
    return model


def utterance(seed: int, chunks: int, spanish: str, english: str) -> Spoken:
    words = spanish.split()
    samples = sound(1, chunks * CHUNK_SAMPLES, seed)[0]
    return Spoken(samples, words, [0] * len(words), spanish, [""] * len(words) + [english])


SHORT = utterance(1, 3, "El perro", "The dog")
LONG = utterance(2, 9, "La mujer lee un libro, y el perro duerme.", "The woman reads a book.")


def batch_of(batcher, *rows: Spoken) -> Batch:
    return batcher(list(rows), random.Random(0))


@torch.no_grad()
def whole_loss(model: Nano, batch: Batch) -> float:
    return model.losses(batch, None, None).answer.item()


@torch.no_grad()
def cached_loss(model: Nano, batch: Batch) -> float:
    """The mean loss of one utterance, token by token from a cache, as it is decoded live."""
    lm, prompt, count = model.language_model, model.prompt, int(batch.tokens[0])
    cache = lm.new_cache()
    soft = model.embed_audio.soft(model.audio_tower(model.mel(batch.audio)))[:, :count]
    before, after = torch.tensor([prompt.before]), torch.tensor([prompt.after])
    lm.extend(lm.embed(before), before, cache)
    for k in range(count):
        lm.extend(soft[:, k : k + 1], torch.tensor([[model.soft_token]]), cache)
    end = model.embed_audio.hard(after[:, :1])
    logits = lm.prefill(torch.cat((end, lm.embed(after[:, 1:])), 1), after, cache)
    losses = []
    for token in batch.answers[0][batch.answers[0] != IGNORE]:
        losses.append(F.cross_entropy(logits[0], token))
        logits = lm.step(token[None], cache)
    return float(torch.stack(losses).mean())


@pytest.mark.parametrize("one", [SHORT, LONG])
def test_the_loss_is_that_of_decoding_step_by_step(model, batcher, one):
    batch = batch_of(batcher, one)
    assert whole_loss(model, batch) == pytest.approx(cached_loss(model, batch), rel=1e-4)


def test_padding_for_other_rows_changes_nothing(model, batcher):
    together = batch_of(batcher, SHORT, LONG)
    together = replace(together, audio=F.pad(together.audio, (0, CHUNK_SAMPLES)))
    assert together.tokens[0] < together.tokens[1]
    losses, counts = [], []
    for i in range(2):
        n, length = int(together.tokens[i]), int((together.answers[i] != IGNORE).sum())
        # The letters' last frames look past the end: a chunk of silence follows in both batches.
        alone = Batch(
            F.pad(together.audio[i : i + 1, : n * CHUNK_SAMPLES], (0, CHUNK_SAMPLES)),
            together.tokens[i : i + 1],
            together.answers[i : i + 1, :length],
            together.letters[i : i + 1, : int(together.letter_counts[i])],
            together.letter_counts[i : i + 1],
        )
        losses.append(model.losses(alone, None, None))
        counts.append((length, int(together.letter_counts[i])))
    both = model.losses(together, None, None)
    (la, ca), (lb, cb) = counts
    answer = (losses[0].answer * la + losses[1].answer * lb) / (la + lb)
    letters = (losses[0].letters * ca + losses[1].letters * cb) / (ca + cb)
    torch.testing.assert_close(both.answer, answer, rtol=1e-4, atol=0)
    torch.testing.assert_close(both.letters, letters, rtol=1e-4, atol=0)


def test_what_follows_a_cut_row_is_not_heard(model, batcher):
    batch = batch_of(batcher, SHORT, LONG)
    loss = whole_loss(model, batch)
    batch.audio[0, int(batch.tokens[0]) * CHUNK_SAMPLES :] = 0.5
    assert whole_loss(model, batch) == pytest.approx(loss, rel=1e-5)
    batch.audio[0, int(batch.tokens[0]) * CHUNK_SAMPLES - 1_500 :] = 0.5
    assert whole_loss(model, batch) != pytest.approx(loss, rel=1e-5)


def test_every_parameter_gets_a_finite_gradient(model, batcher):
    model.zero_grad()
    mask = torch.zeros(2, 10_000, model.mel.bands, dtype=torch.bool)
    mask[:, 40:60] = True
    losses = model.losses(batch_of(batcher, SHORT, LONG), mask, None)
    losses.total(0.5).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    expected = (losses.answer + (losses.letters + losses.gathered) / 2).item()
    assert losses.total(0.5).item() == pytest.approx(expected)
    model.zero_grad()


def test_the_nested_model_trains_only_its_share(model, batcher):
    model.zero_grad()
    batch = batch_of(batcher, SHORT)
    half = model.losses(batch, None, 32).answer
    assert abs(half.item() - whole_loss(model, batch)) > 1e-3
    half.backward()
    gradient = model.language_model.layers[1].mlp.gate_proj.weight.grad
    assert gradient[:32].any() and not gradient[32:].any()
    model.zero_grad()


def test_training_lowers_the_loss(tokenizer, batcher):
    torch.manual_seed(0)
    model = nano_like.module(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    batch, seen = batch_of(batcher, SHORT, LONG), []
    for _ in range(30):
        losses = model.losses(batch, None, None)
        losses.total(0.5).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seen.append((losses.answer.item(), losses.letters.item()))
    assert seen[-1][0] < 0.6 * seen[0][0] and seen[-1][1] < 0.7 * seen[0][1]


def test_evaluation_answers_as_the_stages_do(model, tokenizer, tmp_path):
    from dragoman.stages.encode import EncodeStage
    from dragoman.stages.messages import SessionOptions, Speech
    from dragoman.stages.translate import TranslateStage
    from training.run import export

    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    export(weights, nano_like.config(tokenizer), tmp_path)
    nano_like.train_tokenizer(tmp_path / "tokenizer.json")
    options = SessionOptions(update_chunks=10_000, max_answer_tokens=10)
    encode, translate = EncodeStage.load(str(tmp_path)), TranslateStage.load(str(tmp_path))
    speech = Speech(0, 0, LONG.samples.numpy(), opens=True, closes=True)
    (tokens,), _ = encode.step(speech, encode.init_state(options))
    _, state = translate.step(tokens, translate.init_state(options))
    found = answer(model, LONG, most=10)
    assert len(set(found)) > 2
    assert found[: len(state.transcript.ids)] == state.transcript.ids != []


def test_hearing_alone_teaches_the_encoder_alone(model, batcher):
    losses = model.losses(batch_of(batcher, SHORT, LONG), None, None, hearing_only=True)
    assert losses.answer.item() == 0 and losses.letters.item() > 0
    losses.total(0.5).backward()
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"audio_tower", "letters", "gathered"}
    model.zero_grad()


def test_a_new_tower_begins_with_frames_that_follow_its_input(tokenizer):
    torch.manual_seed(0)
    tower = nano_like.module(tokenizer).audio_tower
    ordinary = type(tower)(tower.config)
    mel = LogMel(tower.config.input_feat_size)(sound(1, 40_000, 3))
    with torch.no_grad():
        eased, other = (t.frames(mel).std(1).mean().item() for t in (tower, ordinary))
    assert eased > 1.2 * other


def test_encoded_batches_lose_what_heard_ones_do(model, batcher):
    spoken = [SHORT, LONG]
    heard = batch_of(batcher, *spoken)
    with torch.no_grad():
        encoded = Encoded(model, spoken, 2)
        features = model.features(heard.audio)
    for row, one, count in zip(features, encoded._features, heard.tokens, strict=True):
        rough = (row[:count] - one[:count].float()).abs().max()
        assert rough < 0.1 * row.abs().max()  # bf16 arithmetic, kept as float16
    whole = replace(heard, audio=torch.zeros(2, 0), features=features)
    with torch.no_grad():
        read, told = (model.losses(b, None, None).answer.item() for b in (whole, heard))
    assert read == pytest.approx(told, rel=1e-4)


def test_forgotten_words_change_the_loss(model, batcher):
    batch = batch_of(batcher, SHORT, LONG)
    torch.manual_seed(0)
    with torch.no_grad():
        lost = model.losses(batch, None, None, forget=0.9).answer.item()
    assert abs(lost - whole_loss(model, batch)) > 1e-3
