#!/usr/bin/env bash
# Seconds that an epoch of CIFAR-10 takes on Burn's flex, on Burn's LibTorch and in PyTorch 2.9, all on the processor:
#
#     scripts/speed.sh                                      # batches of 512 and of 64, two threads, some minutes
#     scripts/speed.sh --data-dir DIR --batch-size 512 --rounds 3 --threads 4
#
# The data set is looked for in data/ (examples/data/fetch.sh cifar10 brings it); torch comes as scripts/libtorch.sh says.
# Nothing else should run meanwhile: threads that wait for one another make a loaded machine many times slower.
set -euo pipefail
cd "$(dirname "$0")/.."
exports=$(scripts/libtorch.sh)
eval "$exports"
cargo build --release --features cli,tch --example vit
exec python3 scripts/speed.py "$@"
