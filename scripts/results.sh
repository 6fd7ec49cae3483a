#!/usr/bin/env bash
# The runs behind README.md and RESULTS.md, two at a time, each in its folder under runs/; a run that is there is kept, one
# that was stopped goes on. At the end their tables take the place of those in RESULTS.md, unless a run failed.
#
#     scripts/results.sh                # everything, some hours on two cores
#     scripts/results.sh digits models  # parts: digits, models, alternatives, renewal, stall, noise, published, mnist, short, cifar10, swaps, large, batch512, summary
#     TABLES=1 scripts/results.sh       # no runs, the tables of those that are there
#
# MNIST and CIFAR-10 are looked for in data/ (examples/data/fetch.sh brings them), or where DATA says. BIN names a folder of
# programs that are built already, `vit`, `vgg5` and `burn-convexity`; LARGE_DEVICE the device of the parts `large` and `batch512` (libtorch takes half the time there);
# JOBS how many runs go side by side (2).
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:-data}
parts=${*:-digits models alternatives renewal stall noise published mnist short cifar10 swaps large batch512 summary}
seeds="0 1 2"

features=cli
if [[ ${LARGE_DEVICE:-flex} == libtorch* && -z "${TABLES:-}" ]]; then
  exports=$(scripts/libtorch.sh)
  eval "$exports"
  features=cli,tch
fi
if [ -z "${BIN:-}" ]; then
  cargo build --release --features "$features" --example vit --example vgg5 --bin burn-convexity
  BIN=target/release/examples
  reporter=target/release/burn-convexity
fi
reporter=${reporter:-$BIN/burn-convexity}
failures=$(mktemp)
trap 'rm -f "$failures"' EXIT
export RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1
# glibc else gives the large buffers of every operation back to the system, which took half of the processor's time at batches of 512.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184

run() { # folder, program, options
  local out=runs/$1 program=$2
  shift 2
  if [ -e "$out/summary.json" ] || [ -n "${TABLES:-}" ]; then return; fi
  while [ "$(jobs -rp | wc -l)" -ge "${JOBS:-2}" ]; do wait -n; done
  mkdir -p "$out"
  echo "$program --out $out $*"
  "$BIN/$program" --out "$out" --resume --data-dir "$data" "$@" >"$out/output.txt" 2>&1 ||
    echo "failed: $out: $(tail -n1 "$out/output.txt")" | tee -a "$failures" &
}

small="--width 32 --layers 2"
wide="--limit 10000 --model vit-nomlp --batch-size 512 --epochs 100 --device ${LARGE_DEVICE:-flex}"
for part in $parts; do
  case $part in
    digits)
      for seed in $seeds; do
        run "digits/ce-$seed" vit --seed "$seed"
        run "digits/l2-$seed" vit --seed "$seed" --l2 1e-4
        run "digits/mse-$seed" vit --seed "$seed" --loss mse
        run "digits/mse-l2-$seed" vit --seed "$seed" --loss mse --l2 1e-4
      done ;;
    models)
      for seed in $seeds; do
        for model in vit-mlp vit-nomlp vit-nomlp-wkewq-wvwo vgg5; do
          if [ "$model" = vgg5 ]; then program=(vgg5); else program=(vit --model "$model"); fi
          for loss in cross-entropy mse; do
            run "models/$model-$loss-$seed" "${program[@]}" --loss "$loss" --seed "$seed"
            run "models/$model-$loss-l2-$seed" "${program[@]}" --loss "$loss" --seed "$seed" --l2 1e-4
          done
        done
      done ;;
    alternatives)
      for seed in $seeds; do
        for loss in cross-entropy mse; do
          [[ $loss$seed == mse[12] ]] && continue
          for config in inner no_batch_gradients no_function_values last peak slope_5 identity conjugate_gradient; do
            run "alternatives/$loss-$config-$seed" vit --seed "$seed" --loss "$loss" --baseline none \
              --config "examples/configs/$config.json"
          done
        done
      done ;;
    renewal) # beside the part digits
      for seed in $seeds; do
        run "renewal/l2-$seed" vit --seed "$seed" --l2 1e-4 --baseline none --config examples/configs/no_renewal.json
        run "renewal/mse-l2-$seed" vit --seed "$seed" --loss mse --l2 1e-4 --baseline none \
          --config examples/configs/no_renewal.json
      done ;;
    stall) # beside the part models
      for seed in $seeds; do
        for model in vit-mlp vit-nomlp vit-nomlp-wkewq-wvwo; do
          for l2 in "" "--l2 1e-4"; do
            run "stall/$model-mse${l2:+-l2}-$seed" vit --model "$model" --seed "$seed" --loss mse $l2 --baseline none \
              --config examples/configs/stall_12.json
          done
        done
      done ;;
    noise)
      for seed in $seeds; do
        for share in 0.2 0.5; do
          run "noise/$share-$seed" vit --seed "$seed" --label-noise "$share"
          run "noise/no-level-$share-$seed" vit --seed "$seed" --label-noise "$share" --baseline none \
            --config examples/configs/no_level.json
        done
      done ;;
    published)
      for seed in $seeds; do
        for protocol in paper detector; do
          for model in vit-nomlp-wkewq vit-nomlp vit-mlp vit-nomlp-wkewq-wvwo; do
            run "published/$model-$protocol-$seed" vit --model "$model" --seed "$seed" --protocol "$protocol" --epochs 40
          done
          run "published/vgg5-$protocol-$seed" vgg5 --seed "$seed" --protocol "$protocol" --epochs 40
        done
      done ;;
    mnist)
      for seed in $seeds; do
        run "mnist/ce-$seed" vit --dataset mnist --limit 4000 $small --seed "$seed" --epochs 150
        run "mnist/l2-$seed" vit --dataset mnist --limit 4000 $small --seed "$seed" --epochs 150 --l2 1e-4
      done ;;
    short)
      for seed in $seeds; do
        run "short/ce-$seed" vit --dataset mnist --limit 4000 $small --seed "$seed" --epochs 60
        run "short/last-$seed" vit --dataset mnist --limit 4000 $small --seed "$seed" --epochs 60 --baseline none \
          --config examples/configs/last.json
      done ;;
    cifar10)
      run cifar10/ce-0 vit --dataset cifar10 --limit 10000 --model vit-nomlp --batch-size 128 --epochs 120 ;;
    swaps) # the swap at fixed windows, beside the default detector's of the parts digits, mnist, short and cifar10
      mkdir -p runs/swaps
      at() { # window, folder, options
        echo "{ \"detector\": { \"kind\": \"at_window\", \"window\": $1 } }" >"runs/swaps/at-$1.json"
        run "swaps/$2-$1" vit --baseline none --config "runs/swaps/at-$1.json" --seed 0 "${@:3}"
      }
      for window in 30 50; do at "$window" digits; done
      for window in 40 60 75 90; do at "$window" mnist --dataset mnist --limit 4000 $small --epochs 150; done
      for window in 10 30 40 50; do at "$window" short --dataset mnist --limit 4000 $small --epochs 60; done
      at 75 cifar10 --dataset cifar10 --limit 10000 --model vit-nomlp --batch-size 128 --epochs 120 ;;
    large)
      large() { # name, program, data set, options
        run "large/$3-$1" "$2" --dataset "$3" --limit 10000 --batch-size 128 --device "${LARGE_DEVICE:-flex}" "${@:4}"
      }
      for dataset in cifar10 mnist; do
        large cross-entropy-vit-0 vit "$dataset" --model vit-nomlp-wkewq-wvwo --epochs 50
        large cross-entropy-vgg5-0 vgg5 "$dataset" --epochs 16
        large mse-vit-0 vit "$dataset" --loss mse --model vit-nomlp-wkewq-wvwo --epochs 50
        large l2-vit-0 vit "$dataset" --model vit-nomlp-wkewq-wvwo --epochs 50 --l2 1e-4
        large mse-l2-vit-0 vit "$dataset" --loss mse --model vit-nomlp-wkewq-wvwo --epochs 50 --l2 1e-4
      done
      for seed in 1 2; do large "cross-entropy-vit-$seed" vit mnist --model vit-nomlp-wkewq-wvwo --epochs 50 --seed "$seed"; done
      large vgg5-60-0 vgg5 mnist --epochs 60
      for epochs in 40 80; do large "vgg5-$epochs-0" vgg5 cifar10 --epochs "$epochs"; done
      for model in vit-mlp vit-nomlp-wkewq; do
        large "$model-0" vit mnist --model "$model" --epochs 60
        large "$model-mse-0" vit mnist --model "$model" --epochs 60 --loss mse
        large "$model-l2-0" vit mnist --model "$model" --epochs 60 --l2 1e-4
        large "$model-mse-l2-0" vit mnist --model "$model" --epochs 60 --loss mse --l2 1e-4
        large "$model-0" vit cifar10 --model "$model" --epochs 120
        large "$model-l2-0" vit cifar10 --model "$model" --epochs 120 --l2 1e-4
        large "$model-mse-0" vit cifar10 --model "$model" --epochs 120 --loss mse
        large "$model-mse-l2-0" vit cifar10 --model "$model" --epochs 120 --loss mse --l2 1e-4
      done
      for seed in 1 2; do large "vit-mlp-l2-$seed" vit mnist --model vit-mlp --epochs 60 --l2 1e-4 --seed "$seed"; done
      large vgg5-mse-60-0 vgg5 mnist --epochs 60 --loss mse
      large vgg5-l2-60-0 vgg5 mnist --epochs 60 --l2 1e-4
      large vgg5-mse-l2-60-0 vgg5 mnist --epochs 60 --loss mse --l2 1e-4
      large vgg5-l2-80-0 vgg5 cifar10 --epochs 80 --l2 1e-4
      large vgg5-mse-80-0 vgg5 cifar10 --epochs 80 --loss mse
      large vgg5-mse-l2-80-0 vgg5 cifar10 --epochs 80 --loss mse --l2 1e-4
      # Some of batch512 here too, which wants a GPU as a whole.
      run large/mnist-batch512-vit-0 vit --dataset mnist $wide
      run large/mnist-batch512-l2-0 vit --dataset mnist $wide --l2 1e-4
      for dataset in mnist cifar10; do
        run "large/$dataset-batch512-mse-0" vit --dataset "$dataset" $wide --loss mse
        run "large/$dataset-batch512-mse-l2-0" vit --dataset "$dataset" $wide --loss mse --l2 1e-4
      done
      for seed in $seeds; do run "large/cifar10-batch512-vit-$seed" vit --dataset cifar10 $wide --seed "$seed"; done
      for seed in $seeds; do run "large/cifar10-batch512-l2-$seed" vit --dataset cifar10 $wide --seed "$seed" --l2 1e-4; done
      run large/cifar10-batch512-l2-1e-3-0 vit --dataset cifar10 $wide --l2 1e-3 ;;
    batch512) # 10,000 images in 20 steps an epoch
      batch512() { # data set, name, options
        run "batch512/$1-$2" vit --dataset "$1" $wide "${@:3}"
      }
      for seed in $seeds; do
        batch512 cifar10 "ce-$seed" --seed "$seed"
        batch512 cifar10 "no-level-$seed" --seed "$seed" --baseline none --config examples/configs/no_level.json
      done
      for dataset in cifar10 mnist; do
        batch512 "$dataset" mse-0 --loss mse
        batch512 "$dataset" l2-0 --l2 1e-4
        batch512 "$dataset" mse-l2-0 --loss mse --l2 1e-4
      done
      batch512 mnist ce-0 ;;
    summary) ;; # of the runs of the others
    *) echo "there is no part $part" >&2; exit 1 ;;
  esac
done
wait
# With TABLES=1 there are none, as there are no runs.
if [ -s "$failures" ]; then
  echo "$(wc -l <"$failures") runs failed, RESULTS.md is left as it is; TABLES=1 puts the tables of those that are there" >&2
  exit 1
fi

report() { # folders, of which the finished ones count
  local folder finished=()
  for folder; do [ -e "$folder/summary.json" ] && finished+=("$folder"); done
  [ "${#finished[@]}" -eq 0 ] || "$reporter" report --markdown "${finished[@]}"
}

for part in $parts; do
  if [ "$part" = swaps ]; then
    for case in digits mnist short cifar10; do
      report "runs/$case/ce-0" runs/swaps/"$case"-*
      echo
    done
  elif [ "$part" = alternatives ]; then
    report runs/digits/ce-? runs/digits/mse-? runs/alternatives/*
  elif [ "$part" = renewal ]; then
    report runs/digits/l2-? runs/digits/mse-l2-? runs/renewal/*
  elif [ "$part" = stall ]; then
    report runs/models/vit-*-mse-* runs/stall/*
  elif [ "$part" = summary ]; then
    python3 scripts/summary.py runs/{digits,models,mnist,short,cifar10,large}/*
  else
    report runs/"$part"/*
  fi | python3 scripts/tables.py "$part"
done
