//! The loader that serves images: uploaded once, gathered on the device batch by batch, in an order
//! that depends on nothing but (seed, epoch), so that a resumed run sees the batches of an
//! undisturbed one.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::DataError;

/// A permutation of `0..len` that depends on its arguments alone: Fisher-Yates over SplitMix64
/// (Steele, Lea and Flood 2014). It is written out because a random number crate may change its
/// sequences from version to version.
pub fn permutation(len: usize, seed: u64, epoch: usize) -> Vec<usize> {
    const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    let mut state = mix(mix(seed.wrapping_add(GAMMA)).wrapping_add(epoch as u64));
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        state = state.wrapping_add(GAMMA);
        let below = (u128::from(mix(state)) * (i as u128 + 1)) >> 64;
        order.swap(i, below as usize);
    }
    order
}

/// Images on a device. Cloning shares them.
#[derive(Clone, Debug)]
pub struct DeviceImages {
    /// `[images, channels, side, side]`.
    pub pixels: Tensor<4>,
    /// `[images]`.
    pub labels: Tensor<1, Int>,
}

impl DeviceImages {
    pub fn len(&self) -> usize {
        self.labels.dims()[0]
    }

    fn to_device(&self, device: &Device) -> Self {
        // A constant needs no autodiff: beside tracked parameters it counts as one.
        let device = &device.clone().without_autodiff();
        Self { pixels: self.pixels.clone().to_device(device), labels: self.labels.clone().to_device(device) }
    }
}

/// What a model is shown at once.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[batch, channels, side, side]`.
    pub images: Tensor<4>,
    /// `[batch]`.
    pub targets: Tensor<1, Int>,
}

/// Serves [`DeviceImages`] in batches, the last of an epoch possibly short.
///
/// An epoch is over when its last batch has been handed out. An iterator that is dropped earlier
/// leaves the loader in the same epoch: the next one gives the same order again. A clone counts the
/// same epochs.
#[derive(Clone, Debug)]
pub struct EpochLoader {
    images: DeviceImages,
    /// The part of the images that is served.
    items: Range<usize>,
    batch_size: usize,
    /// `None`: in the order of the data.
    seed: Option<u64>,
    /// The epoch that the next iterator serves.
    epoch: Arc<AtomicUsize>,
}

impl EpochLoader {
    /// In an order drawn from (seed, epoch), for training. Epochs count from 1.
    ///
    /// # Errors
    /// [`DataError`] where there is no image, or the batch size is 0 or larger than the data.
    pub fn shuffled(images: &DeviceImages, batch_size: usize, seed: u64) -> Result<Self, DataError> {
        Ok(Self { seed: Some(seed), ..Self::sequential(images, batch_size)? })
    }

    /// In the order of the data, for validation and for evaluations of the whole objective.
    ///
    /// # Errors
    /// As [`shuffled`](Self::shuffled).
    pub fn sequential(images: &DeviceImages, batch_size: usize) -> Result<Self, DataError> {
        match images.len() {
            0 => Err(DataError::Empty),
            items if batch_size == 0 => Err(DataError::ZeroBatch { items }),
            items if batch_size > items => Err(DataError::BatchTooLarge { batch_size, items }),
            items => Ok(Self {
                images: images.clone(),
                items: 0..items,
                batch_size,
                seed: None,
                epoch: Arc::new(AtomicUsize::new(1)),
            }),
        }
    }

    /// The next iterator serves this epoch: `checkpoint + 1` for a resume.
    pub fn with_epoch(mut self, epoch: usize) -> Self {
        self.epoch = Arc::new(AtomicUsize::new(epoch));
        self
    }

    /// The epoch that the next iterator serves.
    pub fn epoch(&self) -> usize {
        self.epoch.load(Ordering::Relaxed)
    }

    /// The same loader for another run, counting its epochs on its own.
    pub fn again(&self) -> Arc<Self> {
        Arc::new(self.fork(self.images.clone(), self.items.clone()))
    }

    /// Another loader over the same data, at the same epoch, counting on its own from there.
    fn fork(&self, images: DeviceImages, items: Range<usize>) -> Self {
        let epoch = Arc::new(AtomicUsize::new(self.epoch()));
        Self { images, items, epoch, ..*self }
    }
}

impl DataLoader<ImageBatch> for EpochLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ImageBatch> + 'a> {
        let epoch = self.epoch();
        let order = self.seed.map(|seed| {
            let order = permutation(self.items.len(), seed, epoch);
            let order: Vec<i32> = order.into_iter().map(|i| (self.items.start + i) as i32).collect();
            Tensor::from_data(TensorData::new(order, [self.items.len()]), &self.images.pixels.device())
        });
        Box::new(EpochIterator { loader: self, epoch, order, served: 0 })
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<ImageBatch>> {
        Arc::new(self.fork(self.images.to_device(device), self.items.clone()))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<ImageBatch>> {
        let at = |i: usize| (self.items.start + i).min(self.items.end);
        Arc::new(self.fork(self.images.clone(), at(start)..at(end)))
    }
}

struct EpochIterator<'a> {
    loader: &'a EpochLoader,
    epoch: usize,
    order: Option<Tensor<1, Int>>,
    served: usize,
}

impl Iterator for EpochIterator<'_> {
    type Item = Result<ImageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let EpochLoader { images: DeviceImages { pixels, labels }, items, batch_size, .. } = self.loader;
        let batch = self.served..items.len().min(self.served + batch_size);
        if batch.is_empty() {
            return None;
        }
        self.served = batch.end;
        let (images, targets) = match &self.order {
            Some(order) => {
                let indices = order.clone().slice(batch);
                (pixels.clone().select(0, indices.clone()), labels.clone().select(0, indices))
            }
            None => {
                let batch = items.start + batch.start..items.start + batch.end;
                (pixels.clone().slice(batch.clone()), labels.clone().slice(batch))
            }
        };
        Some(Ok(ImageBatch { images, targets }))
    }
}

impl Drop for EpochIterator<'_> {
    /// An epoch that was served to its end is over when nobody can ask for it again: one that a resume begins anew in its last
    /// batch is the same.
    fn drop(&mut self) {
        if self.served == self.loader.items.len() {
            self.loader.epoch.fetch_max(self.epoch + 1, Ordering::Relaxed);
        }
    }
}

impl DataLoaderIterator<ImageBatch> for EpochIterator<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.served, self.loader.items.len(), Some("items".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::data::Images;

    /// Ten images of one pixel, whose value is the label.
    fn ten() -> DeviceImages {
        let pixels = (0..10u8).map(f32::from).collect();
        Images::new(pixels, (0..10).collect(), [1, 1, 10]).unwrap().upload(&Device::flex())
    }

    fn labels(batch: ImageBatch) -> Vec<i64> {
        let pixels: Vec<f32> = batch.images.into_data().iter().collect();
        let labels: Vec<i64> = batch.targets.into_data().iter().collect();
        assert_eq!(pixels, labels.iter().map(|&label| label as f32).collect::<Vec<_>>());
        labels
    }

    fn epoch(loader: &dyn DataLoader<ImageBatch>) -> Vec<Vec<i64>> {
        loader.iter().map(|batch| labels(batch.unwrap())).collect()
    }

    #[test]
    fn an_epoch_serves_every_item_once_and_the_next_in_another_order() {
        let loader = EpochLoader::shuffled(&ten(), 4, 7).unwrap();
        let (first, second) = (epoch(&loader), epoch(&loader));
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_ne!(first, second);
        for order in [first, second] {
            let mut items = order.concat();
            items.sort();
            assert_eq!(items, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_epoch_begun_anew_while_its_iterator_is_at_its_end_is_the_same() {
        let loader = EpochLoader::shuffled(&ten(), 4, 7).unwrap();
        let mut read_ahead = loader.iter();
        let first: Vec<_> = read_ahead.by_ref().map(|batch| labels(batch.unwrap())).collect();
        let again = loader.iter();
        drop(read_ahead);
        assert_eq!(again.map(|batch| labels(batch.unwrap())).collect::<Vec<_>>(), first);
        assert_eq!(loader.epoch(), 2);
    }

    #[test]
    fn an_iterator_dropped_half_way_leaves_the_order_of_its_epoch() {
        let loader = EpochLoader::shuffled(&ten(), 4, 7).unwrap();
        let dropped: Vec<_> = loader.iter().take(2).map(|batch| labels(batch.unwrap())).collect();
        assert_eq!(loader.epoch(), 1);
        assert_eq!(epoch(&loader)[..2], dropped);
        assert_eq!(loader.epoch(), 2);
    }

    #[test]
    fn a_loader_resumed_at_an_epoch_repeats_the_undisturbed_one() {
        let undisturbed = EpochLoader::shuffled(&ten(), 4, 7).unwrap();
        let epochs: Vec<_> = (0..3).map(|_| epoch(&undisturbed)).collect();
        let resumed = EpochLoader::shuffled(&ten(), 4, 7).unwrap().with_epoch(3);
        let moved = resumed.to_device(&Device::flex().autodiff());
        assert_eq!(epoch(&resumed), epochs[2]);
        // A copy counts on its own: it is still in the epoch in which it was made.
        assert_eq!(epoch(&*moved), epochs[2]);
        assert_ne!(epoch(&EpochLoader::shuffled(&ten(), 4, 8).unwrap()), epochs[0]);
    }

    #[test]
    fn progress_counts_items_and_is_complete_at_the_last_batch() {
        let loader = EpochLoader::sequential(&ten(), 4).unwrap();
        let mut iterator = loader.iter();
        let mut seen = vec![];
        while iterator.next().is_some() {
            let progress = iterator.progress();
            seen.push((progress.items_processed, progress.items_total, progress.is_completed()));
        }
        assert_eq!(seen, [(4, 10, false), (8, 10, false), (10, 10, true)]);
    }

    #[test]
    fn slices_partition_the_data_and_slices_of_slices_too() {
        let loader = EpochLoader::sequential(&ten(), 4).unwrap();
        assert_eq!(epoch(&loader), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(epoch(&*loader.slice(3, 9)), [vec![3, 4, 5, 6], vec![7, 8]]);
        assert_eq!(epoch(&*loader.slice(3, 9).slice(2, 99)), [vec![5, 6, 7, 8]]);
        assert_eq!(loader.slice(3, 9).num_items(), 6);

        let mut shuffled = epoch(&*EpochLoader::shuffled(&ten(), 4, 7).unwrap().slice(3, 9)).concat();
        shuffled.sort();
        assert_eq!(shuffled, [3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn impossible_batches_are_refused_by_name() {
        let error = |batch_size| EpochLoader::sequential(&ten(), batch_size).err();
        assert_eq!(error(0), Some(DataError::ZeroBatch { items: 10 }));
        assert_eq!(error(11), Some(DataError::BatchTooLarge { batch_size: 11, items: 10 }));
        assert_eq!(error(10), None);
    }
}
