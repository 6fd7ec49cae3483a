"""Writes digits.bin from the copy of the data set that scikit-learn ships (pip install scikit-learn)."""

import hashlib
import pathlib

from sklearn.datasets import load_digits

digits = load_digits()
records = b"".join(
    bytes([label]) + pixels.astype("uint8").tobytes()
    for label, pixels in zip(digits.target, digits.data)
)
pathlib.Path(__file__).with_name("digits.bin").write_bytes(records)
print(len(records), "bytes, sha256", hashlib.sha256(records).hexdigest())
