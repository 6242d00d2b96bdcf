"""The shape of the bundled model itself."""

import pytest
import torch

from dragoman.decoder import kv_sources
from dragoman.models import prompt as prompts
from dragoman.models.checkpoint import Checkpoint
from dragoman.models.tokenizer import Tokenizer
from tests.nano_like import SENTENCES
from training import nano
from training import tokenizer as tokenizers
from training.model import Nano
from training.run import export

LIMIT_BYTES = 50_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nano")
    words = [
        f"{a}{b}{c}" for a in "bcdfglmnprstvz" for b in "aeiouáéíóú" for c in "lnrstvdcbzfgmpnhjkx"
    ]
    texts = [" ".join(words), *SENTENCES, *prompts.prompt_text("es", "en"), "\nEnglish:"]
    path = folder / "tokenizer.json"
    tokenizers.train(texts, nano.TEXT_VOCAB, path)
    tokenizer = Tokenizer.from_file(path)
    prompt = prompts.build(tokenizer, "es", "en")
    model = Nano(nano.config(tokenizer), prompt.after, tokenizer.special("<audio_soft_token>"))
    export(dict(model.named_parameters()), nano.config(tokenizer), folder)
    return folder


def test_every_mechanism_is_on(folder):
    checkpoint = Checkpoint.open(str(folder))
    text, audio = checkpoint.text_config, checkpoint.audio_config
    assert text.altup_num_inputs > 1 and text.laurel_rank > 0
    assert 0 < sum(s > 0 for s in text.sparsities) < text.num_hidden_layers
    assert text.num_kv_shared_layers > 0
    shared = [source for i, source in enumerate(kv_sources(text)) if source != i]
    assert {text.layer_kinds[i] for i in shared} == {"sliding_attention", "full_attention"}
    assert text.layer_kinds[:3] == ("sliding_attention",) * 2 + ("full_attention",)
    assert text.hidden_size_per_layer_input > 0 and text.final_logit_softcapping == 30.0
    assert text.vocab_size == text.vocab_size_per_layer_input + 2 * tokenizers.SOFT_ROWS
    assert audio.conf_reduction_factor == 4 and audio.history == 12


def test_the_window_slides_and_the_context_holds_a_segment(folder):
    checkpoint = Checkpoint.open(str(folder))
    text, prompt = checkpoint.text_config, prompts.build(checkpoint.tokenizer, "es", "en")
    around = len(prompt.before) + len(prompt.after) + len(prompt.separator)
    longest = around + 28_000 // 160 + 1 + 2 * 256
    assert text.sliding_window < around + 50, "a few seconds of speech go past the window"
    assert longest <= text.max_position_embeddings


def test_it_is_small_enough_to_be_bundled(folder):
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert LIMIT_BYTES / 4 < size <= LIMIT_BYTES


def test_training_starts_from_a_calm_model(folder):
    """Logits of the untrained model are near uniform: the first loss is about log(vocabulary)."""
    checkpoint = Checkpoint.open(str(folder))
    model = checkpoint.language_model()
    ids = torch.tensor([checkpoint.tokenizer.encode(SENTENCES[0])])
    with torch.no_grad():
        logits = model(model.embed(ids), ids)
    assert torch.isfinite(logits).all() and logits.std() < 2.0
