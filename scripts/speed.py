"""Times an epoch of `vit-nomlp` on CIFAR-10 in the `vit` example (flex, LibTorch) and in PyTorch; scripts/speed.sh builds
the example and calls this.

An epoch is what the example's trace records: Adam over the training images, then the validation images, with loss and
accuracy of both. The sides take turns, each in a process of its own whose first epoch does not count. The fastest of the
other epochs is reported: what another program took away is the only thing that makes an epoch of equal work slower.
"""

import argparse
import datetime
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn

MEAN, DEVIATION = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]
WIDTH, HEADS, LAYERS, PATCH, CLASSES = 64, 4, 3, 8, 10


class Attention(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.fused = fused

    def forward(self, tokens):
        batch, length, width = tokens.shape
        split = lambda x: x.reshape(batch, length, HEADS, width // HEADS).transpose(1, 2)
        query, key, value = split(self.query(tokens)), split(self.key(tokens)), split(self.value(tokens))
        if self.fused:
            joined = F.scaled_dot_product_attention(query, key, value)
        else:
            weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(width // HEADS), 3)
            joined = weights @ value
        return self.output(joined.transpose(1, 2).reshape(batch, length, width))


class Layer(nn.Module):
    def __init__(self, fused):
        super().__init__()
        self.attention_norm, self.mlp_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention(fused)

    def forward(self, tokens):
        # Without an MLP the second normalisation ends the layer.
        return self.mlp_norm(tokens + self.attention(self.attention_norm(tokens)))


class Vit(nn.Module):
    def __init__(self, fused):
        super().__init__()
        # Layers without further words begin as Burn's do: uniform, up to 1 / sqrt(inputs).
        self.projection = nn.Conv2d(3, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(0.02 * torch.randn(1, 1, WIDTH))
        self.layers = nn.Sequential(*(Layer(fused) for _ in range(LAYERS)))
        self.head = nn.Linear(WIDTH, CLASSES)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.normal_(self.head.bias, std=0.02)
        angles = torch.arange((32 // PATCH) ** 2 + 1)[:, None] * 1e4 ** (-torch.arange(0, WIDTH, 2) / WIDTH)
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], 2).reshape(1, -1, WIDTH))

    def forward(self, images):
        patches = self.projection(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.repeat(len(images), 1, 1), patches], 1) + self.positions
        return self.head(self.layers(tokens)[:, 0])


def read(folder, files, limit):
    records = b"".join((folder / file).read_bytes() for file in files)
    records = torch.frombuffer(bytearray(records), dtype=torch.uint8).reshape(-1, 1 + 3 * 32 * 32)[:limit]
    images = records[:, 1:].reshape(-1, 3, 32, 32).float() / 255
    channel = lambda values: torch.tensor(values).reshape(3, 1, 1)
    return (images - channel(MEAN)) / channel(DEVIATION), records[:, 0].long()


def epoch(model, batches, optimizer=None):
    """Loss and share of right answers, read back once."""
    sums, items = torch.zeros(2), 0
    for images, targets in batches:
        logits = model(images)
        loss = F.cross_entropy(logits, targets)
        if optimizer:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        hits = (logits.detach().argmax(1) == targets).sum()
        sums += torch.stack([loss.detach() * len(targets), hits])
        items += len(targets)
    return (sums / items).tolist()


def train(options):
    """The PyTorch side: prints the seconds of every epoch."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    folder = options.data_dir
    folder = next(f for f in [folder / "cifar10", folder / "cifar-10-batches-bin", folder] if (f / "test_batch.bin").exists())
    images, labels = read(folder, [f"data_batch_{i}.bin" for i in range(1, 6)], options.limit)
    valid = read(folder, ["test_batch.bin"], None)
    model = Vit(fused=options.only == "fused")
    assert sum(p.numel() for p in model.parameters()) == 62_986
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-5)
    for _ in range(options.epochs):
        start = time.perf_counter()
        order = torch.randperm(len(images)).split(options.batch_size[0])
        train_loss, _ = epoch(model, ((images[i], labels[i]) for i in order), optimizer)
        with torch.no_grad():
            valid_loss, right = epoch(model, zip(*(part.split(options.batch_size[0]) for part in valid)))
        seconds = time.perf_counter() - start
        print(f"{seconds:.3f} s, train loss {train_loss:.4f}, valid loss {valid_loss:.4f}, {right:.4f} right", flush=True)


def burn(options, device, batch_size):
    """Seconds of every epoch but the first, from the example's trace."""
    with tempfile.TemporaryDirectory() as out:
        command = [options.program, "--dataset", "cifar10", "--data-dir", options.data_dir, "--model", "vit-nomlp"]
        command += ["--device", device, "--baseline", "none", "--epochs", options.epochs, "--batch-size", batch_size]
        command += ["--limit", options.limit, "--out", out, "--force"]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)
        rows = [json.loads(line) for line in open(f"{out}/trace.jsonl")]
    # The epochs must be Adam's, and each of them a row.
    assert [(row["epoch"], row["phase"]) for row in rows] == [(i + 1, "non_convex") for i in range(options.epochs)]
    ends = [row["seconds"] for row in rows]
    return [end - start for start, end in zip(ends, ends[1:])]


def pytorch(options, side, batch_size):
    command = [sys.executable, __file__, "--only", side, "--data-dir", options.data_dir, "--epochs", options.epochs]
    command += ["--batch-size", batch_size, "--limit", options.limit, "--threads", options.threads]
    printed = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(line.split()[0]) for line in printed.splitlines()[1:]]


def compare(options):
    lock = pathlib.Path(__file__).parent.parent.joinpath("Cargo.lock").read_text()
    version = re.search(r'name = "burn"\nversion = "(.*)"', lock)[1]
    about = f"{options.threads} threads, Burn {version}, PyTorch {torch.__version__}, {datetime.date.today()}"
    print(f"vit-nomlp (62986 parameters) on {options.limit} images of cifar10, Adam, {about}", flush=True)
    os.environ.update({f"{name}_NUM_THREADS": str(options.threads) for name in ["OMP", "MKL", "RAYON"]})
    sides = {
        "flex": lambda *run: burn(options, *run),
        "libtorch": lambda *run: burn(options, *run),
        "pytorch": lambda *run: pytorch(options, *run),
        "fused": lambda *run: pytorch(options, *run),
    }
    names = {"pytorch": "PyTorch", "fused": "PyTorch, fused attention"}
    for batch_size in options.batch_size:
        times = {side: [] for side in sides}
        for _ in range(options.rounds):
            for side, measure in sides.items():
                times[side] += measure(side, batch_size)
        best = {side: min(seconds) for side, seconds in times.items()}
        print(f"\nbatches of {batch_size:<12}  s an epoch  of PyTorch  slowest s   load {os.getloadavg()[0]:.1f}")
        for side, seconds in times.items():
            ratio = best[side] / best["pytorch"]
            print(f"{names.get(side, side):<24}  {best[side]:>10.2f}  {ratio:>10.2f}  {max(seconds):>9.2f}")
        flex, libtorch = (best[side] / best["pytorch"] for side in ["flex", "libtorch"])
        print(f"batches of {batch_size}, {about}")
        print(f"speed: flex {flex:.2f}, libtorch {libtorch:.2f} (of PyTorch)", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=pathlib.Path, default="data")
    parser.add_argument("--batch-size", type=int, nargs="+", default=[512, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2, help="turns that every side takes")
    parser.add_argument("--epochs", type=int, default=3, help="of a turn; the first does not count")
    parser.add_argument("--limit", type=int, default=50_000, help="training images")
    parser.add_argument("--program", type=pathlib.Path, default="target/release/examples/vit")
    parser.add_argument("--only", choices=["pytorch", "fused"], help="one PyTorch side, for the first batch size")
    options = parser.parse_args()
    if options.epochs < 2:
        parser.error("--epochs must be at least 2")
    train(options) if options.only else compare(options)


main()
