#!/usr/bin/env bash
# Finds a libtorch that Burn's LibTorch backend can be built against, or installs one, and prints the exports:
#
#     eval "$(scripts/libtorch.sh)" && cargo run --release --features tch --example vit -- --device libtorch
#
# burn-tch 0.22 pins tch 0.22, which wants libtorch 2.9. In this order: LIBTORCH as it is set; a Python that imports
# torch 2.9; a private virtual environment (LIBTORCH_VENV, by default target/libtorch) with torch 2.9.0 from pip, about
# 7 GB. TORCH names another version, 2.11.0 say, which tch also builds against. Everything but the exports goes to standard
# error; running it twice does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

torch=${TORCH:-2.9.0}
say() { printf 'libtorch: %s\n' "$1" >&2; }

version_of() { "$1" -c 'import torch; print(torch.__version__)' 2>/dev/null || true; }

exports_of() {
  local lib
  lib=$("$1" -c 'import os, torch; print(os.path.join(os.path.dirname(torch.__file__), "lib"))')
  printf 'export PATH=%q:"$PATH"\n' "$(dirname "$1")"
  printf 'export LIBTORCH_USE_PYTORCH=1\n'
  case "$torch" in 2.9*) ;; *) printf 'export LIBTORCH_BYPASS_VERSION_CHECK=1\n' ;; esac
  printf 'export LD_LIBRARY_PATH=%q"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\n' "$lib"
}

if [ -n "${LIBTORCH:-}" ]; then
  if [ ! -e "$LIBTORCH/lib/libtorch.so" ] && [ ! -e "$LIBTORCH/lib/libtorch.dylib" ]; then
    say "LIBTORCH is set to $LIBTORCH, but there is no lib/libtorch there: unset it or point it to libtorch 2.9"
    exit 1
  fi
  say "using LIBTORCH=$LIBTORCH"
  printf 'export LIBTORCH=%q\n' "$LIBTORCH"
  printf 'export LD_LIBRARY_PATH=%q"${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"\n' "$LIBTORCH/lib"
  exit 0
fi

python=$(command -v python3 || true)
if [ -z "$python" ]; then
  say "no python3: install Python 3.9 or newer, or set LIBTORCH to an unpacked libtorch 2.9"
  exit 1
fi
case "$(version_of "$python")" in
  "${torch%.*}".*) say "using the torch of $python"; exports_of "$python"; exit 0 ;;
esac

case "$torch" in 2.9*) folder=libtorch ;; *) folder=libtorch-$torch ;; esac
venv=${LIBTORCH_VENV:-$PWD/target/$folder}
case "$venv" in /*) ;; *) venv=$PWD/$venv ;; esac
case "$(version_of "$venv/bin/python3")" in
  "${torch%.*}".*) say "using the torch of $venv" ;;
  *)
    say "installing torch $torch into $venv (about 7 GB)"
    "$python" -m venv "$venv" >&2
    if ! "$venv/bin/pip" install --quiet "torch==$torch" numpy >&2; then
      say "pip could not install torch $torch: set LIBTORCH to an unpacked libtorch instead"
      exit 1
    fi
    ;;
esac
# The build asks for a program of this name.
[ -e "$venv/bin/python" ] || ln -s python3 "$venv/bin/python"
exports_of "$venv/bin/python3"
