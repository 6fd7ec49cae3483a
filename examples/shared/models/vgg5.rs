//! A convolutional network in the manner of VGG (Simonyan and Zisserman 2015, arXiv 1409.1556) with
//! five weight layers.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::tensor::{Device, Tensor};

/// Three 3x3 convolutions (32, 64, 64 channels), each with ReLU and a maximum over 2x2, then a
/// dense layer of 64 with ReLU and the classifier.
#[derive(Module, Debug)]
pub struct Vgg5 {
    convolutions: Vec<Conv2d>,
    pool: MaxPool2d,
    activation: Relu,
    dense: Linear,
    head: Linear,
}

impl Vgg5 {
    /// For images of `channels` x `side` x `side`, `side` a multiple of 8. Small random weights,
    /// from the device's generator.
    pub fn new(channels: usize, side: usize, classes: usize, device: &Device) -> Self {
        let convolution =
            |channels| Conv2dConfig::new(channels, [3, 3]).with_padding(PaddingConfig2d::Same).init(device);
        Self {
            convolutions: [[channels, 32], [32, 64], [64, 64]].map(convolution).into(),
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            activation: Relu::new(),
            dense: LinearConfig::new(64 * (side / 8).pow(2), 64).init(device),
            head: LinearConfig::new(64, classes).init(device),
        }
    }

    /// `[batch, channels, side, side]` to logits `[batch, classes]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let features = self.convolutions.iter().fold(images, |images, convolution| {
            self.pool.forward(self.activation.forward(convolution.forward(images)))
        });
        self.head.forward(self.activation.forward(self.dense.forward(features.flatten(1, 3))))
    }
}
