//! Data sets in memory and the loader that serves them.

mod cifar;
mod digits;
mod idx;
mod images;
mod loader;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use flate2::read::GzDecoder;

use super::models::{UnknownName, by_name};
use images::Bytes;
pub use images::{Images, Split};
pub use loader::{DeviceImages, EpochLoader, ImageBatch, permutation};

/// The data sets by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSet {
    Digits,
    Mnist,
    FashionMnist,
    Cifar10,
    Cifar100,
}

/// Why a data set or a loader cannot be made. Offsets count the bytes of the uncompressed file.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum DataError {
    #[error("the data set is empty: at least one image is needed")]
    Empty,
    #[error("a batch size of 0 never ends an epoch: choose 1 to {items}")]
    ZeroBatch { items: usize },
    #[error("a batch of {batch_size} is larger than the data ({items} images): choose 1 to {items}")]
    BatchTooLarge { batch_size: usize, items: usize },
    #[error("a limit of {limit} is none: choose 1 to {items}, the number of training images")]
    Limit { limit: usize, items: usize },
    #[error("{pixels} pixel values do not make {labels} images of {channels} x {side} x {side}")]
    Shape { pixels: usize, labels: usize, channels: usize, side: usize },
    #[error("image {image} has the label {label}, but the {classes} classes are numbered from 0")]
    Label { image: usize, label: usize, classes: usize },
    #[error(
        "{dataset} has no file {file}: looked for it in {}; `examples/data/fetch.sh {dataset} {}` brings it",
        .looked.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", "),
        .data_dir.display()
    )]
    Missing { dataset: DataSet, file: &'static str, looked: Vec<PathBuf>, data_dir: PathBuf },
    #[error("cannot read {}: {reason}", .path.display())]
    Unreadable { path: PathBuf, reason: String },
    #[error("{}, byte {offset}: {problem}", .path.display())]
    Corrupt { path: PathBuf, offset: usize, problem: String },
}

impl DataSet {
    pub const ALL: [(&'static str, Self); 5] = [
        ("digits", Self::Digits),
        ("mnist", Self::Mnist),
        ("fashion-mnist", Self::FashionMnist),
        ("cifar10", Self::Cifar10),
        ("cifar100", Self::Cifar100),
    ];

    /// Mean and deviation of each channel over the training images, before any resampling, on the
    /// scale 0 to 1.
    pub fn statistics(self) -> (&'static [f32], &'static [f32]) {
        match self {
            Self::Digits => (&[0.305_11], &[0.376_02]),
            Self::Mnist => (&[0.1307], &[0.3081]),
            Self::FashionMnist => (&[0.2860], &[0.3530]),
            Self::Cifar10 => (&[0.4914, 0.4822, 0.4465], &[0.2470, 0.2435, 0.2616]),
            Self::Cifar100 => (&[0.5071, 0.4865, 0.4409], &[0.2673, 0.2564, 0.2762]),
        }
    }

    /// The folders that may hold the files, under the one that the user names: the set's own, the
    /// one its authors' archive unpacks to, the user's itself.
    fn folders(self, data_dir: &Path) -> Vec<PathBuf> {
        let unpacked = match self {
            Self::Cifar10 => Some("cifar-10-batches-bin"),
            Self::Cifar100 => Some("cifar-100-binary"),
            _ => None,
        };
        let named = [Some(self.to_string()), unpacked.map(String::from)];
        let named = named.into_iter().flatten().map(|name| data_dir.join(name));
        named.chain([data_dir.into()]).collect()
    }

    /// Path and contents of one of the set's files, unpacked where it is compressed by gzip.
    fn read(self, data_dir: &Path, file: &'static str) -> Result<(PathBuf, Vec<u8>), DataError> {
        let looked = self.folders(data_dir);
        let candidates = looked.iter().flat_map(|folder| [folder.join(file), folder.join(format!("{file}.gz"))]);
        let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
            return Err(DataError::Missing { dataset: self, file, looked, data_dir: data_dir.into() });
        };
        let unreadable =
            |error: std::io::Error| DataError::Unreadable { path: path.clone(), reason: error.to_string() };
        let mut bytes = vec![];
        let mut source = File::open(&path).map_err(unreadable)?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            if let Err(error) = GzDecoder::new(source).read_to_end(&mut bytes) {
                let problem = format!("the compressed file is truncated or damaged from here on ({error})");
                return Err(DataError::Corrupt { path, offset: bytes.len(), problem });
            }
        } else {
            source.read_to_end(&mut bytes).map_err(unreadable)?;
        }
        Ok((path, bytes))
    }
}

impl FromStr for DataSet {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name("data set", &Self::ALL, name)
    }
}

impl fmt::Display for DataSet {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(_, set)| set == self).map_or("", |(name, _)| name))
    }
}

/// A data set, normalised by its [`statistics`](DataSet::statistics). The files of all but the
/// embedded digits are looked for in `data_dir`; `data/fetch.sh` brings them. What the authors call
/// the test part is the validation set, as in the published experiments.
///
/// The digits are resampled to `digits_side`, MNIST and Fashion-MNIST to the 32 x 32 of the published
/// experiments (which smooths them to 0.94 of their deviation); CIFAR has that size.
///
/// `limit` takes that many of the training images, the first ones of a permutation that is the same
/// for every run, so that runs of different seeds train on the same images. The validation set stays
/// whole.
///
/// # Errors
/// [`DataError`] where a file is missing, unreadable, truncated, corrupt or another set's, or where
/// there are fewer training images than the limit.
// Burn's own `MnistDataset` and `CifarDataset` panic on such a file and want a network.
pub fn load(dataset: DataSet, digits_side: usize, data_dir: &Path, limit: Option<usize>) -> Result<Split, DataError> {
    const LIMIT_SEED: u64 = 2;
    let (mut train, valid) = match dataset {
        DataSet::Digits => digits::read(),
        DataSet::Mnist | DataSet::FashionMnist => idx::read(dataset, data_dir)?,
        DataSet::Cifar10 | DataSet::Cifar100 => cifar::read(dataset, data_dir)?,
    };
    if let Some(limit) = limit {
        let items = train.labels.len();
        if limit == 0 || limit > items {
            return Err(DataError::Limit { limit, items });
        }
        train = train.subset(&permutation(items, LIMIT_SEED, 0)[..limit]);
    }
    let side = if dataset == DataSet::Digits { digits_side } else { 32 };
    let (mean, deviation) = dataset.statistics();
    let prepared =
        |bytes: Bytes| -> Result<Images, DataError> { Ok(bytes.images()?.resized(side).normalised(mean, deviation)) };
    Ok(Split { train: prepared(train)?, valid: prepared(valid)? })
}

/// The embedded digits, resampled to `side`.
pub fn digits(side: usize) -> Split {
    load(DataSet::Digits, side, Path::new(""), None).expect("the embedded digits are well formed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tempfile::TempDir;

    const MNIST: [&str; 4] =
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

    /// An IDX file: two zeros, the type (8: unsigned byte), the rank, the dimensions, the bytes.
    fn idx(dimensions: &[u32], bytes: &[u8]) -> Vec<u8> {
        let header = [0, 0, 8, dimensions.len() as u8];
        let dimensions = dimensions.iter().flat_map(|dimension| dimension.to_be_bytes());
        header.into_iter().chain(dimensions).chain(bytes.iter().copied()).collect()
    }

    /// Five training and three validation images, each of one brightness: ten times its label.
    fn mnist() -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (names, labels) in [(&MNIST[..2], [3, 1, 4, 1, 5].as_slice()), (&MNIST[2..], &[9, 2, 6])] {
            let pixels: Vec<u8> = labels.iter().flat_map(|label| [label * 10; 784]).collect();
            put(&folder, "mnist", names[0], &idx(&[labels.len() as u32, 28, 28], &pixels));
            put(&folder, "mnist", names[1], &idx(&[labels.len() as u32], labels));
        }
        folder
    }

    /// CIFAR records of `labels`, of an image whose planes are 10, 20 and 30.
    fn cifar(labels: &[&[u8]]) -> Vec<u8> {
        let planes = [[10; 1024], [20; 1024], [30; 1024]].concat();
        labels.iter().flat_map(|labels| [labels, &planes[..]].concat()).collect()
    }

    fn put(folder: &TempDir, under: &str, file: &str, bytes: &[u8]) {
        let folder = folder.path().join(under);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(file), bytes).unwrap();
    }

    fn loaded(dataset: DataSet, folder: &TempDir) -> Result<Split, DataError> {
        load(dataset, 32, folder.path(), None)
    }

    /// The file and the offset that an error names, and its problem.
    fn corrupt(dataset: DataSet, folder: &TempDir) -> (String, usize, String) {
        match loaded(dataset, folder).unwrap_err() {
            DataError::Corrupt { path, offset, problem } => {
                (path.file_name().unwrap().to_string_lossy().into_owned(), offset, problem)
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_digits_are_split_normalised_and_complete() {
        let Split { train, valid } = digits(8);
        assert_eq!((train.len(), valid.len()), (1437, 360));
        // load_digits() has 178 182 177 183 181 182 181 179 174 180 of the ten classes.
        let mut counts = [0; 10];
        train.labels.iter().chain(&valid.labels).for_each(|&label| counts[usize::from(label)] += 1);
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);

        let mean = |power| {
            let sum: f64 = train.pixels.iter().map(|&pixel| f64::from(pixel).powi(power)).sum();
            sum / train.pixels.len() as f64
        };
        assert!(mean(1).abs() < 1e-4, "{}", mean(1));
        assert!((mean(2) - 1.0).abs() < 1e-4, "{}", mean(2));
        assert_eq!(digits(32).valid.pixels.len(), 360 * 32 * 32);
    }

    #[test]
    fn mnist_is_read_plain_and_compressed_resampled_and_normalised() {
        let folder = mnist();
        let plain = loaded(DataSet::Mnist, &folder).unwrap();
        assert_eq!(plain.train.labels, [3, 1, 4, 1, 5]);
        assert_eq!(plain.valid.labels, [9, 2, 6]);
        assert_eq!((plain.train.channels, plain.train.side, plain.train.classes), (1, 32, 10));
        assert!(
            plain.train.pixels[..1024].iter().all(|&pixel| (pixel - (30.0 / 255.0 - 0.1307) / 0.3081).abs() < 1e-6)
        );

        for file in MNIST {
            let path = folder.path().join("mnist").join(file);
            let mut gz = GzEncoder::new(vec![], Compression::fast());
            gz.write_all(&fs::read(&path).unwrap()).unwrap();
            put(&folder, "mnist", &format!("{file}.gz"), &gz.finish().unwrap());
            fs::remove_file(path).unwrap();
        }
        let compressed = loaded(DataSet::Mnist, &folder).unwrap();
        assert_eq!(compressed.train.pixels, plain.train.pixels);

        let path = folder.path().join("mnist").join("train-images-idx3-ubyte.gz");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 9]).unwrap();
        let (file, _, problem) = corrupt(DataSet::Mnist, &folder);
        assert_eq!(file, "train-images-idx3-ubyte.gz");
        assert!(problem.contains("truncated"), "{problem}");
    }

    #[test]
    fn cifar_is_read_from_its_archives_folder_too() {
        let folder = tempfile::tempdir().unwrap();
        let under = "cifar-10-batches-bin";
        for batch in 1..=5 {
            put(&folder, under, &format!("data_batch_{batch}.bin"), &cifar(&[&[batch], &[9 - batch]]));
        }
        put(&folder, under, "test_batch.bin", &cifar(&[&[7]]));
        let split = loaded(DataSet::Cifar10, &folder).unwrap();
        assert_eq!(split.train.labels, [1, 8, 2, 7, 3, 6, 4, 5, 5, 4]);
        assert_eq!((split.valid.labels.as_slice(), split.valid.classes), ([7].as_slice(), 10));
        for (plane, (value, mean, deviation)) in split.valid.pixels.chunks(1024).zip([
            (10.0, 0.4914, 0.2470),
            (20.0, 0.4822, 0.2435),
            (30.0, 0.4465, 0.2616),
        ]) {
            assert!(plane.iter().all(|pixel| (pixel - (value / 255.0 - mean) / deviation).abs() < 1e-6));
        }

        put(&folder, "cifar100", "train.bin", &cifar(&[&[19, 99], &[0, 42]]));
        put(&folder, "cifar100", "test.bin", &cifar(&[&[3, 5]]));
        let split = loaded(DataSet::Cifar100, &folder).unwrap();
        assert_eq!((split.train.labels.as_slice(), split.train.classes), ([99, 42].as_slice(), 100));
    }

    #[test]
    fn a_limit_takes_the_same_images_in_every_run_and_leaves_the_validation_set() {
        let folder = mnist();
        let limited = |limit| load(DataSet::Mnist, 32, folder.path(), Some(limit));
        let three = limited(3).unwrap();
        assert_eq!((three.train.len(), three.valid.len()), (3, 3));
        assert_eq!(three.train.labels, limited(4).unwrap().train.labels[..3]);
        for limit in [0, 6] {
            assert_eq!(limited(limit).err(), Some(DataError::Limit { limit, items: 5 }));
        }
        assert_eq!(load(DataSet::Digits, 8, folder.path(), Some(100)).unwrap().train.len(), 100);
    }

    #[test]
    fn a_missing_file_is_reported_with_where_it_was_looked_for_and_what_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        let message = loaded(DataSet::Cifar10, &folder).unwrap_err().to_string();
        let root = folder.path().display();
        assert_eq!(
            message,
            format!(
                "cifar10 has no file data_batch_1.bin: looked for it in {root}/cifar10, {root}/cifar-10-batches-bin, \
                 {root}; `examples/data/fetch.sh cifar10 {root}` brings it"
            )
        );
    }

    #[test]
    fn truncated_corrupt_and_mislabelled_idx_files_are_named_with_the_offset() {
        let [images, labels, ..] = MNIST;
        let case = |file: &str, bytes: &[u8]| {
            let folder = mnist();
            put(&folder, "mnist", file, bytes);
            let (named, offset, problem) = corrupt(DataSet::Mnist, &folder);
            assert_eq!(named, file, "{problem}");
            (offset, problem)
        };
        let short = idx(&[5, 28, 28], &[0; 3000]);
        assert_eq!(case(images, &short), (3016, "the file ends here, but its header promises 3936 bytes".into()));
        assert_eq!(case(images, &short[..7]), (7, "the file ends within its header".into()));
        let long = idx(&[5, 28, 28], &[0; 3921]);
        assert_eq!(case(images, &long), (3936, "1 bytes more than the header promises".into()));
        let (offset, problem) = case(images, &idx(&[5], &[0; 5]));
        assert!(offset == 0 && problem.contains("file of labels"), "{problem}");
        let (offset, problem) = case(labels, b"<html>not found</html>");
        assert!(offset == 0 && problem.contains("no IDX file"), "{problem}");
        let (offset, problem) = case(images, &idx(&[5, 28, 27], &[0; 3780]));
        assert!(offset == 8 && problem.contains("28 x 27"), "{problem}");
        let (offset, problem) = case(labels, &idx(&[4], &[0; 4]));
        assert!(offset == 4 && problem.contains("4 labels for 5 images"), "{problem}");
        let (offset, problem) = case(labels, &idx(&[5], &[0, 1, 10, 3, 4]));
        assert_eq!((offset, problem.as_str()), (10, "the label 10, but the 10 classes are numbered from 0"));
        // No machine holds what this header promises.
        let (offset, _) = case(images, &idx(&[u32::MAX; 3], &[0; 100]));
        assert_eq!(offset, 116);
    }

    #[test]
    fn truncated_corrupt_and_mislabelled_cifar_files_are_named_with_the_offset() {
        let case = |bytes: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            put(&folder, "cifar100", "train.bin", bytes);
            put(&folder, "cifar100", "test.bin", &cifar(&[&[3, 5]]));
            corrupt(DataSet::Cifar100, &folder)
        };
        let whole = cifar(&[&[1, 2], &[3, 4]]);
        let (file, offset, problem) = case(&whole[..5000]);
        assert_eq!((file.as_str(), offset), ("train.bin", 5000));
        assert!(problem.contains("ends within image 1"), "{problem}");
        let (_, offset, problem) = case(&cifar(&[&[1], &[2], &[3]]));
        assert!(offset == 0 && problem.contains("cifar10"), "{problem}");
        let (_, offset, problem) = case(&cifar(&[&[1, 2], &[3, 100]]));
        assert_eq!((offset, problem.as_str()), (3075, "the label 100, but the 100 classes are numbered from 0"));
        let (_, offset, _) = case(&cifar(&[&[1, 2], &[20, 4]]));
        assert_eq!(offset, 3074);
        let empty = tempfile::tempdir().unwrap();
        put(&empty, "cifar100", "train.bin", &[]);
        put(&empty, "cifar100", "test.bin", &whole);
        assert_eq!(loaded(DataSet::Cifar100, &empty).err(), Some(DataError::Empty));
    }

    #[test]
    fn names_are_read_back_and_unknown_ones_answered_with_the_nearest() {
        for (name, dataset) in DataSet::ALL {
            assert_eq!(name.parse(), Ok(dataset));
            assert_eq!(dataset.to_string(), name);
        }
        let message = "cifar-10".parse::<DataSet>().unwrap_err().to_string();
        assert!(message.starts_with("there is no data set \"cifar-10\": did you mean \"cifar10\"?"), "{message}");
    }

    /// Where the published files are at hand: `DATA_DIR=data cargo test --example vit -- --ignored`.
    #[test]
    #[ignore = "needs the published files, see data/fetch.sh"]
    fn the_published_sets_have_the_means_and_deviations_that_are_stated() {
        let folder = std::env::var("DATA_DIR").expect("DATA_DIR names the folder with the data sets");
        let folder = Path::new(&folder);
        for (_, dataset) in DataSet::ALL {
            let (train, valid) = match dataset {
                DataSet::Digits => digits::read(),
                DataSet::Mnist | DataSet::FashionMnist => idx::read(dataset, folder).unwrap(),
                DataSet::Cifar10 | DataSet::Cifar100 => cifar::read(dataset, folder).unwrap(),
            };
            println!("{dataset}: {} + {} images", train.labels.len(), valid.labels.len());
            let (means, deviations) = dataset.statistics();
            let area = train.side * train.side;
            for channel in 0..train.channels {
                let planes = || train.pixels.chunks(area).skip(channel).step_by(train.channels).flatten();
                let pixels = || planes().map(|&pixel| f64::from(pixel) / f64::from(train.white));
                let count = (train.labels.len() * area) as f64;
                let mean = pixels().sum::<f64>() / count;
                let deviation = (pixels().map(|pixel| (pixel - mean).powi(2)).sum::<f64>() / count).sqrt();
                let stated = (f64::from(means[channel]), f64::from(deviations[channel]));
                assert!((mean - stated.0).abs() < 1e-4, "{dataset}: mean {mean}, stated {}", stated.0);
                assert!((deviation - stated.1).abs() < 1e-4, "{dataset}: deviation {deviation}, stated {}", stated.1);
            }
        }
    }
}
