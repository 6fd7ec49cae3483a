//! A point in space as a Burn module, with gradients that come by hand.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Tensor, TensorData};

/// A point in space: one vector of parameters.
#[derive(Module, Debug)]
pub struct Vector {
    x: Param<Tensor<1>>,
}

fn tensor(values: &[f64], device: &Device, dtype: DType) -> Tensor<1> {
    Tensor::from_data(TensorData::from(values).convert_dtype(dtype), (device, dtype))
}

impl Vector {
    /// A point on the flex device.
    pub fn new(values: &[f64], dtype: DType) -> Self {
        Self { x: Param::from_tensor(tensor(values, &Device::flex().autodiff(), dtype)) }
    }

    /// Its coordinates.
    pub fn values(&self) -> Vec<f64> {
        self.x.val().into_data().iter::<f64>().collect()
    }

    /// A value at this point, in its number format.
    pub fn loss(&self, value: f64) -> Tensor<1> {
        tensor(&[value], &Device::flex().autodiff(), self.x.val().dtype())
    }

    /// A gradient at this point, in its number format.
    pub fn gradients(&self, gradient: &[f64]) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        gradients.register(self.x.id, tensor(gradient, &Device::flex(), self.x.val().dtype()));
        gradients
    }
}
