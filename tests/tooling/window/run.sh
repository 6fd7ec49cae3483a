#!/usr/bin/env bash
# The extension in VS Code itself: code-server, seen through Chromium. For Linux on x64; installs what is missing,
# about 900 MB, compiling nothing. The server is built unless SERVER names one. Pictures go to the folder that SHOTS names.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v chromium >/dev/null; then
    (apt-get update && apt-get install -y --no-install-recommends chromium) >/dev/null 2>&1
fi
get() {
    npm "$1" --ignore-scripts --no-audit --no-fund --loglevel=error "${@:2}" >/dev/null
}
code=node_modules/code-server/lib/vscode
if [ ! -e "$code/node_modules/.package-lock.json" ]; then
    get ci
    (cd "$code" && get install --omit=dev)
    (cd "$code/extensions" && get install --omit=dev)
fi
(cd ../../../editors/vscode && npm ci --no-audit --no-fund --loglevel=error && npm run --silent package) >/dev/null 2>&1
if [ -z "${SERVER:-}" ]; then
    (cd ../../.. && cargo build --quiet --release --features cli --bin burn-convexity)
    SERVER="${CARGO_TARGET_DIR:-../../../target}/release/burn-convexity"
fi
SERVER="$(realpath "$SERVER")" node window.mjs
