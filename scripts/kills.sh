#!/usr/bin/env bash
# Kills a run of the example `vit` with SIGKILL at random moments, checkpoint writes included, resumes it every time, and
# compares its end with that of a run nobody disturbed:
#
#     scripts/kills.sh            # 50 kills
#     scripts/kills.sh 500 7      # 500 kills, the moments drawn from seed 7
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-50}
RANDOM=${2:-1}
cargo build --release --features cli --example vit
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
options=(--epochs 60 --limit 300 --baseline none)
vit=target/release/examples/vit

start=$(date +%s%N)
"$vit" "${options[@]}" --out "$scratch/undisturbed" >/dev/null
whole=$(($(date +%s%N) - start))

done=0
resumed=0
while [ "$done" -lt "$kills" ]; do
  "$vit" "${options[@]}" --out "$scratch/killed" --resume >"$scratch/output" 2>&1 &
  pid=$!
  # Anywhere in the first two thirds of a run, so that it gets on.
  moment=$((whole * 2 / 3 * RANDOM / 32768))
  sleep "$(printf '%d.%09d' $((moment / 1000000000)) $((moment % 1000000000)))"
  if kill -9 "$pid" 2>/dev/null; then done=$((done + 1)); fi
  status=0
  wait "$pid" 2>/dev/null || status=$?
  if [ "$status" -ne 0 ] && [ "$status" -ne 137 ]; then
    cat "$scratch/output" >&2
    echo "a run ended with $status after $done kills" >&2
    exit 1
  fi
  if grep -q 'goes on from epoch' "$scratch/output"; then resumed=$((resumed + 1)); fi
  # It came to its end: the next kills are those of a new run.
  if [ -e "$scratch/killed/summary.json" ]; then
    python3 scripts/same_end.py "$scratch/undisturbed" "$scratch/killed"
    rm -rf "$scratch/killed"
  fi
done
if ! "$vit" "${options[@]}" --out "$scratch/killed" --resume >"$scratch/output" 2>&1; then
  cat "$scratch/output" >&2
  exit 1
fi
python3 scripts/same_end.py "$scratch/undisturbed" "$scratch/killed"
echo "kills: $done, resumed from a checkpoint after $resumed of them, every end that of the undisturbed run"
