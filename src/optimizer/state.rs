//! What one tensor keeps: its place in the room, the inner optimizer's state, and the convex phase's few vectors.

use std::sync::{Arc, Mutex, PoisonError};

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::inner::{Inner, InnerNames, InnerState, SavedInner};
use super::room::{Room, SharedMove, Ticket};
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
            log::error!("{}", self.0.room().interruption(&self.1));
        }
    }
}

/// Where a state comes from.
#[derive(Clone)]
pub(super) enum Origin {
    /// Made or adopted by this optimizer.
    Live(Arc<Shared>),
    /// Read from a record and not yet seen by the optimizer; one tensor carries the room.
    Record(Result<Option<Vec<u8>>, Refusal>),
}

/// The state [`ConvexitySwitching`](crate::ConvexitySwitching) keeps for one tensor of rank `D`, in Burn's optimizer
/// record.
#[derive(Clone)]
pub struct SwitchingState<const D: usize> {
    pub(super) origin: Origin,
    pub(super) ticket: Ticket,
    pub(super) inner: Option<InnerState>,
    /// Weighted sum of the gradients of the window or evaluation, as one row; the objective's gradient once it ended.
    pub(super) sum: Option<Tensor<2>>,
    /// Running average of the inner optimizer's iterates, where the convex phase may start there.
    pub(super) average: Option<Tensor<D>>,
    pub(super) vectors: Option<Vectors<D>>,
}

/// The vectors of the convex phase; rows are in the metric's coordinates.
#[derive(Clone)]
pub(super) struct Vectors<const D: usize> {
    /// The accepted point.
    pub base: Tensor<D>,
    /// The gradient there, `[1, n]`.
    gradient: Option<Tensor<2>>,
    /// The search direction, `[1, n]`.
    direction: Option<Tensor<2>>,
    /// Steps and gradient changes by slot, `[m, n]` each.
    pairs: Option<[Tensor<2>; 2]>,
    /// The square root of the metric, `[1, n]`, once it was wanted: the inner optimizer's state stands still beside these
    /// vectors. In no record, since it follows from that state.
    root_metric: Option<Tensor<2>>,
}

impl<const D: usize> SwitchingState<D> {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { origin: Origin::Live(shared), ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            origin: Origin::Record(Ok(None)),
            ticket: Ticket::default(),
            inner: None,
            sum: None,
            average: None,
            vectors: None,
        }
    }

    /// Take an iterate into the running average, `decay * average + (1 - decay) * iterate`.
    pub(super) fn take_average(&mut self, iterate: &Tensor<D>, decay: f64) {
        self.average = Some(match self.average.take() {
            Some(average) if decay > 0.0 => average.mul_scalar(decay) + iterate.clone().mul_scalar(1.0 - decay),
            _ => iterate.clone(),
        });
    }

    /// The square root of the metric where the inner optimizer leaves a diagonal, as one row.
    pub(super) fn root_metric(&mut self, inner: &Inner) -> Option<Tensor<2>> {
        let root = &mut self.vectors.as_mut()?.root_metric;
        if root.is_none() {
            *root = inner.root_metric::<D>(self.inner.as_ref()?);
        }
        root.clone()
    }

    /// Add a share of a gradient to the sum; at the end divide by the total.
    pub(super) fn add(&mut self, grad: Tensor<2>, share: f64, close: Option<f64>) {
        let grad = if share == 1.0 { grad } else { grad.mul_scalar(share) };
        let sum = match self.sum.take() {
            Some(sum) => sum + grad,
            None => grad,
        };
        self.sum = Some(match close {
            Some(total) if total != 1.0 => sum.div_scalar(total),
            _ => sum,
        });
    }
}

/// Inner products of the rows of two matrices, as one vector.
fn products(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<1> {
    let [rows, _] = a.dims();
    let [columns, _] = b.dims();
    a.clone().matmul(b.clone().transpose()).reshape([rows * columns])
}

/// The squared norm of one row.
pub(super) fn squared_norm(row: &Tensor<2>) -> Tensor<1> {
    products(row, row)
}

impl<const D: usize> Vectors<D> {
    pub fn at(base: Tensor<D>) -> Self {
        Self { base, gradient: None, direction: None, pairs: None, root_metric: None }
    }

    /// This tensor's contribution at the end of an evaluation whose gradient is `g`: `[gg]` before the first direction,
    /// then `g, y, d` against themselves and the stored rows against `g, y, d`.
    pub fn products(&self, g: &Tensor<2>) -> Tensor<1> {
        let (Some(gradient), Some(direction)) = (&self.gradient, &self.direction) else {
            return squared_norm(g);
        };
        let y = g.clone() - gradient.clone();
        let vectors = Tensor::cat(vec![g.clone(), y, direction.clone()], 0);
        let own = products(&vectors, &vectors);
        match &self.pairs {
            Some([s, y]) => Tensor::cat(vec![own, products(s, &vectors), products(y, &vectors)], 0),
            None => own,
        }
    }

    /// Carry out a move from the point `x` where `g` is the objective's gradient; the point to go to.
    pub fn apply(
        &mut self,
        x: Tensor<D>,
        g: Option<Tensor<2>>,
        next: &SharedMove,
        root_metric: Option<Tensor<2>>,
        average: Option<Tensor<D>>,
    ) -> Tensor<D> {
        let new = next.commit.and(g);
        if next.to_average {
            // A parameter that no average was taken of stays where it is.
            let way = average.unwrap_or_else(|| x.clone()) - x.clone();
            let way = way.reshape([1, x.shape().num_elements()]);
            self.direction = Some(match &root_metric {
                Some(root) => way / root.clone(),
                None => way,
            });
        }
        if let Some(coefficients) = &next.direction {
            if let (Some(slot), Some(step), Some(new)) = (coefficients.store, next.commit, &new) {
                self.store(slot, step, new, coefficients.rows.len() / 2);
            }
            let gradient = new.as_ref().or(self.gradient.as_ref()).cloned();
            let mut direction = gradient.map(|g| g.mul_scalar(coefficients.gradient));
            if coefficients.direction != 0.0
                && let (Some(d), Some(old)) = (direction.take(), self.direction.take())
            {
                direction = Some(d + old.mul_scalar(coefficients.direction));
            }
            if let Some([s, y]) = &self.pairs
                && let Some([c_s, c_y]) = next.rows(s)
            {
                direction = direction.map(|d| d + c_s.matmul(s.clone()) + c_y.matmul(y.clone()));
            }
            self.direction = direction;
        }
        if next.commit.is_some() {
            self.base = x;
            self.gradient = new;
        }
        match (&self.direction, next.step) {
            (Some(direction), step) if step != 0.0 => {
                let along = direction.clone().mul_scalar(step);
                let along = match root_metric {
                    Some(root) => along * root,
                    None => along,
                };
                self.base.clone() + along.reshape(self.base.shape())
            }
            _ => self.base.clone(),
        }
    }

    /// Keep the pair of the accepted step in a slot, with room for at least `room` pairs.
    fn store(&mut self, slot: usize, step: f64, new: &Tensor<2>, room: usize) {
        let (Some(direction), Some(gradient)) = (&self.direction, &self.gradient) else {
            return;
        };
        let [_, n] = new.dims();
        let s = direction.clone().mul_scalar(step);
        let y = new.clone() - gradient.clone();
        let [old_s, old_y] = match self.pairs.take() {
            Some(pairs) => pairs.map(Some),
            None => [None, None],
        };
        let put = |rows: Option<Tensor<2>>, row: Tensor<2>| {
            let held = rows.as_ref().map_or(0, |rows| rows.dims()[0]);
            let more = (held < room).then(|| Tensor::zeros([room - held, n], (&row.device(), row.dtype())));
            // Where there is room already the row is written in place: a copy would be one of all pairs.
            let rows = match (rows, more) {
                (Some(rows), None) => rows,
                (rows, more) => Tensor::cat(rows.into_iter().chain(more).collect(), 0),
            };
            rows.slice_assign([slot..slot + 1, 0..n], row)
        };
        self.pairs = Some([put(old_s, s), put(old_y, y)]);
    }

    fn map(self, f: impl Fn(Tensor<2>) -> Tensor<2>, base: impl Fn(Tensor<D>) -> Tensor<D>) -> Self {
        Self {
            base: base(self.base),
            gradient: self.gradient.map(&f),
            direction: self.direction.map(&f),
            pairs: self.pairs.map(|pairs| pairs.map(&f)),
            root_metric: self.root_metric.map(&f),
        }
    }
}

impl<const D: usize> SwitchingState<D> {
    pub(super) fn on_device(self, device: &Device) -> Self {
        let inner = match &self.origin {
            Origin::Live(shared) => self.inner.map(|inner| shared.inner.to_device(inner, device)),
            Origin::Record(_) => self.inner,
        };
        Self {
            inner,
            sum: self.sum.map(|sum| sum.to_device(device)),
            average: self.average.map(|average| average.to_device(device)),
            vectors: self.vectors.map(|v| v.map(|row| row.to_device(device), |base| base.to_device(device))),
            ..self
        }
    }
}

/// The part of a record that is the same for every tensor of a state.
#[derive(Serialize, Deserialize)]
struct Header {
    ticket: Ticket,
    inner: Option<InnerNames>,
    room: Option<Vec<u8>>,
    /// Checksum of all the rest that is saved for the parameter. Records of before there was one have none.
    #[serde(default)]
    check: Option<u64>,
}

const HEADER: &str = "switching";

/// Everything else that is saved for a parameter, as it lies in the record.
#[derive(Default)]
struct Saved {
    inner: SavedInner,
    vectors: Vec<(&'static str, TensorData)>,
}

/// The vectors, by their names in the record.
const VECTORS: [&str; 7] = ["average", "sum", "gradient", "direction", "steps", "changes", "base"];

impl Saved {
    fn take<const D: usize>(&mut self, name: &str, device: &Device) -> Option<Tensor<D>> {
        let at = self.vectors.iter().position(|(field, _)| *field == name)?;
        let (_, data) = self.vectors.swap_remove(at);
        let dtype = data.dtype();
        Some(Tensor::from_data(data, (device, dtype)))
    }

    /// A checksum over the rank, the header without its own checksum, and this.
    fn check<const D: usize>(&self, header: &Header) -> u64 {
        let mut check = Checksum::default();
        let mut bytes = Vec::new();
        // Cannot fail: a vector takes what is written.
        let _ = ciborium::into_writer(&(D, &header.ticket, &header.inner, &header.room), &mut bytes);
        check.take(&bytes);
        let inner = self.inner.tensors.iter().map(|(name, data)| (name.as_str(), data));
        for (name, data) in inner.chain(self.vectors.iter().map(|(name, data)| (*name, data))) {
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

impl<const D: usize> SwitchingState<D> {
    /// The vectors there are, in the order of [`VECTORS`].
    fn saved_vectors(&self) -> Vec<(&'static str, TensorData)> {
        let vectors = self.vectors.as_ref();
        let pairs = vectors.and_then(|vectors| vectors.pairs.as_ref());
        let row = |row: Option<&Tensor<2>>| row.map(Tensor::to_data);
        let all = [
            self.average.as_ref().map(Tensor::to_data),
            row(self.sum.as_ref()),
            row(vectors.and_then(|vectors| vectors.gradient.as_ref())),
            row(vectors.and_then(|vectors| vectors.direction.as_ref())),
            row(pairs.map(|[s, _]| s)),
            row(pairs.map(|[_, y]| y)),
            vectors.map(|vectors| vectors.base.to_data()),
        ];
        VECTORS.into_iter().zip(all).filter_map(|(name, data)| Some((name, data?))).collect()
    }
}

impl<const D: usize> RecordState for SwitchingState<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        let (inner, ticket, room) = match (&self.origin, &self.inner) {
            (Origin::Live(shared), inner) => {
                let inner = inner.as_ref().map(|inner| shared.inner.saved(inner));
                let (ticket, carries) = shared.room().saved_ticket(self.ticket);
                (inner, ticket, carries.then(|| shared.room().save()))
            }
            // Read from a record and never stepped, as a layer that is frozen for now: as it was read, but for the room,
            // which another carries by now.
            (Origin::Record(Ok(_)), Some(InnerState::Saved(inner))) => (Some(inner.clone()), self.ticket, None),
            (Origin::Record(Ok(_)), _) => (None, self.ticket, None),
            (Origin::Record(Err(refusal)), _) => {
                return log::warn!("an optimizer record that was not read is not saved again: {refusal}");
            }
        };
        let mut header = Header {
            ticket,
            inner: inner.as_ref().map(|inner| InnerNames {
                tensors: inner.tensors.iter().map(|(name, _)| name.clone()).collect(),
                scalars: inner.scalars.iter().map(|(name, _)| name.clone()).collect(),
            }),
            room: match room {
                Some(Ok(room)) => Some(room),
                Some(Err(reason)) => {
                    log::error!("the optimizer's decisions could not be saved: {reason}");
                    None
                }
                None => None,
            },
            check: None,
        };
        let saved = Saved { inner: inner.unwrap_or_default(), vectors: self.saved_vectors() };
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
        for (name, data) in saved.vectors {
            out.push_tensor(prefix, name, data);
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let refused = |reason: String| Self {
            origin: Origin::Record(Err(Refusal::RecordUnreadable { reason })),
            ..Self::empty()
        };
        let Some(bytes) = src.take_tensor(prefix, HEADER) else {
            return Some(refused(format!("parameter {prefix} has no state of this optimizer")));
        };
        let header: Header = match ciborium::from_reader(bytes.as_bytes()) {
            Ok(header) => header,
            Err(error) => return Some(refused(error.to_string())),
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
        let vectors = VECTORS.into_iter().filter_map(|name| Some((name, src.take_tensor(prefix, name)?))).collect();
        let mut saved = Saved { inner: SavedInner { tensors, scalars }, vectors };
        if header.check.is_some_and(|check| check != saved.check::<D>(&header)) {
            // A record of another layout is sure to differ, and is refused as such.
            let layout = header.room.as_deref().and_then(|room| Room::open(room).err());
            let changed = format!("the state of parameter {prefix} is not what was saved");
            let refusal = layout.unwrap_or(Refusal::RecordUnreadable { reason: changed });
            return Some(Self { origin: Origin::Record(Err(refusal)), ..Self::empty() });
        }
        let inner = std::mem::take(&mut saved.inner);
        let empty = inner.tensors.is_empty() && inner.scalars.is_empty();
        let mut row = |name: &str| saved.take::<2>(name, device);
        let (sum, gradient, direction) = (row("sum"), row("gradient"), row("direction"));
        let pairs = row("steps").zip(row("changes")).map(|(s, y)| [s, y]);
        let average = saved.take("average", device);
        let vectors = saved.take("base", device);
        let vectors = vectors.map(|base| Vectors { gradient, direction, pairs, ..Vectors::at(base) });
        Some(Self {
            origin: Origin::Record(Ok(header.room)),
            ticket: header.ticket,
            inner: (!empty).then_some(InnerState::Saved(inner)),
            sum,
            average,
            vectors,
        })
    }
}
