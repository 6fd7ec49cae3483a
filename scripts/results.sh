#!/usr/bin/env bash
# The runs behind README.md and RESULTS.md, one after another, each in its folder under runs/; a run that is there is kept.
#
#     scripts/results.sh            # everything, some hours on two cores
#     scripts/results.sh digits     # the embedded digits alone
#
# MNIST and CIFAR-10 are looked for in data/ (examples/data/fetch.sh brings them).
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-all}

cargo build --release --example vit --example vgg5

run() { # folder, program, options
  local out=runs/$1 program=$2
  shift 2
  [ -e "$out/summary.json" ] && return
  echo "== $out: $program $*"
  "target/release/examples/$program" --out "$out" --force "$@"
}

if [ "$what" = all ] || [ "$what" = digits ]; then
  for seed in 0 1 2; do
    run "digits-ce-$seed" vit --seed "$seed"
    run "digits-mse-$seed" vit --seed "$seed" --loss mse
    run "digits-ce-l2-$seed" vit --seed "$seed" --l2 1e-4
    run "digits-paper-$seed" vit --seed "$seed" --protocol paper --batch-size 64
    run "digits-detector-$seed" vit --seed "$seed" --protocol detector --batch-size 64
    run "digits-vgg5-$seed" vgg5 --seed "$seed"
  done
fi
if [ "$what" = all ] || [ "$what" = mnist ]; then
  run mnist-ce-0 vit --dataset mnist --limit 4000 --width 32 --epochs 60
fi
if [ "$what" = all ] || [ "$what" = cifar10 ]; then
  run cifar10-ce-0 vit --dataset cifar10 --limit 4000 --model vit-nomlp --width 32 --epochs 80
fi
