#!/bin/sh
# One training run on a machine with a GPU and without a network, all of it in nine minutes.
#   MINUTES=6 PIECES=build/packed OUT=/some/folder sh training/gpu.sh [--from FOLDER ...]
# PIECES holds what `python -m training.pack` made; without it build/speech is there already. OUT
# gets the model in pieces of 16 MiB (`cat model.safetensors.* > model.safetensors`), its tokenizer
# and configuration, and the log.
set -eu
PYTHON=${PYTHON:-python3} CORES=$(nproc)
export OMP_NUM_THREADS=1
[ -z "${PIECES:-}" ] ||
    "$PYTHON" -m training.pack --unpack "$PIECES" --corpus build/speech --processes "$CORES"
"$PYTHON" -m training.train --device cuda --minutes "${MINUTES:-6}" --workers $((CORES - 2)) \
    --corpus build/speech --run build/gpu --out build/gpu/model --seconds 600 --rows 512 \
    --hearing 0.35 --reading 0.45 --written-every 2 3 5 --evaluate 0 "$@"
mkdir -p "$OUT"
split -b 16m -d build/gpu/model/model.safetensors "$OUT/model.safetensors."
cp build/gpu/model/config.json build/gpu/model/tokenizer.json build/gpu/log.jsonl "$OUT"
