#!/usr/bin/env bash
# Line coverage of the library by its own tests: src/ without src/bin. Only this crate is instrumented, so that what is
# built of Burn is used again. Needs llvm-profdata and llvm-cov of rustc's LLVM (the rustup component llvm-tools, or Debian's
# llvm-22); LLVM_COV and LLVM_PROFDATA name others.
#
#     scripts/coverage.sh            # a line for every file; the last line is the whole
#     scripts/coverage.sh --lines    # every line that no test runs
set -euo pipefail
cd "$(dirname "$0")/.."

major=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
tools=$(rustc --print target-libdir)/../bin
tool() { # name
  for candidate in "$tools/$1" "$1-$major"; do
    if command -v "$candidate" >/dev/null; then echo "$candidate"; return; fi
  done
  echo "coverage: no $1 of LLVM $major: rustup component add llvm-tools, or Debian's llvm-$major" >&2
  return 1
}
profdata=${LLVM_PROFDATA:-$(tool llvm-profdata)}
cov=${LLVM_COV:-$(tool llvm-cov)}

folder=target/coverage
rm -rf "$folder"
mkdir -p "$folder"
printf '#!/usr/bin/env bash\nexec "$@" -C instrument-coverage\n' >"$folder/rustc"
chmod +x "$folder/rustc"
export RUSTC_WORKSPACE_WRAPPER=$PWD/$folder/rustc LLVM_PROFILE_FILE=$PWD/$folder/%p-%m.profraw

cargo test --release --features cli --lib --test it --test tooling --no-run --message-format json >"$folder/built.json"
mapfile -t binaries < <(sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' "$folder/built.json" | sort -u)
cargo test --release --features cli --lib --test it --test tooling >"$folder/tests.txt" || { tail -n 40 "$folder/tests.txt"; exit 1; }

"$profdata" merge -sparse "$folder"/*.profraw -o "$folder/all.profdata"
objects=()
for binary in "${binaries[@]}"; do objects+=(-object "$binary"); done
only=(-instr-profile "$folder/all.profdata" --ignore-filename-regex '/(registry|rustc|tests|examples|bin)/' "${objects[@]}")
if [ "${1:-}" = --lines ]; then
  "$cov" show "${only[@]}" --show-line-counts-or-regions | grep -E '^ +[0-9]+\| +0\||^/.*:$' || true
else
  "$cov" report "${only[@]}" | awk '/%/ { print $1, $8, $9, $10 }' | column -t
fi
