"""Counts the calls of torch's C interface that a stretch of training makes; see launches.sh."""
import re
import subprocess
import sys
import tempfile

VIEWS = re.compile(r"atg_(view|reshape|slice|transpose|permute|expand|squeeze|unsqueeze|narrow|detach|t|swapdims|select)\w*$")
READ = "at_copy_data"
WINDOW = 40  # passes, as there
# Launches beyond the one below and read-backs, a pass, however many tensors there are, but for the last. The gradients are put side by side, their
# norm taken, and added up; every eighth pass the iterates enter the running average; the end of a window takes its mean, the
# norm of it, and joins the scalars.
LIMITS = {
    "non_convex_last": ("adam", 3 + 3 / WINDOW, 1 / WINDOW),
    "non_convex": ("adam", 3 + 4 / 8 + 3 / WINDOW, 1 / WINDOW),
    "convex": ("model", 12, 1),
    # Eight more: there and back, the matrices of a shape are joined and multiplied from both sides, and all are joined again.
    "convex_kronecker": ("model", 20.25, 1),
}


def counts(binary, method, passes):
    symbols = subprocess.run(["nm", binary], capture_output=True, text=True, check=True).stdout
    names = re.findall(r" T (atg_\w+|at_copy_data|at_copy_|at_tensor_of_data)$", symbols, re.MULTILINE)
    script = ["set pagination off", "set width 0", *(f"break {name}" for name in names)]
    script += [f"ignore {at} 100000000" for at in range(1, len(names) + 1)]
    with tempfile.NamedTemporaryFile("w", suffix=".gdb") as file:
        file.write("\n".join([*script, "run", "info breakpoints", ""]))
        file.flush()
        command = ["gdb", "-batch", "-nx", "-x", file.name, "--args", binary, method, str(passes)]
        text = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
    if "exited normally" not in text:
        sys.exit(f"launches: {method} did not end\n{text[-2000:]}")
    found = {}
    for name, hits in re.findall(r"<(atg?_\w+)(?:\+\d+)?>\s+breakpoint already hit (\d+) time", text):
        found[name] = found.get(name, 0) + int(hits)
    return found


def stretch(binary, method):
    """Calls of passes 41 to 80, per pass."""
    short, long = counts(binary, method, 40), counts(binary, method, 80)
    return {name: (hits - short.get(name, 0)) / 40 for name, hits in long.items() if hits != short.get(name, 0)}


def main(binary):
    launches = lambda calls: sum(n for name, n in calls.items() if name.startswith("atg_") and not VIEWS.match(name))
    base = {name: stretch(binary, name) for name in ("model", "adam")}
    for name, calls in base.items():
        print(f"{name}: {launches(calls):.1f} launches and {calls.get(READ, 0):.3f} read-backs a pass")
    failed = False
    for method, (below, most, reads) in LIMITS.items():
        calls = stretch(binary, method)
        more = launches(calls) - launches(base[below])
        over = more > most + 1e-9 or calls.get(READ, 0) > reads
        failed |= over
        print(f"{method}: {more:.3f} launches a pass beyond {below} (limit {most:.3f}), {calls.get(READ, 0):.3f}"
              f" read-backs a pass (limit {reads:.3f}){': OVER' if over else ''}")
        extra = {name: calls.get(name, 0) - base[below].get(name, 0) for name in {*calls, *base[below]}}
        print("  " + ", ".join(f"{name} {n:+.2f}" for name, n in sorted(extra.items()) if n and not VIEWS.match(name)))
    sys.exit(failed)


main(sys.argv[1])
