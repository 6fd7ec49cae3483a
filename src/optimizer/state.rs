//! What one tensor keeps: its place in the room and the inner optimizer's state; and how a record is laid out.

use std::sync::{Arc, Mutex, PoisonError};

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::inner::{Inner, InnerNames, InnerState, SavedInner};
use super::room::{Carried, Room, Ticket};
use super::whole::SavedRow;
use crate::error::Refusal;

/// What all tensors of one optimizer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub inner: Inner,
    room: Mutex<Room>,
}

impl Shared {
    pub fn new(inner: Inner, room: Room) -> Self {
        Self { inner, room: Mutex::new(room) }
    }

    /// The room; a panic of another thread while it was held does not take it down.
    pub fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Work of a model or of the device, which may panic: that is told as it goes through.
pub(crate) enum Work {
    /// Loss and gradient of a batch.
    Evaluation,
    /// The step of one parameter.
    Step,
}

/// Work under way.
pub(crate) struct UnderWay<'a>(pub &'a Shared, pub Work);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let told = self.0.room().interruption(&self.1);
            log::error!("{told}");
        }
    }
}

/// Where a state comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// Made or adopted by this optimizer.
    Live(Arc<Shared>),
    /// Read from a record and not yet seen by the optimizer; one tensor carries what is shared.
    Record(Result<Option<Box<Carried>>, Refusal>),
}

/// The state [`ConvexitySwitching`](crate::ConvexitySwitching) keeps for one tensor of rank `D`, in Burn's optimizer
/// record.
#[derive(Clone)]
pub struct SwitchingState<const D: usize> {
    pub(super) origin: Origin,
    pub(super) ticket: Ticket,
    pub(super) inner: Option<InnerState>,
    /// Where the inner optimizer is, while the model shows an earlier point.
    pub(super) kept: Option<Tensor<D>>,
}

impl<const D: usize> SwitchingState<D> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { origin: Origin::Live(shared), ..Self::empty() }
    }

    fn empty() -> Self {
        Self { origin: Origin::Record(Ok(None)), ticket: Ticket::default(), inner: None, kept: None }
    }
}

impl<const D: usize> SwitchingState<D> {
    pub(super) fn on_device(self, device: &Device) -> Self {
        let inner = match &self.origin {
            Origin::Live(shared) => self.inner.map(|inner| shared.inner.to_device(inner, device)),
            Origin::Record(_) => self.inner,
        };
        Self { inner, kept: self.kept.map(|kept| kept.to_device(device)), ..self }
    }
}

/// The part of a record that is the same for every tensor of a state.
#[derive(Serialize, Deserialize)]
struct Header {
    ticket: Ticket,
    inner: Option<InnerNames>,
    /// The room's decisions.
    room: Option<Vec<u8>>,
    /// What the rows are that lie beside this. Records of before they lay together have none.
    #[serde(default)]
    rows: Vec<SavedRow>,
    /// Checksum of all the rest that is saved for the parameter.
    check: Option<u64>,
}

/// The decisions alone, out of a header of another layout.
#[derive(Deserialize)]
struct Decisions {
    room: Option<Vec<u8>>,
}

const HEADER: &str = "switching";
const KEPT: &str = "kept";

/// The name of a row in the record.
fn row_name(index: usize) -> String {
    format!("row_{index}")
}

/// Everything else that is saved for a parameter, as it lies in the record.
#[derive(Default)]
struct Saved {
    inner: SavedInner,
    kept: Option<TensorData>,
    rows: Vec<TensorData>,
}

impl Saved {
    /// A checksum over the rank, the header without its own checksum, and this.
    fn check<const D: usize>(&self, header: &Header) -> u64 {
        let mut check = Checksum::default();
        let mut bytes = Vec::new();
        // Cannot fail: a vector takes what is written.
        let _ = ciborium::into_writer(&(D, &header.ticket, &header.inner, &header.room, &header.rows), &mut bytes);
        check.take(&bytes);
        let inner = self.inner.tensors.iter().map(|(name, data)| (name.as_str(), data));
        let ours = self.kept.iter().chain(&self.rows).map(|data| ("", data));
        for (name, data) in inner.chain(ours) {
            check.take(format!("{name} {:?} {:?}", data.dtype(), data.shape()).as_bytes());
            check.take(data.as_bytes());
        }
        for (name, value) in &self.inner.scalars {
            check.take(format!("{name} {value:?}").as_bytes());
        }
        check.0
    }
}

/// A sum that the change of any one word changes: every step is invertible in the sum so far.
#[derive(Default)]
struct Checksum(u64);

impl Checksum {
    fn take(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let words = words.iter().chain([&last]).map(|word| u64::from_le_bytes(*word));
        for word in words.chain([bytes.len() as u64]) {
            // The odd constant is 2^64 over the golden ratio.
            self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
    }
}

fn bytes_to_data(bytes: Vec<u8>) -> TensorData {
    let length = bytes.len();
    TensorData::new(bytes, [length])
}

impl<const D: usize> RecordState for SwitchingState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let (inner, ticket, carried) = match (&self.origin, &self.inner) {
            (Origin::Live(shared), inner) => {
                let inner = inner.as_ref().map(|inner| shared.inner.saved(inner));
                let mut room = shared.room();
                let (ticket, carries) = room.saved_ticket(self.ticket);
                (inner, ticket, carries.then(|| room.save()))
            }
            // Read from a record and never stepped, as a layer that is frozen for now: as it was read, but for what is
            // shared, which another carries by now.
            (Origin::Record(Ok(_)), Some(InnerState::Saved(inner))) => (Some(inner.clone()), self.ticket, None),
            (Origin::Record(Ok(_)), _) => (None, self.ticket, None),
            (Origin::Record(Err(refusal)), _) => {
                return log::warn!("an optimizer record that was not read is not saved again: {refusal}");
            }
        };
        let carried = carried.transpose().unwrap_or_else(|reason| {
            log::error!("the optimizer's decisions could not be saved: {reason}");
            None
        });
        let (room, rows) = carried.map_or((None, Vec::new()), |Carried { book, rows }| (Some(book), rows));
        let (names, rows) = rows.into_iter().unzip();
        let mut header = Header {
            ticket,
            inner: inner.as_ref().map(|inner| InnerNames {
                tensors: inner.tensors.iter().map(|(name, _)| name.clone()).collect(),
                scalars: inner.scalars.iter().map(|(name, _)| name.clone()).collect(),
            }),
            room,
            rows: names,
            check: None,
        };
        let kept = self.kept.as_ref().map(Tensor::to_data);
        let saved = Saved { inner: inner.unwrap_or_default(), kept, rows };
        header.check = Some(saved.check::<D>(&header));
        let mut bytes = Vec::new();
        if let Err(error) = ciborium::into_writer(&header, &mut bytes) {
            log::error!("the optimizer's state could not be saved: {error}");
        }
        out.push_tensor(prefix, HEADER, bytes_to_data(bytes));
        let inner = format!("{prefix}.inner");
        for (name, data) in saved.inner.tensors {
            out.push_tensor(&inner, &name, data);
        }
        for (name, value) in saved.inner.scalars {
            out.push_scalar(&inner, &name, value);
        }
        if let Some(kept) = saved.kept {
            out.push_tensor(prefix, KEPT, kept);
        }
        for (index, data) in saved.rows.into_iter().enumerate() {
            out.push_tensor(prefix, &row_name(index), data);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let refused = |refusal: Refusal| Some(Self { origin: Origin::Record(Err(refusal)), ..Self::empty() });
        let unreadable = |reason: String| refused(Refusal::RecordUnreadable { reason });
        let Some(bytes) = src.take_tensor(prefix, HEADER) else {
            return unreadable(format!("parameter {prefix} has no state of this optimizer"));
        };
        let header: Header = match ciborium::from_reader(bytes.as_bytes()) {
            Ok(header) => header,
            Err(error) => {
                let decisions = ciborium::from_reader(bytes.as_bytes()).ok();
                let layout = decisions.and_then(|Decisions { room }| Room::open(&room?).err());
                return refused(layout.unwrap_or(Refusal::RecordUnreadable { reason: error.to_string() }));
            }
        };
        let inner = format!("{prefix}.inner");
        let names = header.inner.clone().unwrap_or_default();
        let tensors: Vec<_> = names
            .tensors
            .into_iter()
            .map_while(|name| src.take_tensor(&inner, &name).map(|data| (name, data)))
            .collect();
        let scalars: Vec<_> = names
            .scalars
            .into_iter()
            .map_while(|name| src.take_scalar(&inner, &name).map(|value| (name, value)))
            .collect();
        let rows = (0..header.rows.len()).map_while(|index| src.take_tensor(prefix, &row_name(index))).collect();
        let saved = Saved { inner: SavedInner { tensors, scalars }, kept: src.take_tensor(prefix, KEPT), rows };
        if header.check != Some(saved.check::<D>(&header)) {
            // A record of another layout may differ in this alone, and is refused as such.
            let layout = header.room.as_deref().and_then(|room| Room::open(room).err());
            let changed = format!("the state of parameter {prefix} is not what was saved");
            return refused(layout.unwrap_or(Refusal::RecordUnreadable { reason: changed }));
        }
        let Saved { inner, kept, rows } = saved;
        let empty = inner.tensors.is_empty() && inner.scalars.is_empty();
        let carried = header.room.map(|book| Carried { book, rows: header.rows.into_iter().zip(rows).collect() });
        Some(Self {
            origin: Origin::Record(Ok(carried.map(Box::new))),
            ticket: header.ticket,
            inner: (!empty).then_some(InnerState::Saved(inner)),
            kept: kept.map(|kept| {
                let dtype = kept.dtype();
                Tensor::from_data(kept, (device, dtype))
            }),
        })
    }
}
