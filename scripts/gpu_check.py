#!/usr/bin/env python3
"""Runs what gpu-check.sh packed, on the devices named, and writes gpu-check.json where it was started.

    gpu-check/run                    # libtorch-cuda:0 and cuda:0
    MODELS=small EPOCHS=60 gpu-check/run flex libtorch

LIMIT is the time each program may take, in seconds (900).
"""
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
MODELS = os.environ.get("MODELS", "small,vit-mlp,vgg5,vit-10m")
EPOCHS = os.environ.get("EPOCHS", "60")
LIMIT = float(os.environ.get("LIMIT", "900"))
ENV = dict(os.environ)


def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def run(program, *args, device=None):
    """Exit code, seconds and output of one of the programs."""
    env = {**ENV, "OVERHEAD_MODELS": MODELS, **({"BURN_CONVEXITY_DEVICE": device} if device else {})}
    start = time.monotonic()
    try:
        done = subprocess.run([HERE / program, *args], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=LIMIT)
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        code, text = "timeout", late.stdout.decode(errors="replace") if late.stdout else ""
    return {"exit": code, "seconds": round(time.monotonic() - start, 1)}, text


def check(device):
    print(f"== {device}", flush=True)
    found = {}
    result, text = run("it", device=device)
    counts = re.search(r"test result: \w+\. (\d+) passed; (\d+) failed", text)
    failed = sorted(set(re.findall(r"^test (\S+) \.\.\. FAILED", text, re.MULTILINE)))
    found["tests"] = {**result, "passed": int(counts[1]) if counts else None, "failed": failed}
    if result["exit"] != 0:
        found["tests"]["end"] = text[-3000:]
    print("tests", found["tests"], flush=True)
    result, text = run("overhead", device=device)
    found["overhead"] = {**result, "models": [json.loads(line) for line in text.splitlines() if line.startswith("{")]}
    if result["exit"] != 0:
        found["overhead"]["end"] = text[-3000:]
    print("overhead", *found["overhead"]["models"], sep="\n  ", flush=True)
    for example in ("vit", "vgg5"):
        with tempfile.TemporaryDirectory() as out:
            result, text = run(example, "--device", device, "--epochs", EPOCHS, "--out", f"{out}/run")
            found[example] = result
            if result["exit"] != 0:
                found[example]["end"] = text[-3000:]
                continue
            summary = json.loads(pathlib.Path(out, "run", "summary.json").read_text())
            keys = ("name", "cost", "train_loss", "valid_loss", "valid_accuracy", "cost_to_adam", "seconds")
            found[example]["methods"] = [{key: method.get(key) for key in keys} for method in summary["methods"]]
            swaps = [method["swap"] for method in summary["methods"] if method.get("swap")]
            found[example]["swap"] = swaps[0] if swaps else None
        print(example, found[example], flush=True)
    return found


def main(devices):
    torch = output(sys.executable, "-c", "import torch, os; print(torch.__version__, os.path.dirname(torch.__file__))")
    version, folder = torch.split(" ", 1) if torch else (None, None)
    if folder:
        ENV["LD_LIBRARY_PATH"] = f"{folder}/lib:{ENV.get('LD_LIBRARY_PATH', '')}"
    gpu = output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    report = {
        "date": datetime.date.today().isoformat(),
        "gpu": gpu,
        "torch": version,
        "processors": os.cpu_count(),
        "devices": {device: check(device) for device in devices},
    }
    pathlib.Path("gpu-check.json").write_text(json.dumps(report, indent=2) + "\n")
    bad = [f"{device} {what}" for device, found in report["devices"].items()
           for what, result in found.items() if result["exit"] != 0]
    print("gpu-check.json written;", "failed: " + ", ".join(bad) if bad else "nothing failed")
    sys.exit(bool(bad))


main(sys.argv[1:] or ["libtorch-cuda:0", "cuda:0"])
