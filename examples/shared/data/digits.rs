//! The embedded digits; `data/README.md` says what they are.

use super::images::Bytes;
use super::permutation;

/// The 1,797 digits as 1,437 for training and 360 for validation.
pub fn read() -> (Bytes, Bytes) {
    const TRAIN: usize = 1437;
    const SPLIT_SEED: u64 = 1;
    let records = include_bytes!("../../data/digits.bin").chunks_exact(65);
    let all = Bytes {
        labels: records.clone().map(|record| record[0]).collect(),
        pixels: records.flat_map(|record| &record[1..]).copied().collect(),
        channels: 1,
        side: 8,
        classes: 10,
        white: 16,
    };
    let order = permutation(all.labels.len(), SPLIT_SEED, 0);
    (all.subset(&order[..TRAIN]), all.subset(&order[TRAIN..]))
}
