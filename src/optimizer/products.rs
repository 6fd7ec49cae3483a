//! Inner products and sums of rows over the whole model, to the digits of their element type.
//!
//! Of two matrices the one with fewer rows comes first: both forms read the other once for each of its rows at most, and MKL
//! takes one and a half times as long or more for the other order.
//!
//! A matrix product is the fastest way to both, but not on Burn's own GPU backends (CubeCL): that of two vectors is computed by one
//! thread there, and that of matrices, on CUDA, from numbers rounded to 11 binary digits (TensorFloat-32), too few for a line search, or
//! not, as its tuning by time has it. There they are sums of elementwise products, as they are on any other device whose matrix
//! product has fewer digits than f32.

use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device, Tensor};

/// Products of elements that are taken at once before they are summed.
const AT_ONCE: usize = 1 << 25;

/// Inner products of the rows of two matrices, as one vector, row by row of the first.
pub(super) fn products(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<1> {
    match multiplies(a) {
        true => by_product(a, b),
        false => by_sums(a, b, AT_ONCE),
    }
}

fn by_product(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<1> {
    let [rows, _] = a.dims();
    let [columns, _] = b.dims();
    a.clone().matmul(b.clone().transpose()).reshape([rows * columns])
}

fn by_sums(a: &Tensor<2>, b: &Tensor<2>, at_once: usize) -> Tensor<1> {
    let ([rows, columns], [others, _]) = (a.dims(), b.dims());
    let block = (at_once / columns.max(1)).clamp(1, others);
    let sums = |row: usize| {
        let row = a.clone().narrow(0, row, 1);
        let starts = (0..others).step_by(block);
        starts.map(move |at| row_sums(b.clone().narrow(0, at, block.min(others - at)) * row.clone()))
    };
    Tensor::cat((0..rows).flat_map(sums).collect(), 0).squeeze_dim(1)
}

/// The sum of every row, `[rows, 1]`, in two steps: of pieces, then of theirs. A row has millions of columns, and a reduction to
/// a handful of numbers leaves a GPU with nearly nothing to do side by side.
fn row_sums(rows: Tensor<2>) -> Tensor<2> {
    let [count, columns] = rows.dims();
    // A power of two near the square root, for as many pieces as each has columns.
    let width = columns.isqrt().next_power_of_two();
    let (pieces, whole) = (columns / width, columns / width * width);
    let sums = rows.clone().narrow(1, 0, whole).reshape([count, pieces, width]).sum_dim(2).reshape([count, pieces]);
    let sums = match whole < columns {
        true => Tensor::cat(vec![sums, rows.narrow(1, whole, columns - whole)], 1),
        false => sums,
    };
    sums.sum_dim(1)
}

/// The squared norm of one row.
pub(super) fn squared_norm(row: &Tensor<2>) -> Tensor<1> {
    products(row, row)
}

/// The sum of rows, each times its factor, the factors `[1, m]`.
pub(super) fn combination(factors: Tensor<2>, rows: Tensor<2>) -> Tensor<2> {
    match multiplies(&rows) {
        true => factors.matmul(rows),
        false => combination_by_sums(factors, rows),
    }
}

fn combination_by_sums(factors: Tensor<2>, rows: Tensor<2>) -> Tensor<2> {
    (rows * factors.transpose()).sum_dim(0)
}

/// Whether a matrix product is the way on this device: asked once of each device and element type, with one read-back at most.
fn multiplies(like: &Tensor<2>) -> bool {
    static ASKED: Mutex<Vec<(Device, DType, bool)>> = Mutex::new(Vec::new());
    let (device, dtype) = (like.device(), like.dtype());
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., answer)) = asked.iter().find(|(known, of, _)| (known, *of) == (&device, dtype)) {
        return *answer;
    }
    // CubeCL alone reports the pools of its memory.
    let answer = device.memory_pool_report().is_none() && (dtype != DType::F32 || keeps_digits(&device));
    if !answer {
        log::info!("inner products are sums of elementwise products on {device:?}, in place of matrix products");
    }
    asked.push((device, dtype, answer));
    answer
}

/// Whether 1 + 2^-12, which takes 13 binary digits, is left as it is by a product of one row and by one of several.
fn keeps_digits(device: &Device) -> bool {
    const COLUMNS: usize = 4096;
    let [one, several] = [1, 16].map(|rows| {
        let row = Tensor::<2>::ones([rows, COLUMNS], (device, DType::F32)).add_scalar(2f64.powi(-12));
        by_product(&row, &Tensor::ones([rows.min(2), COLUMNS], (device, DType::F32)))
    });
    // 4,097 with all digits, 4,096 without.
    Tensor::cat(vec![one, several], 0).into_data().iter::<f64>().all(|sum| sum > COLUMNS as f64 + 0.5)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Distribution, TensorData};

    use super::*;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn a_product_over_millions_of_parameters_keeps_the_digits_of_f32() {
        // Positive, so that every partial sum grows: the worst case for a sum in f32.
        let columns = 1 << 22;
        let numbers: Vec<f32> = (0..columns).map(|i| 0.5 + (i as f32 * 0.618_034).fract()).collect();
        let exact: f64 = numbers.iter().map(|value| f64::from(*value).powi(2)).sum();
        let row = Tensor::<2>::from_data(TensorData::new(numbers, [1, columns]), &Device::flex());
        for product in [by_product(&row, &row), by_sums(&row, &row, AT_ONCE)] {
            let product = values(product)[0];
            assert!((product / exact - 1.0).abs() < 1e-6, "{product} {exact}");
        }
    }

    #[test]
    fn every_column_is_summed_once_whatever_their_number() {
        for columns in (1..70).chain([255, 256, 257, 4_095, 4_097, 65_537]) {
            let numbers = Tensor::<1, burn::tensor::Int>::arange(0..2 * columns as i64, &Device::flex()).float();
            // Whole numbers below 2^24, which f32 sums exactly.
            let rows = numbers.reshape([2, columns]).remainder_scalar(101.0);
            let exact: Vec<f64> =
                (0..2).map(|row| (0..columns).map(|column| ((row * columns + column) % 101) as f64).sum()).collect();
            assert_eq!(values(row_sums(rows)), exact, "{columns} columns");
        }
    }

    #[test]
    fn sums_of_elementwise_products_are_what_matrix_products_are() {
        let device = Device::flex();
        let [rows, others] = [5, 3].map(|rows| Tensor::<2>::random([rows, 40], Distribution::Default, &device));
        let exact = values(by_product(&others, &rows));
        for at_once in [AT_ONCE, 2 * 40, 1] {
            let sums = values(by_sums(&others, &rows, at_once));
            assert_eq!((exact.len(), sums.len()), (15, 15));
            assert!(exact.iter().zip(&sums).all(|(a, b)| (a - b).abs() < 1e-5 * a.abs()), "{exact:?} {sums:?}");
        }
        let factors = Tensor::<2>::random([1, 5], Distribution::Default, &device);
        let summed = values(combination_by_sums(factors.clone(), rows.clone()));
        let combined = values(combination(factors, rows));
        assert!(summed.iter().zip(&combined).all(|(a, b)| (a - b).abs() < 1e-5), "{summed:?} {combined:?}");
        assert!(keeps_digits(&device));
    }
}
