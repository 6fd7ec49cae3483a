#!/usr/bin/env python3
"""Runs what gpu-check.sh packed, on the devices named, and writes gpu-check.json where it was started.

    gpu-check/run                    # libtorch-cuda:0 and cuda:0
    MODELS=small EPOCHS=60 gpu-check/run flex libtorch

LIMIT is the time each program may take, in seconds (900), TOTAL that of all of them (3600). What was found by then counts.
What each printed is beside this script in logs/.
"""
import concurrent.futures
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
END = time.monotonic() + float(os.environ.get("TOTAL", "3600"))
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
                              text=True, timeout=max(1, min(LIMIT, END - start)))
        code, text = done.returncode, done.stdout
    except subprocess.TimeoutExpired as late:
        code, text = "timeout", late.stdout.decode(errors="replace") if late.stdout else ""
    return {"exit": code, "seconds": round(time.monotonic() - start, 1)}, text


def tests(device):
    result, text = run("it", device=device)
    ends = lambda word: sorted(set(re.findall(rf"^test (\S+) \.\.\. {word}$", text, re.MULTILINE)))
    result |= {"passed": len(ends("ok")), "failed": ends("FAILED")}
    return result, text


def overhead(device):
    result, text = run("overhead", device=device)
    result["models"] = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return result, text


def training(example, device):
    with tempfile.TemporaryDirectory() as out:
        result, text = run(example, "--device", device, "--epochs", EPOCHS, "--out", f"{out}/run")
        if result["exit"] == 0:
            summary = json.loads(pathlib.Path(out, "run", "summary.json").read_text())
            keys = ("name", "cost", "train_loss", "valid_loss", "valid_accuracy", "cost_to_adam", "seconds")
            result["methods"] = [{key: method.get(key) for key in keys} for method in summary["methods"]]
            result["swap"] = next((method["swap"] for method in summary["methods"] if method.get("swap")), None)
    return result, text


def checks(devices):
    """What is found on each device: tests and trainings side by side, two processors each, the timings alone."""
    found = {device: {} for device in devices}

    def note(device, name, result, text):
        if result["exit"] != 0:
            result["end"] = text[-3000:]
        (HERE / "logs").mkdir(exist_ok=True)
        (HERE / "logs" / f"{device}-{name}.txt").write_text(text)
        found[device][name] = result
        print(device, name, result, flush=True)

    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, os.cpu_count() // 2)) as pool:
        works = {pool.submit(work, device): (device, name) for device in devices for name, work in WORKERS.items()}
        for done in concurrent.futures.as_completed(works):
            note(*works[done], *done.result())
    for device in devices:
        note(device, "overhead", *overhead(device))
    return found


WORKERS = {
    "tests": tests,
    "vit": lambda device: training("vit", device),
    "vgg5": lambda device: training("vgg5", device),
}


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
        "devices": checks(devices),
    }
    pathlib.Path("gpu-check.json").write_text(json.dumps(report, indent=2) + "\n")
    bad = [f"{device} {what}" for device, found in report["devices"].items()
           for what, result in found.items() if result["exit"] != 0]
    print("gpu-check.json written;", "failed: " + ", ".join(bad) if bad else "nothing failed")
    sys.exit(bool(bad))


main(sys.argv[1:] or ["libtorch-cuda:0", "cuda:0"])
