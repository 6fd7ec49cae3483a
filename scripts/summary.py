"""One line for each case of the finished runs named, all over its seeds, and the geometric means over the cases: what the
default method ends at, and where it passes the better Adam's end, beside what was aimed at."""
import json
import math
import pathlib
import sys

# A loss of 0 in f32, or one of 1e-20 of Adam's, would decide a geometric mean alone.
LEAST = 1e-6


def geometric(values):
    return math.exp(sum(math.log(value) for value in values) / len(values))


def written(ratio):
    """Two digits, three where it is 1 or more: 1.04 is worse than Adam."""
    return f"{ratio:.{3 if ratio >= 1 else 2}g}"


def numbers(run):
    """Of one run: final objective over the better Adam's, the share of its cost at which its train loss was reached, the
    points of validation accuracy beside it, and the cost of the swap."""
    methods = {method["name"]: method for method in run["methods"]}
    ours = methods["convexity_switching"]
    adam = min((methods[name] for name in ("adam", "adam_cosine")), key=lambda method: method["train_loss"])
    objective = lambda method: method["train_loss"] + method.get("penalty", 0.0)
    least = min(objective(methods[name]) for name in ("adam", "adam_cosine"))
    reached = ours["cost_to_adam"] / adam["cost_to_adam"] if ours["cost_to_adam"] else None
    swap = ours["swap"] and ours["swap"]["cost"]
    return objective(ours) / least, reached, 100 * (ours["valid_accuracy"] - adam["valid_accuracy"]), swap


cases = {}
for folder in map(pathlib.Path, sys.argv[1:]):
    if not (folder / "summary.json").exists():
        continue
    run = json.loads((folder / "summary.json").read_text())
    if "adam" not in {method["name"] for method in run["methods"]}:
        continue  # another choice, beside the case's own run
    protocol = run["protocol"]
    key = (run["dataset"], run["model"], run["loss"], run["config"]["l2"], run["parameters"])
    key += tuple(protocol[name] for name in ("images", "batch_size", "epochs"))
    cases.setdefault(key, []).append(numbers(run))

print("| data, images | model, parameters | objective | batch | cost | seeds | swap at cost | of Adam's | passed at | accuracy |")
print("|---|---|---|---|---|---|---|---|---|---|")
kinds = {"cross-entropy": [], "mse": [], "cross-entropy + l2": []}
for (dataset, model, loss, l2, parameters, images, batch, epochs), runs in sorted(cases.items()):
    kind = loss + (" + l2" if l2 else "")
    ratio = geometric([max(ratio, LEAST) for ratio, *_ in runs])
    # One that never gets there counts as if it had at twice the cost.
    reached = sum(reached or 2.0 for _, reached, *_ in runs) / len(runs)
    points = sum(points for _, _, points, _ in runs) / len(runs)
    swaps = [swap for *_, swap in runs if swap]
    swap = f"{min(swaps):.0f} to {max(swaps):.0f}" if len(swaps) > 1 and min(swaps) != max(swaps) else f"{swaps[0]:.0f}" if swaps else "-"
    kinds.setdefault(kind, []).append((ratio, reached, points, bool(swaps)))
    print(f"| {dataset}, {images:,} | {model}, {parameters:,} | {kind + f' {l2:g}' if l2 else kind} | {batch} | {epochs} | {len(runs)} | {swap} |"
          f" {written(ratio)} | {reached:.2f} | {points:+.1f} |")
for kind, rows in kinds.items():
    for name, some in (("all", rows), ("all that swap", [row for row in rows if row[3]])):
        if some and (name == "all" or len(some) < len(rows)):
            ratio, reached = geometric([row[0] for row in some]), geometric([row[1] for row in some])
            points = sum(row[2] for row in some) / len(some)
            print(f"| **{name}** |  | {kind} |  |  | {len(some)} cases |  | {written(ratio)} | {reached:.2f} | {points:+.1f} |")
