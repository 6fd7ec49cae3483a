//! The tracked loader: it tells the optimizer batch sizes, ends of passes and ends of epochs, and stops the Learner with
//! a typed error where the convex phase is refused.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::Device;

use crate::optimizer::ConvexitySwitching;

/// A training loader under [`ConvexitySwitching::track`].
pub struct TrackedLoader<O> {
    loader: Arc<dyn DataLoader<O>>,
    convex: Option<Arc<dyn DataLoader<O>>>,
    switching: ConvexitySwitching,
    /// Samples of the whole training set, of which this loader may be a slice.
    epoch_items: usize,
    /// Iterators of this epoch with batches left, over all slices.
    unfinished: Arc<AtomicUsize>,
}

impl<O> Clone for TrackedLoader<O> {
    fn clone(&self) -> Self {
        Self {
            loader: self.loader.clone(),
            convex: self.convex.clone(),
            switching: self.switching.clone(),
            epoch_items: self.epoch_items,
            unfinished: self.unfinished.clone(),
        }
    }
}

impl<O> Debug for TrackedLoader<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackedLoader").field("epoch_items", &self.epoch_items).finish_non_exhaustive()
    }
}

impl ConvexitySwitching {
    /// Track a training loader: windows and evaluations become epochs, batches are weighted by their size, and a refusal
    /// stops the Learner with its error instead of a log line. The crate has an [example](crate).
    pub fn track<O: Send + 'static>(&self, loader: Arc<dyn DataLoader<O>>) -> Arc<TrackedLoader<O>> {
        self.room().feed.tracked = true;
        Arc::new(TrackedLoader {
            epoch_items: loader.num_items(),
            loader,
            convex: None,
            switching: self.clone(),
            unfinished: Arc::default(),
        })
    }
}

impl<O: Send + 'static> TrackedLoader<O> {
    /// Serve another loader in the convex phase, over the same data in larger batches or over a fixed part of it.
    /// With fewer than four batches, or five without `attach`, the metric `auto` is not made of their gradients.
    pub fn convex(self: Arc<Self>, loader: Arc<dyn DataLoader<O>>) -> Arc<Self> {
        self.switching.room().feed.two_loaders = true;
        Arc::new(Self { convex: Some(loader), ..Self::clone(&self) })
    }

    fn map(&self, f: impl Fn(&Arc<dyn DataLoader<O>>) -> Arc<dyn DataLoader<O>>) -> Arc<dyn DataLoader<O>> {
        Arc::new(Self { loader: f(&self.loader), convex: self.convex.as_ref().map(&f), ..self.clone() })
    }

    fn current(&self) -> &Arc<dyn DataLoader<O>> {
        match &self.convex {
            Some(convex) if self.switching.room().stays_convex() => convex,
            _ => &self.loader,
        }
    }
}

impl<O: Send + 'static> DataLoader<O> for TrackedLoader<O> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<O> + 'a> {
        let restarts = {
            let mut room = self.switching.room();
            // A pass that was left open belongs to the epoch before.
            room.finish_pass();
            room.feed.restarts
        };
        self.unfinished.fetch_add(1, Ordering::Relaxed);
        Box::new(TrackedIterator {
            restarts,
            batches: self.current().iter(),
            ahead: Ahead::Unread,
            shown: Progress::new(0, self.current().num_items(), Some("items".into())),
            counted: 0,
            finished: false,
            loader: self,
        })
    }

    fn num_items(&self) -> usize {
        self.loader.num_items()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<O>> {
        self.map(|loader| loader.to_device(device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<O>> {
        let all = self.loader.num_items().max(1);
        self.map(|loader| {
            let scaled = |index: usize| index * loader.num_items() / all;
            loader.slice(scaled(start), scaled(end))
        })
    }
}

/// A batch and the progress once it is handed out.
type Batch<O> = (Result<O, DatasetError>, Progress);

/// One batch is read ahead, so that the last one is known as such when it is handed out.
enum Ahead<O> {
    Unread,
    Read(Option<Batch<O>>),
}

struct TrackedIterator<'a, O> {
    /// Those of the optimizer when this epoch began.
    restarts: u64,
    batches: Box<dyn DataLoaderIterator<O> + 'a>,
    ahead: Ahead<O>,
    shown: Progress,
    /// Samples handed out, from the epoch's beginning or restart.
    counted: usize,
    finished: bool,
    loader: &'a TrackedLoader<O>,
}

impl<O> TrackedIterator<'_, O> {
    fn read(&mut self) -> Option<Batch<O>> {
        let batch = self.batches.next()?;
        Some((batch, self.batches.progress()))
    }

    fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.loader.unfinished.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl<O: Send + 'static> Iterator for TrackedIterator<'_, O> {
    type Item = Result<O, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        {
            let mut room = self.loader.switching.room();
            room.finish_pass();
            if let Some(refusal) = room.refusal_untold() {
                return Some(Err(DatasetError::new(refusal)));
            }
            if room.feed.restarts != std::mem::replace(&mut self.restarts, room.feed.restarts) {
                drop(room);
                self.batches = self.loader.current().iter();
                self.ahead = Ahead::Unread;
                self.counted = 0;
                if std::mem::take(&mut self.finished) {
                    self.loader.unfinished.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let current = match std::mem::replace(&mut self.ahead, Ahead::Unread) {
            Ahead::Unread => self.read(),
            Ahead::Read(batch) => batch,
        };
        let Some((batch, progress)) = current else {
            self.finish();
            return None;
        };
        let ahead = self.read();
        if ahead.is_none() {
            self.finish();
        }
        self.ahead = Ahead::Read(ahead);
        let size = progress.items_processed.saturating_sub(self.counted);
        self.counted = progress.items_processed;
        // A restarted epoch counts from the beginning again: the Learner's progress bar must not run backwards.
        let items_processed = progress.items_processed.max(self.shown.items_processed);
        self.shown = Progress { items_processed, ..progress };
        let last = self.finished && self.loader.unfinished.load(Ordering::Relaxed) == 0;
        self.loader.switching.room().draw(size, last, self.loader.epoch_items);
        Some(batch)
    }
}

impl<O: Send + 'static> DataLoaderIterator<O> for TrackedIterator<'_, O> {
    fn progress(&self) -> Progress {
        self.shown.clone()
    }
}

impl<O> Drop for TrackedIterator<'_, O> {
    fn drop(&mut self) {
        self.finish();
    }
}
