# make run    live captions of a bundled recording (sets everything up first)
# make test   the tests (sets everything up first)
# make test-fast  the quick ones    make check  lint and types    make coverage  untested lines
# make train  the bundled model anew        make bench  how fast it is
# make eval   how good it is    make finetune SPEECH=FOLDER  a model for your own speech (docs/finetuning.md)
PYTHON ?= python3.11
HOURS ?= 4
SLOW_HOURS ?= 1
CASES ?= 10000
BIN := .venv/bin
SYSTEM_RUN := libportaudio2
SYSTEM_TEST := chromium curl espeak-ng libespeak-ng1 libportaudio2 openssl pulseaudio pulseaudio-utils libasound2-plugins

.DEFAULT_GOAL := help
.PHONY: help run test test-fast coverage fuzz chaos check train finetune bench eval clean

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST)

.venv/ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11, or run make PYTHON=..."; exit 4; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv/ready
	@sh .ci/system $(SYSTEM_RUN)
	@mkdir -p out
	$(BIN)/dragoman captions --file samples/talk.wav --language es --target-language en \
	    --output-dir out --reference samples/talk.es.txt
	@echo
	@echo "Saved: out/talk.es.srt out/talk.en.srt (and .vtt), out/talk.json"
	@echo "Try next:"
	@echo "  $(BIN)/dragoman captions --file samples/talk.wav --json --pace fast   the event stream"
	@echo "  $(BIN)/dragoman captions --file YOUR.wav --language es                your own recording"
	@echo "  $(BIN)/dragoman --help                                                everything else"

test: .venv/ready
	@sh .ci/system $(SYSTEM_TEST)
	$(BIN)/python -m pytest

# for every save: no browser, no sound server, no Ray, nothing that takes long; on all cores
test-fast: .venv/ready
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not (browser or sound or ray or slow)"

# the lines that no test runs; apart from make test, because tracing costs more than a tenth of its time
coverage: .venv/ready
	@sh .ci/system $(SYSTEM_TEST)
	$(BIN)/python -m pytest --cov --cov-report=term

# damaged files, folders and requests, so many of each kind: make fuzz CASES=10000
fuzz: .venv/ready
	@sh .ci/system $(SYSTEM_TEST)
	FUZZ=$(CASES) $(BIN)/python -m pytest tests/fuzz --timeout=7200

# everything at once while processes are killed; make chaos CHAOS="--minutes 1 --kills 3 --seed 7"
chaos: .venv/ready
	$(BIN)/python -m benchmarks.chaos $(CHAOS)

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# make train HOURS=10 SLOW_HOURS=5 TRAIN="--from models/nano --minutes 120": hours of speech of each quick
# synthesizer and of Kokoro, and options of training.train. All of it goes on where it stood.
train: .venv/ready
	@sh .ci/system $(SYSTEM_TEST)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[train]'
	nice -n 15 $(BIN)/python -m training.foreign --out build/speech
	for said in "espeak $(HOURS)" "pico $(HOURS)" "kokoro $(SLOW_HOURS)"; do for split in dev train; do \
	    set -- $$said; nice -n 15 $(BIN)/python -m training.speech \
	        --out build/speech --synthesizer $$1 --split $$split --hours $$2 || exit 1; \
	done; done
	nice -n 15 $(BIN)/python -m training.train --corpus build/speech --run build/run --out models/nano $(TRAIN)
	$(BIN)/python -m training.plot build/run/log.jsonl docs/training.png

# make finetune SPEECH=recordings/ FINETUNE="--model google/gemma-3n-E2B-it --language fr"
finetune: .venv/ready
	@[ -n "$(SPEECH)" ] || { echo "say what to learn from: make finetune SPEECH=FOLDER, see docs/finetuning.md"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[train]'
	$(BIN)/python -m training.lora $(SPEECH) $(FINETUNE)

# make bench BENCH="--quick", BENCH="--only NAME", BENCH="--device cuda"; BENCH=--list shows the names
bench: .venv/ready
	@sh .ci/system $(SYSTEM_TEST)
	[ -f build/bench/test.jsonl ] || $(BIN)/python -m training.corpus --out build/bench --utterances 250 --seed 1
	$(BIN)/python -m benchmarks $(BENCH)
	$(BIN)/python -m benchmarks.live --corpus build/bench

# make eval EVAL="--quick", EVAL="--only NAME", EVAL="--model FOLDER"; EVAL=--list shows the names
# What is made or measured already is kept in build/; flite and festival are a set of their own (debian).
eval: .venv/ready
	@sh .ci/system perl
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-evaluation.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[train]'
	for said in espeak pico kokoro; do \
	    $(BIN)/python -m training.speech --out build/speech --split test --synthesizer $$said || exit 1; \
	done
	[ -d build/speech/test/people ] || $(BIN)/python -m training.people
	[ -d build/speech/foreign-test ] || $(BIN)/python -m training.foreign
	[ -f build/whisper/model.bin ] || $(BIN)/python -m evaluation.peer build/whisper
	$(BIN)/python -m evaluation $(EVAL)

clean:
	rm -rf .venv build out
