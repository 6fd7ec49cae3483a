//! The room's part of the optimizer's record.

use burn::tensor::{Device, TensorData};
use serde_json::Value;

use super::super::whole::{SavedRow, Whole};
use super::{Book, Phase, Room};
use crate::convex::Descent;
use crate::error::Refusal;

/// The layout of the record this version writes and reads. It counts up with the decisions of a search too: one in flight is its list
/// of trials, which another version would take for those of other steps.
pub(super) const LAYOUT: u32 = 10;

/// What one tensor's part of a record carries for all.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    /// The decisions.
    pub book: Vec<u8>,
    /// The vectors.
    pub rows: Vec<(SavedRow, TensorData)>,
}

impl Room {
    /// Everything shared; reads waiting scalars back. A pass that is complete ends here: its last gradients are in no
    /// tensor's own part.
    pub fn save(&mut self) -> Result<Carried, String> {
        match self.book.seen >= self.book.tensors {
            true => self.finish_pass(),
            false => self.take_up(),
        }
        self.book.shows_accepted = self.feed.shows_accepted();
        self.book.detector = self.detector.state();
        self.book.descent = self.descent.as_ref().map_or(Value::Null, Descent::state);
        let mut bytes = Vec::new();
        ciborium::into_writer(&self.book, &mut bytes).map_err(|error| error.to_string())?;
        Ok(Carried { book: bytes, rows: self.whole.save() })
    }

    /// A record's content, where it has the layout of this version.
    pub fn open(bytes: &[u8]) -> Result<ciborium::Value, Refusal> {
        let unreadable = |reason: String| Refusal::RecordUnreadable { reason };
        let value: ciborium::Value = ciborium::from_reader(bytes).map_err(|error| unreadable(error.to_string()))?;
        let layout = value
            .as_map()
            .and_then(|map| map.iter().find(|(key, _)| key.as_text() == Some("layout")))
            .and_then(|(_, layout)| layout.as_integer())
            .and_then(|layout| u32::try_from(layout).ok())
            .ok_or_else(|| unreadable("it names no layout".into()))?;
        match layout {
            LAYOUT => Ok(value),
            found => Err(Refusal::RecordLayout { found, expected: LAYOUT }),
        }
    }

    /// Go on from [`save`](Self::save).
    pub fn load(&mut self, carried: Carried, device: &Device) -> Result<(), Refusal> {
        let value = Self::open(&carried.book)?;
        let unreadable = |reason: String| Refusal::RecordUnreadable { reason };
        let mut book: Book = value.deserialized().map_err(|error| unreadable(error.to_string()))?;
        if let Some(part) = difference(&book.config, &self.parts.config) {
            return Err(Refusal::RecordConfig { part });
        }
        let elsewhere = book.phase == Phase::Convex || book.left.is_some();
        if elsewhere && book.shows_accepted != self.feed.shows_accepted() {
            return Err(Refusal::RecordPoint { attached: book.shows_accepted });
        }
        let whole = Whole::restore(carried.rows, device).map_err(unreadable)?;
        let restored = |error: crate::error::StateError| unreadable(error.to_string());
        self.detector.restore(book.detector.take()).map_err(restored)?;
        self.descent = None;
        if !book.descent.is_null() {
            let mut descent = self.new_descent();
            descent.restore(book.descent.take()).map_err(restored)?;
            self.descent = Some(descent);
        }
        self.feed.orphans = false;
        if self.book.open {
            // Others came by first and opened a pass of an optimizer without a record.
            self.feed.strangers = self.book.seen;
            self.feed.reveal |= self.feed.asked;
        }
        self.records += 1;
        (self.book, self.whole) = (book, whole);
        // The loader could not know the phase when it began this epoch, and serves the batches of the other one.
        let plain = !(self.feed.attached || self.feed.own);
        self.feed.reveal |= plain && self.feed.two_loaders && self.book.phase == Phase::Convex;
        let phase = self.book.phase;
        log::info!("the optimizer goes on from its record in the {phase} phase");
        Ok(())
    }
}

/// The first key under which two configurations differ.
fn difference(saved: &Value, ours: &Value) -> Option<String> {
    let (Value::Object(saved), Value::Object(ours)) = (saved, ours) else {
        return (saved != ours).then(|| "configuration".into());
    };
    let keys = saved.keys().chain(ours.keys());
    keys.into_iter().find(|key| saved.get(*key) != ours.get(*key)).cloned()
}
