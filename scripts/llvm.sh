#!/usr/bin/env bash
# The LLVM that Burn's `cuda` is built with, where its build cannot download one: prints the exports that make cargo find it.
#
#     eval "$(scripts/llvm.sh)"
#     cargo build --release --features cli,cuda --example vit
#
# Burn 0.22.1 compiles its kernels by LLVM 23 (tracel-llvm-bundler), which its build script takes from the data folder if it is
# there. This puts the static libraries of the Python package mlc-llvm-static there, in a private virtual environment under
# target/, and does nothing a second time.
set -euo pipefail
cd "$(dirname "$0")/.."
data=$PWD/target/llvm
place=$data/tracel/tracel-llvm-23.1.0-4
if [ ! -e "$place/.tracel-llvm-installed" ]; then
  mkdir -p "$data/tracel"
  python3 -m venv "$data/python" >&2
  "$data/python/bin/pip" install -q 'mlc-llvm-static[all]==23.1.1.post0' >&2
  prefix=$("$data/python/bin/python" -m mlc_llvm_static.config --prefix)
  ln -sfn "$prefix" "$place"
  touch "$place/.tracel-llvm-installed"
fi
printf 'export XDG_DATA_HOME=%q\n' "$data"
