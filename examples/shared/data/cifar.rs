//! CIFAR-10 and CIFAR-100 in their authors' binary batches: a record an image, its label (CIFAR-100:
//! its coarse and its fine label, of which the fine one counts), then the red, the green and the blue
//! plane of 32 x 32.

use std::path::Path;

use super::images::Bytes;
use super::{DataError, DataSet};

const VOLUME: usize = 3 * 32 * 32;

/// The training and the validation part.
pub fn read(dataset: DataSet, data_dir: &Path) -> Result<(Bytes, Bytes), DataError> {
    let part = |files: &[&'static str]| part(dataset, data_dir, files);
    match dataset {
        DataSet::Cifar100 => Ok((part(&["train.bin"])?, part(&["test.bin"])?)),
        _ => {
            let batches =
                ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];
            Ok((part(&batches)?, part(&["test_batch.bin"])?))
        }
    }
}

fn part(dataset: DataSet, data_dir: &Path, files: &[&'static str]) -> Result<Bytes, DataError> {
    // How many classes each label of a record tells apart; the last one is ours.
    let (classes, other): (&[usize], _) = match dataset {
        DataSet::Cifar100 => (&[20, 100], DataSet::Cifar10),
        _ => (&[10], DataSet::Cifar100),
    };
    let labels = classes.len();
    let record = labels + VOLUME;
    let mut part =
        Bytes { pixels: vec![], labels: vec![], channels: 3, side: 32, classes: classes[labels - 1], white: u8::MAX };
    for file in files {
        let (path, bytes) = dataset.read(data_dir, file)?;
        let corrupt = |offset, problem| DataError::Corrupt { path: path.clone(), offset, problem };
        let records = bytes.chunks_exact(record);
        if !records.remainder().is_empty() {
            let (images, of_other) = (records.len(), if labels == 1 { record + 1 } else { record - 1 });
            return Err(if bytes.len().is_multiple_of(of_other) {
                corrupt(0, format!("this is a file of {other}, whose records have {of_other} bytes, not {record}"))
            } else {
                corrupt(bytes.len(), format!("the file ends within image {images} (from 0; {record} bytes each)"))
            });
        }
        for (item, record_bytes) in records.enumerate() {
            let (names, pixels) = record_bytes.split_at(labels);
            if let Some(at) = (0..labels).find(|&at| usize::from(names[at]) >= classes[at]) {
                let problem = format!("the label {}, but the {} classes are numbered from 0", names[at], classes[at]);
                return Err(corrupt(item * record + at, problem));
            }
            part.labels.push(names[labels - 1]);
            part.pixels.extend(pixels);
        }
    }
    Ok(part)
}
