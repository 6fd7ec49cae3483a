//! MNIST and Fashion-MNIST in their authors' IDX files: two zero bytes, the type (8: unsigned byte),
//! the number of dimensions, each dimension as a big-endian u32, then the bytes.

use std::path::{Path, PathBuf};

use super::images::Bytes;
use super::{DataError, DataSet};

const CLASSES: usize = 10;
const SIDE: usize = 28;

/// The training and the validation part.
pub fn read(dataset: DataSet, data_dir: &Path) -> Result<(Bytes, Bytes), DataError> {
    let part = |images, labels| part(dataset, data_dir, images, labels);
    Ok((
        part("train-images-idx3-ubyte", "train-labels-idx1-ubyte")?,
        part("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")?,
    ))
}

fn part(dataset: DataSet, data_dir: &Path, images: &'static str, labels: &'static str) -> Result<Bytes, DataError> {
    let (path, [items, height, width], pixels) = parse(dataset.read(data_dir, images)?)?;
    if (height, width) != (SIDE, SIDE) {
        let problem = format!("images of {height} x {width} pixels, expected {SIDE} x {SIDE}");
        return Err(DataError::Corrupt { path, offset: 8, problem });
    }
    let (path, [named], labels) = parse(dataset.read(data_dir, labels)?)?;
    if named != items {
        let problem = format!("{named} labels for {items} images");
        return Err(DataError::Corrupt { path, offset: 4, problem });
    }
    if let Some(item) = labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        let problem = format!("the label {}, but the {CLASSES} classes are numbered from 0", labels[item]);
        return Err(DataError::Corrupt { path, offset: 8 + item, problem });
    }
    Ok(Bytes { pixels, labels, channels: 1, side: SIDE, classes: CLASSES, white: u8::MAX })
}

/// The dimensions and the bytes after them.
fn parse<const RANK: usize>(
    (path, mut bytes): (PathBuf, Vec<u8>),
) -> Result<(PathBuf, [usize; RANK], Vec<u8>), DataError> {
    let corrupt = |offset, problem: String| Err(DataError::Corrupt { path: path.clone(), offset, problem });
    match bytes[..] {
        [0, 0, 8, rank, ..] if usize::from(rank) == RANK => {}
        [0, 0, 8, 1, ..] => return corrupt(0, "this is a file of labels, images were expected".into()),
        [0, 0, 8, 3, ..] => return corrupt(0, "this is a file of images, labels were expected".into()),
        [_, _, _, _, ..] => return corrupt(0, format!("this is no IDX file: it begins with {:02x?}", &bytes[..4])),
        _ => return corrupt(bytes.len(), "the file ends within its header".into()),
    }
    let header = 4 + 4 * RANK;
    let Some((dimensions, _)) = bytes[4..].split_at_checked(4 * RANK) else {
        return corrupt(bytes.len(), "the file ends within its header".into());
    };
    let mut sizes = [0; RANK];
    for (size, bytes) in sizes.iter_mut().zip(dimensions.chunks_exact(4)) {
        *size = bytes.iter().fold(0, |size, &byte| size << 8 | usize::from(byte));
    }
    let promised = sizes.iter().fold(1, |product: usize, &size| product.saturating_mul(size)).saturating_add(header);
    if bytes.len() < promised {
        return corrupt(bytes.len(), format!("the file ends here, but its header promises {promised} bytes"));
    }
    if bytes.len() > promised {
        return corrupt(promised, format!("{} bytes more than the header promises", bytes.len() - promised));
    }
    bytes.drain(..header);
    Ok((path, sizes, bytes))
}
