//! Vectors over the whole model. The tensors of one device and element type lie side by side in one row, so that what is done
//! to a vector is one launch for all of them.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// A tensor's place in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub slot: usize,
    pub columns: usize,
}

/// A vector as the tensors bring it, by slot, one row each.
pub(super) type Pieces = Vec<(usize, Tensor<2>)>;

/// The part of a vector that lies on one device and is of one element type.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// In the order of their slots.
    pub seats: Vec<Seat>,
    /// `[1, n]`.
    pub values: Tensor<2>,
}

impl Row {
    pub fn pieces(&self) -> Pieces {
        let slots = self.seats.iter().map(|seat| seat.slot);
        slots.zip(cut(&self.values, &self.seats)).collect()
    }
}

/// The pieces of a row by its seats.
fn cut<'a>(values: &'a Tensor<2>, seats: &'a [Seat]) -> impl Iterator<Item = Tensor<2>> + 'a {
    let starts = seats.iter().scan(0, |end, seat| {
        *end += seat.columns;
        Some(*end - seat.columns)
    });
    seats.iter().zip(starts).map(|(seat, start)| values.clone().narrow(1, start, seat.columns))
}

/// A tensor's piece of a row, where it has a seat there.
pub(super) fn piece(values: &Tensor<2>, seats: &[Seat], slot: usize) -> Option<Tensor<2>> {
    let at = seats.binary_search_by_key(&slot, |seat| seat.slot).ok()?;
    let start = seats[..at].iter().map(|seat| seat.columns).sum();
    Some(values.clone().narrow(1, start, seats[at].columns))
}

/// A vector over the whole model, a row for each device and element type.
#[derive(Clone, Debug, Default)]
pub(super) struct Vector(pub Vec<Row>);

impl Vector {
    /// Put pieces side by side.
    pub fn join(mut pieces: Pieces) -> Self {
        pieces.sort_by_key(|(slot, _)| *slot);
        let mut groups: Vec<Pieces> = Vec::new();
        for (slot, piece) in pieces {
            let fits = |group: &&mut Pieces| {
                let (_, first) = &group[0];
                first.dtype() == piece.dtype() && first.device() == piece.device()
            };
            match groups.iter_mut().find(fits) {
                Some(group) => group.push((slot, piece)),
                None => groups.push(vec![(slot, piece)]),
            }
        }
        let row = |group: Pieces| {
            let seats = group.iter().map(|(slot, piece)| Seat { slot: *slot, columns: piece.dims()[1] }).collect();
            Row { seats, values: Tensor::cat(group.into_iter().map(|(_, piece)| piece).collect(), 1) }
        };
        Self(groups.into_iter().map(row).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A tensor's piece.
    pub fn piece(&self, slot: usize) -> Option<Tensor<2>> {
        self.0.iter().find_map(|row| piece(&row.values, &row.seats, slot))
    }

    /// The same vector in a row with these seats, on the device of `like`; `None` where a tensor has no piece.
    pub fn seated(&self, seats: &[Seat], like: &Tensor<2>) -> Option<Tensor<2>> {
        let device = like.device();
        match self.0.iter().find(|row| row.seats == seats) {
            Some(row) => Some(row.values.clone().to_device(&device)),
            None => {
                let pieces = seats.iter().map(|seat| Some(self.piece(seat.slot)?.to_device(&device)));
                Some(Tensor::cat(pieces.collect::<Option<_>>()?, 1))
            }
        }
    }

    pub fn map(self, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self(self.0.into_iter().map(|row| Row { values: f(row.values), ..row }).collect())
    }

    /// This vector and another: `f` of both where a tensor has a piece of both, else the one there is.
    pub fn merge(self, other: Self, f: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>) -> Self {
        let alike = self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|(ours, theirs)| ours.seats == theirs.seats && ours.values.device() == theirs.values.device());
        if alike {
            let rows = self.0.into_iter().zip(other.0);
            return Self(rows.map(|(row, other)| Row { values: f(row.values, other.values), ..row }).collect());
        }
        let mut pieces: Pieces = self.0.iter().flat_map(Row::pieces).collect();
        for (slot, theirs) in other.0.iter().flat_map(Row::pieces) {
            match pieces.iter_mut().find(|(ours, _)| *ours == slot) {
                Some((_, piece)) => *piece = f(piece.clone().to_device(&theirs.device()), theirs),
                None => pieces.push((slot, theirs)),
            }
        }
        Self::join(pieces)
    }
}
