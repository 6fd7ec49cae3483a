#!/usr/bin/env bash
# Everything that asks for a GPU, for a machine that has one and no Rust: packs stripped programs and the script that runs them.
#
#     scripts/gpu-check.sh            # builds target/gpu-check.tar.xz, below 60 MB
#     tar xJf gpu-check.tar.xz && gpu-check/run     # over there, with Python and its torch: writes gpu-check.json
#
# What runs: the integration tests, the overhead bench, and short trainings of vit and vgg5, on libtorch-cuda:0 and on cuda:0.
# TORCH is the version of torch over there (2.11.0), FEATURES the backends that are built in ("tch,cuda"; scripts/llvm.sh brings the
# LLVM that Burn's `cuda` is built with). To prove it on the processor:
#
#     TORCH=2.9.0 FEATURES=tch scripts/gpu-check.sh
#     MODELS=small EPOCHS=60 target/gpu-check/run flex libtorch
set -euo pipefail
cd "$(dirname "$0")/.."
features=${FEATURES:-tch,cuda}
exports=$(TORCH=${TORCH:-2.11.0} scripts/libtorch.sh)
eval "$exports"

folder=target/gpu-check
rm -rf "$folder"
mkdir -p "$folder"
if [[ $features == *cuda* ]]; then
  exports=$(scripts/llvm.sh)
  eval "$exports"
fi
cargo build --release --features "cli,$features" --example vit --example vgg5 --bench overhead --test it \
  --message-format json-render-diagnostics >"$folder/built.json"
while read -r binary; do
  name=$(basename "$binary")
  strip -o "$folder/${name%-????????????????}" "$binary"
done < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$folder/built.json")
rm -f "$folder/built.json" "$folder/burn-convexity"
cp scripts/gpu_check.py "$folder/run"
chmod +x "$folder/run"
# The programs have most of their code in common: a dictionary as long as all of them finds it.
tar -C target -cf - gpu-check | xz --x86 --lzma2=preset=5,dict=768MiB,nice=128 >target/gpu-check.tar.xz
echo "target/gpu-check.tar.xz: $(du -m target/gpu-check.tar.xz | cut -f1) MB"
