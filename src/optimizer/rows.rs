//! Vectors over the whole model. The tensors of one device and element type lie side by side in one row, so that what is done
//! to a vector is one launch for all of them.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// A tensor's place in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seat {
    pub slot: usize,
    /// The tensor as a matrix.
    pub matrix: [usize; 2],
}

impl Seat {
    /// The elements of the tensor; `None` for more than can be counted.
    pub fn elements(&self) -> Option<usize> {
        self.matrix[0].checked_mul(self.matrix[1])
    }

    /// How much of the row it takes.
    pub fn width(&self) -> usize {
        self.matrix[0] * self.matrix[1]
    }
}

/// A vector as the tensors bring it, by slot, a matrix each.
pub(super) type Pieces = Vec<(usize, Tensor<2>)>;

/// A shape as that of a matrix: the first dimension longer than one by all that follow.
pub(super) fn as_matrix(shape: &[usize]) -> [usize; 2] {
    let long = shape.iter().position(|length| *length != 1).unwrap_or(0);
    let behind: usize = shape.iter().skip(long + 1).product();
    match shape.get(long) {
        Some(rows) if behind > 1 => [*rows, behind],
        rows => [1, rows.map_or(1, |rows| rows * behind)],
    }
}

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
        let widths = self.seats.iter().map(Seat::width).collect();
        let pieces = self.seats.iter().zip(self.values.clone().split_with_sizes(widths, 1));
        pieces.map(|(seat, piece)| (seat.slot, piece.reshape(seat.matrix))).collect()
    }
}

/// A tensor's piece of a row, where it has a seat there.
pub(super) fn piece(values: &Tensor<2>, seats: &[Seat], slot: usize) -> Option<Tensor<2>> {
    let at = seats.binary_search_by_key(&slot, |seat| seat.slot).ok()?;
    let start = seats[..at].iter().map(Seat::width).sum();
    Some(values.clone().narrow(1, start, seats[at].width()).reshape(seats[at].matrix))
}

/// Matrices as one row.
pub(super) fn side_by_side(pieces: impl Iterator<Item = Tensor<2>>) -> Tensor<2> {
    let flat = pieces.map(|piece| {
        let [rows, columns] = piece.dims();
        piece.reshape([1, rows * columns])
    });
    Tensor::cat(flat.collect(), 1)
}

/// A vector over the whole model, a row for each device and element type.
#[derive(Clone, Debug, Default)]
pub(super) struct Vector(pub Vec<Row>);

impl Vector {
    /// Put pieces side by side.
    pub fn join(mut pieces: Pieces) -> Self {
        pieces.sort_by_key(|(slot, _)| *slot);
        // Two optimizers with one room are refused, and until then the first counts.
        pieces.dedup_by_key(|(slot, _)| *slot);
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
            let seats = group.iter().map(|(slot, piece)| Seat { slot: *slot, matrix: piece.dims() }).collect();
            Row { seats, values: side_by_side(group.into_iter().map(|(_, piece)| piece)) }
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

    /// As [`seated`](Self::seated), without the row itself where it is as it is to be: what nobody else holds can be changed in
    /// place.
    pub fn take_seated(&mut self, seats: &[Seat], like: &Tensor<2>) -> Option<Tensor<2>> {
        let alike = self.0.iter().position(|row| row.seats == seats);
        match alike.map(|at| self.0.swap_remove(at)) {
            Some(row) => Some(row.values.to_device(&like.device())),
            None => self.seated(seats, like),
        }
    }

    /// The same vector in a row with these seats, on the device of `like`; `None` where a tensor has no piece.
    pub fn seated(&self, seats: &[Seat], like: &Tensor<2>) -> Option<Tensor<2>> {
        let device = like.device();
        match self.0.iter().find(|row| row.seats == seats) {
            Some(row) => Some(row.values.clone().to_device(&device)),
            None => {
                let pieces = seats.iter().map(|seat| Some(self.piece(seat.slot)?.to_device(&device)));
                Some(side_by_side(pieces.collect::<Option<Vec<_>>>()?.into_iter()))
            }
        }
    }

    pub fn map(self, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Self {
        Self(self.0.into_iter().map(|row| Row { values: f(row.values), ..row }).collect())
    }

    /// This vector and another: `f` of both where a tensor has a piece of both, else the one there is.
    pub fn merge(self, other: Self, f: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>) -> Self {
        if self.is_empty() {
            return other;
        }
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

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;

    fn values(row: &Tensor<2>) -> Vec<f64> {
        row.to_data().iter().collect()
    }

    fn pieces(of: &[(usize, &[f64], DType)]) -> Pieces {
        let tensor = |values: &[f64], dtype| {
            Tensor::from_data(TensorData::new(values.to_vec(), [1, values.len()]), (&Device::flex(), dtype))
        };
        of.iter().map(|(slot, values, dtype)| (*slot, tensor(values, *dtype))).collect()
    }

    #[test]
    fn pieces_lie_in_the_order_of_their_slots_apart_by_type_and_come_out_again() {
        let brought = [(4, &[5.0, 6.0][..], DType::F32), (2, &[7.0], DType::F64), (0, &[1.0, 2.0, 3.0], DType::F32)];
        let vector = Vector::join(pieces(&brought));
        assert_eq!(
            vector.0.iter().map(|row| values(&row.values)).collect::<Vec<_>>(),
            [vec![1.0, 2.0, 3.0, 5.0, 6.0], vec![7.0]]
        );
        for (slot, expected, dtype) in brought {
            let piece = vector.piece(slot).unwrap();
            assert_eq!((values(&piece), piece.dtype()), (expected.to_vec(), dtype));
        }
        assert!(vector.piece(1).is_none());
    }

    #[test]
    fn a_shape_is_a_matrix_by_its_first_long_dimension() {
        let shapes: [(&[usize], [usize; 2]); 8] = [
            (&[], [1, 1]),
            (&[1, 1], [1, 1]),
            (&[7], [1, 7]),
            (&[1, 1, 7], [1, 7]),
            (&[7, 1], [1, 7]),
            (&[3, 4], [3, 4]),
            (&[1, 5, 6], [5, 6]),
            (&[8, 3, 2, 2], [8, 12]),
        ];
        for (shape, matrix) in shapes {
            assert_eq!(as_matrix(shape), matrix, "{shape:?}");
        }
    }

    #[test]
    fn vectors_over_other_tensors_merge_piece_by_piece() {
        let ours = Vector::join(pieces(&[(0, &[1.0, 2.0], DType::F32), (1, &[3.0], DType::F32)]));
        let add = |a: Tensor<2>, b: Tensor<2>| a + b;
        let alike = ours.clone().merge(ours.clone(), add);
        assert_eq!(values(&alike.0[0].values), [2.0, 4.0, 6.0]);
        let theirs = Vector::join(pieces(&[(1, &[10.0], DType::F32), (2, &[20.0], DType::F32)]));
        let both = ours.clone().merge(theirs, add);
        assert_eq!(values(&both.0[0].values), [1.0, 2.0, 13.0, 20.0]);
        let seats = &ours.0[0].seats;
        assert_eq!(values(&both.seated(seats, &ours.0[0].values).unwrap()), [1.0, 2.0, 13.0]);
        assert!(ours.seated(&both.0[0].seats, &ours.0[0].values).is_none());
        assert_eq!(values(&Vector::default().merge(both, add).0[0].values), [1.0, 2.0, 13.0, 20.0]);
    }
}
