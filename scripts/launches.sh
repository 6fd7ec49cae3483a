#!/usr/bin/env bash
# What a pass costs beyond the model, counted in calls of libtorch: kernels launched and values read back by the host. gdb
# counts how often each function of torch's C interface is entered, by two stretches of one training (benches/launches.rs);
# their difference has neither start nor end. Views of a tensor launch nothing and are not counted.
#
#     scripts/launches.sh
#     FEATURES=cli,tch,ndarray scripts/launches.sh     # where Burn is built with these already
#
# The counts are the same on a CUDA device, where each costs some microseconds and each read-back waits for the device. Ends
# with an error where a count is over its limit.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v gdb >/dev/null || { echo "launches: needs gdb (Debian's package gdb)" >&2; exit 1; }
exports=$(scripts/libtorch.sh)
eval "$exports"
binary=$(cargo build --release --features "${FEATURES:-cli,tch}" --bench launches --message-format json |
  sed -n 's/.*"executable":"\([^"]*launches[^"]*\)".*/\1/p')
exec python3 scripts/launches.py "$binary"
