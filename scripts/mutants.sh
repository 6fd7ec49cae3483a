#!/usr/bin/env bash
# Mutation tests of the detectors, the convex phase and the optimizer: would the tests notice a mistake?
# cargo-mutants lists small changes of the code (`+` for `-`, a function that only returns 0.0, a match arm gone); a change
# under which every test passes is one that no test would notice.
#
# A build for each of about 2,000 mutants would take more than a day. So scripts/mutants writes all of them into a copy of
# the sources, each behind a switch that reads the variable MUTANT, leaves out what does not compile, builds the copy once
# and runs its tests with one mutant on at a time, until the first that fails: one to two hours on two cores. A hang is
# ended and counts as caught.
#
#     scripts/mutants.sh                     # all; a run that was stopped goes on where it was
#     scripts/mutants.sh --only descent.rs   # once more those of the files with this in their path
#     scripts/mutants.sh --commit HEAD       # the code of a commit, whatever is being written meanwhile
#     scripts/mutants.sh --survivors         # once more those that survived: whether new tests catch them
#     scripts/mutants.sh --quick             # without the tests that take longer than a second
#
# At its end come the survivors, a line each, and the counts. target/mutants/outcomes.jsonl says of every mutant which test
# caught it, target/mutants/unviable.json which do not compile; target/mutants/tree is the copy.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants
CARGO_TARGET_DIR=target cargo build --quiet --release --manifest-path scripts/mutants/Cargo.toml
exec python3 scripts/mutants/run.py target/release/weave-mutants "$@"
