#!/usr/bin/env bash
# The tools through what editors run: the language service of VS Code, Ajv as SchemaStore sets it, and Neovim.
# Installs what is missing. The server is built unless SERVER names one. The last line counts the checks.
set -uo pipefail
cd "$(dirname "$0")/../.."

if ! command -v nvim >/dev/null; then
    (apt-get update && apt-get install -y --no-install-recommends neovim) >/dev/null 2>&1
fi
(cd tests/tooling && npm ci --no-audit --no-fund --silent)
if [ -z "${SERVER:-}" ]; then
    cargo build --quiet --release --features cli --bin burn-convexity || exit 1
    SERVER="${CARGO_TARGET_DIR:-target}/release/burn-convexity"
fi
SERVER="$(realpath "$SERVER")"
export SERVER

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
# A program that ends before its first check, or after a check that holds, has failed all the same.
each() {
    local name="$1"
    shift
    "$@" >"$log.part" 2>"$log.errors"
    local code=$?
    cat "$log.part" >>"$log"
    if [ "$code" -ne 0 ] && ! grep -q '^not ok' "$log.part"; then
        echo "not ok - $name ends with code $code: $(tail -n 5 "$log.errors")" >>"$log"
    fi
    rm -f "$log.part" "$log.errors"
}
each schemastore node tests/tooling/schemastore.mjs
each vscode node tests/tooling/vscode.mjs
each neovim timeout 120 nvim --headless -u NONE -i NONE -c 'luafile tests/tooling/nvim.lua'

grep '^not ok' "$log"
passed=$(grep -c '^ok' "$log")
failed=$(grep -c '^not ok' "$log")
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
