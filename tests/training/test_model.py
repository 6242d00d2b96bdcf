import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from dragoman.decoder import Slice
from dragoman.encoders import LogMel
from dragoman.models import prompt as prompts
from tests import nano_like
from tests.encoders.helpers import sound
from training.batch import CHUNK_SAMPLES, IGNORE, Batch, Spoken
from training.evaluate import answer
from training.model import Nano
from training.phases import encoded


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
    return Spoken(samples, words, [0] * len(words), "es", "en", english)


SHORT = utterance(1, 3, "El perro", "The dog")
LONG = utterance(2, 9, "La mujer lee un libro, y el perro duerme.", "The woman reads a book.")


def batch_of(batcher, *rows: Spoken) -> Batch:
    return batcher(list(rows), random.Random(0))


@torch.no_grad()
def whole_loss(model: Nano, batch: Batch) -> float:
    return model.losses(batch).answer.item()


@torch.no_grad()
def cached_loss(model: Nano, batch: Batch) -> float:
    """The mean loss of one utterance, token by token from a cache, as it is decoded live."""
    lm, count = model.language_model, int(batch.tokens[0])
    cache = lm.new_cache()
    soft = model.embed_audio.soft(model.audio_tower(model.mel(batch.audio)))[:, :count]
    before, after = batch.before, torch.tensor([model.after])
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
            together.before[i : i + 1],
            together.answers[i : i + 1, :length],
            together.targets[i : i + 1, :length],
            together.letters[i : i + 1, : int(together.letter_counts[i])],
            together.letter_counts[i : i + 1],
            together.lettered[i : i + 1],
        )
        losses.append(model.losses(alone))
        counts.append((length, int(together.letter_counts[i])))
    both = model.losses(together)
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
    losses = model.losses(batch_of(batcher, SHORT, LONG), mask)
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
    half = model.losses(batch, size=Slice.cut(model.language_model.config, 32)).answer
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
        losses = model.losses(batch)
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
    found = answer(model, LONG, prompts.build(tokenizer, "es", "en"), most=10)
    assert len(set(found)) > 2
    assert found[: len(state.transcript.ids)] == state.transcript.ids != []


def test_hearing_alone_teaches_the_encoder_alone(model, batcher):
    losses = model.losses(batch_of(batcher, SHORT, LONG), hearing_only=True)
    assert losses.answer.item() == 0 and losses.letters.item() > 0
    losses.total(0.5).backward()
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"audio_tower", "letters", "gathered"}
    model.zero_grad()


def test_a_new_tower_begins_with_frames_that_follow_its_input(tokenizer):
    eased, other = 0.0, 0.0
    for seed in range(4):
        torch.manual_seed(seed)
        tower = nano_like.module(tokenizer).audio_tower
        ordinary = type(tower)(tower.config)
        mel = LogMel(tower.config.input_feat_size)(sound(1, 40_000, 3))
        with torch.no_grad():
            eased += tower.frames(mel).std(1).mean().item()
            other += ordinary.frames(mel).std(1).mean().item()
    assert eased > 1.2 * other


@torch.no_grad()
def test_encoded_batches_lose_what_heard_ones_do(model, batcher):
    heard = batch_of(batcher, SHORT, LONG)
    whole = encoded(model, heard)
    exact = replace(heard, features=model.features(heard.audio))
    assert whole.features is not None and exact.features is not None
    rough = (whole.features - exact.features).abs().max()
    assert rough < 0.1 * exact.features.abs().max()  # bf16 arithmetic
    read, told = (model.losses(batch).answer.item() for batch in (exact, heard))
    assert read == pytest.approx(told, rel=1e-4)


def test_a_written_batch_teaches_to_translate_alone(model, batcher, tokenizer):
    row = ("es", "en", "El perro duerme.", "The dog sleeps.")
    batch = batcher.written([row], random.Random(0))  # which cuts nothing
    losses = model.losses(batch)
    assert losses.letters.item() == 0 and losses.answer.item() > 0
    losses.total(0.5).backward()
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched == {"language_model", "embed_audio"}
    model.zero_grad()
    # The loss is that of the translation, given the transcript.
    given = tokenizer.encode("El perro duerme.")
    ids = torch.cat((batch.before, torch.tensor([model.after]), batch.answers[:, :-1]), 1)
    with torch.no_grad():
        embeddings = model.language_model.embed(ids)
        embeddings[:, batch.before.shape[1]] = model.embed_audio.hard(
            torch.tensor([model.after[0]])
        )
        logits = model.language_model(embeddings, ids)[0]
    first = batch.before.shape[1] + len(model.after) - 1 + len(given)
    wanted = F.cross_entropy(logits[first:], batch.answers[0, len(given) :])
    assert losses.answer.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_prompts_of_several_lengths_share_a_batch(model, batcher):
    other = replace(SHORT, language="en", target="pt")
    rows = [batcher([one], random.Random(0)) for one in (SHORT, other)]
    assert rows[0].before.shape != rows[1].before.shape, "else the test shows nothing"
    together = batcher([SHORT, other], random.Random(0))
    alone = [model.losses(replace(row, tokens=together.tokens[i : i + 1])).answer
             for i, row in enumerate(rows)]  # fmt: skip
    counts = [int((row.targets != IGNORE).sum()) for row in rows]
    mean = sum(a.item() * c for a, c in zip(alone, counts, strict=True)) / sum(counts)
    assert model.losses(together).answer.item() == pytest.approx(mean, rel=1e-4)


def test_letters_that_nobody_knows_are_not_taught(model, batcher):
    foreign = replace(LONG, words=[], word_ends=[], known=False, expected=False)
    both, alone = batch_of(batcher, SHORT, foreign), batch_of(batcher, SHORT)
    silent = batch_of(batcher, SHORT, replace(foreign, known=True))
    taught = [model.losses(b).letters.item() for b in (both, alone, silent)]
    assert taught[0] == pytest.approx(taught[1], rel=0.02)  # another end of the audio
    assert taught[2] > 1.5 * taught[1]


def test_forgotten_words_change_the_loss(model, batcher):
    batch = batch_of(batcher, SHORT, LONG)
    torch.manual_seed(0)
    with torch.no_grad():
        lost = model.losses(batch, forget=0.9).answer.item()
    assert abs(lost - whole_loss(model, batch)) > 1e-3
