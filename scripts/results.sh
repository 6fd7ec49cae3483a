#!/usr/bin/env bash
# The runs behind README.md and RESULTS.md, one after another, each in its folder under runs/; a run that is there is kept.
#
#     scripts/results.sh            # everything, some hours on two cores
#     scripts/results.sh digits     # one part: digits, alternatives, vgg5, published, mnist or cifar10
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

wants() { [ "$what" = all ] || [ "$what" = "$1" ]; }

if wants digits; then
  for seed in 0 1 2; do
    run "digits-ce-$seed" vit --seed "$seed"
    run "digits-mse-$seed" vit --seed "$seed" --loss mse
    run "digits-ce-l2-$seed" vit --seed "$seed" --l2 1e-4
  done
fi
if wants alternatives; then
  for seed in 0 1 2; do
    for config in peak conjugate_gradient; do
      run "digits-ce-$config-$seed" vit --seed "$seed" --baseline none --config "examples/configs/$config.json"
      run "digits-mse-$config-$seed" vit --seed "$seed" --baseline none --loss mse --config "examples/configs/$config.json"
    done
  done
fi
if wants vgg5; then
  for seed in 0 1 2; do
    run "digits-vgg5-$seed" vgg5 --seed "$seed"
  done
fi
if wants published; then
  for seed in 0 1 2; do
    run "digits-paper-$seed" vit --seed "$seed" --protocol paper --epochs 60
    run "digits-detector-$seed" vit --seed "$seed" --protocol detector --epochs 60
  done
fi
if wants mnist; then
  run mnist-ce-0 vit --dataset mnist --limit 4000 --width 32 --layers 2 --epochs 60
fi
if wants cifar10; then
  run cifar10-ce-0 vit --dataset cifar10 --limit 4000 --width 32 --layers 2 --epochs 80
fi
