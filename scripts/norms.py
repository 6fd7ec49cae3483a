"""The norm of the mean gradient over the mean norm of the batch gradients, window by window, of the constant Adam of runs:

    python3 scripts/norms.py runs/digits/ce-0 runs/mnist/ce-0 runs/cifar10/ce-0

Gradients that agree have a ratio of 1, independent ones one over the root of their number.
"""
import json
import pathlib
import sys

WINDOWS = (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100, 120)

print("window".ljust(20), *(f"{window:>5}" for window in WINDOWS))
for folder in sys.argv[1:]:
    rows = map(json.loads, pathlib.Path(folder, "trace.jsonl").read_text().splitlines())
    ratio = {row["window"]: row["mean_norm"] / row["batch_norm"] for row in rows if row["method"] == "adam"}
    print(folder.ljust(20), *(f"{ratio[window]:5.2f}" if window in ratio else "    -" for window in WINDOWS))
