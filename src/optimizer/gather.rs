//! Scalars waiting on the device, read back together.

use burn::tensor::{Tensor, Transaction};
use serde::{Deserialize, Serialize};

/// One-dimensional tensors in order, after values that are on the host already.
#[derive(Clone, Debug, Default)]
pub(super) struct Gather {
    host: Vec<f64>,
    device: Vec<Tensor<1>>,
}

/// Tensors kept apart before they are joined: bounds the number of small allocations in a long window.
const JOIN_AT: usize = 128;

impl Gather {
    pub fn push(&mut self, values: Tensor<1>) {
        self.device.push(values);
    }

    /// Append another gather's values.
    pub fn append(&mut self, mut other: Self) {
        debug_assert!(other.host.is_empty() || self.device.is_empty());
        self.host.append(&mut other.host);
        self.device.append(&mut other.device);
        if self.device.len() >= JOIN_AT {
            self.join();
        }
    }

    /// Concatenate neighbours of one type and device: one launch instead of a transfer each.
    pub fn join(&mut self) {
        let mut joined: Vec<Tensor<1>> = Vec::new();
        let mut run: Vec<Tensor<1>> = Vec::new();
        for tensor in self.device.drain(..) {
            let fits = run.last().is_none_or(|last| last.dtype() == tensor.dtype() && last.device() == tensor.device());
            if !fits {
                joined.push(Tensor::cat(std::mem::take(&mut run), 0));
            }
            run.push(tensor);
        }
        match run.len() {
            0 => {}
            1 => joined.append(&mut run),
            _ => joined.push(Tensor::cat(run, 0)),
        }
        self.device = joined;
    }

    /// All values of several gathers in f64, with one read-back a device; the device's words on failure.
    pub fn read<const N: usize>(gathers: [Self; N]) -> Result<[Vec<f64>; N], String> {
        let mut counts = [0; N];
        let mut values: [Vec<f64>; N] = std::array::from_fn(|_| Vec::new());
        let mut all = Self::default();
        for (i, gather) in gathers.into_iter().enumerate() {
            values[i] = gather.host;
            counts[i] = gather.device.iter().map(|tensor| tensor.dims()[0]).sum();
            all.device.extend(gather.device);
        }
        if all.device.is_empty() {
            return Ok(values);
        }
        all.join();
        // A transaction is of one device.
        let mut read = vec![None; all.device.len()];
        while let Some(first) = read.iter().position(Option::is_none) {
            let device = all.device[first].device();
            let here: Vec<usize> = (first..read.len()).filter(|at| all.device[*at].device() == device).collect();
            let tensors = here.iter().map(|at| all.device[*at].clone());
            let data = tensors.fold(Transaction::default(), Transaction::register).try_execute();
            let data = data.map_err(|error| error.to_string())?;
            if data.len() != here.len() {
                return Err(format!("{} tensors were asked for and {} came", here.len(), data.len()));
            }
            here.into_iter().zip(data).for_each(|(at, data)| read[at] = Some(data));
        }
        let mut read = read.iter().flatten().flat_map(|data| data.iter::<f64>());
        for (values, count) in values.iter_mut().zip(counts) {
            values.extend(read.by_ref().take(count));
        }
        Ok(values)
    }
}

impl Serialize for Gather {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [values] = Self::read([self.clone()]).map_err(serde::ser::Error::custom)?;
        values.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Gather {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self { host: Vec::deserialize(deserializer)?, device: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device};

    use super::*;

    fn scalar(value: f64, dtype: DType) -> Tensor<1> {
        Tensor::from_data([value], (&Device::flex(), dtype))
    }

    fn gather(values: &[(f64, DType)]) -> Gather {
        let mut gather = Gather::default();
        values.iter().for_each(|(value, dtype)| gather.push(scalar(*value, *dtype)));
        gather
    }

    #[test]
    fn neighbours_of_one_type_are_joined_and_all_values_keep_their_order() {
        use DType::{F32, F64};
        for (values, left) in [
            (&[][..], 0),
            (&[(1.0, F32)], 1),
            (&[(1.0, F32), (2.0, F32), (3.0, F32)], 1),
            (&[(1.0, F32), (2.0, F32), (3.0, F64), (4.0, F64), (5.0, F32)], 3),
        ] {
            let mut joined = gather(values);
            joined.join();
            assert_eq!(joined.device.len(), left);
            let expected: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
            assert_eq!(Gather::read([joined, gather(values)]), Ok([expected.clone(), expected]));
        }
    }

    #[test]
    fn a_long_window_keeps_few_tensors() {
        let mut all = Gather::default();
        for value in 0..JOIN_AT - 1 {
            all.append(gather(&[(value as f64, DType::F32)]));
        }
        assert_eq!(all.device.len(), JOIN_AT - 1);
        all.append(gather(&[(JOIN_AT as f64, DType::F32)]));
        assert_eq!(all.device.len(), 1);
        let [values] = Gather::read([all]).expect("readable");
        assert_eq!((values.len(), values[JOIN_AT - 1]), (JOIN_AT, JOIN_AT as f64));
    }

    #[test]
    fn what_is_read_again_from_a_record_comes_first() {
        let saved = serde_json::to_value(gather(&[(1.0, DType::F32), (2.0, DType::F64)])).expect("readable");
        let mut read: Gather = serde_json::from_value(saved).expect("as it was written");
        read.append(gather(&[(3.0, DType::F32)]));
        assert_eq!(Gather::read([read]), Ok([vec![1.0, 2.0, 3.0]]));
    }
}
