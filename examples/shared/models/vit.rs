//! A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) that can be had without
//! its MLP, with one matrix for keys and queries, and without value and output matrices.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig, PositionalEncoding, PositionalEncodingConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

/// What a [`Vit`] is made of; the default is the size of the published experiments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VitConfig {
    pub channels: usize,
    /// Side of the image, in pixels.
    pub side: usize,
    /// Side of a patch, in pixels; it divides `side`.
    pub patch: usize,
    pub classes: usize,
    pub layers: usize,
    /// They divide `width`.
    pub heads: usize,
    /// Length of a token; even.
    pub width: usize,
    /// An MLP `width -> 4 width -> width` in every layer.
    pub mlp: bool,
    /// A matrix for the keys beside the one for the queries.
    pub separate_keys: bool,
    /// Matrices for the values and for the output of the heads.
    pub values: bool,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            channels: 3,
            side: 32,
            patch: 8,
            classes: 10,
            layers: 3,
            heads: 4,
            width: 64,
            mlp: true,
            separate_keys: true,
            values: true,
        }
    }
}

/// Patches and a class token, encoder layers, and a linear classifier on the class token.
#[derive(Module, Debug)]
pub struct Vit {
    projection: Conv2d,
    class_token: Param<Tensor<3>>,
    /// Fixed sinusoids: no parameters.
    positions: PositionalEncoding,
    layers: Vec<EncoderLayer>,
    head: Linear,
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`; without an MLP the second normalisation ends
/// the layer: `norm(x)`. (The publication keeps that normalisation and does not say where. Ending
/// the layer, it bounds what reaches the classifier, so that gradients start small.)
#[derive(Module, Debug)]
struct EncoderLayer {
    attention_norm: LayerNorm,
    attention: Attention,
    mlp_norm: LayerNorm,
    mlp: Option<Mlp>,
}

/// Scaled dot-product attention of several heads (Vaswani et al. 2017, equation 1), without biases.
/// A missing key matrix is the query matrix; a missing value or output matrix is the identity.
#[derive(Module, Debug)]
struct Attention {
    query: Linear,
    key: Option<Linear>,
    value: Option<Linear>,
    output: Option<Linear>,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp {
    inner: Linear,
    activation: Gelu,
    outer: Linear,
}

impl VitConfig {
    /// Small random weights, from the device's generator: Burn's defaults, and smaller still for
    /// class token and classifier, so that the first outputs are nearly uniform.
    pub fn init(&self, device: &Device) -> Vit {
        let Self { width, heads, .. } = *self;
        let small = Initializer::Normal { mean: 0.0, std: 0.02 };
        let tokens = (self.side / self.patch).pow(2) + 1;
        let matrix = || LinearConfig::new(width, width).with_bias(false).init(device);
        let layer = || EncoderLayer {
            attention_norm: LayerNormConfig::new(width).init(device),
            attention: Attention {
                query: matrix(),
                key: self.separate_keys.then(matrix),
                value: self.values.then(matrix),
                output: self.values.then(matrix),
                heads,
            },
            mlp_norm: LayerNormConfig::new(width).init(device),
            mlp: self.mlp.then(|| Mlp {
                inner: LinearConfig::new(width, 4 * width).init(device),
                activation: Gelu::new(),
                outer: LinearConfig::new(4 * width, width).init(device),
            }),
        };
        Vit {
            projection: Conv2dConfig::new([self.channels, width], [self.patch, self.patch])
                .with_stride([self.patch, self.patch])
                .init(device),
            class_token: small.init([1, 1, width], device),
            positions: PositionalEncodingConfig::new(width).with_max_sequence_size(tokens).init(device),
            layers: (0..self.layers).map(|_| layer()).collect(),
            head: LinearConfig::new(width, self.classes).with_initializer(small).init(device),
        }
    }
}

impl Vit {
    /// `[batch, channels, side, side]` to logits `[batch, classes]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let [batch, ..] = images.dims();
        let patches = self.projection.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        let class = self.class_token.val().repeat_dim(0, batch);
        let tokens = self.positions.forward(Tensor::cat(vec![class, patches], 1));
        let tokens = self.layers.iter().fold(tokens, |tokens, layer| layer.forward(tokens));
        self.head.forward(tokens.narrow(1, 0, 1).squeeze_dim(1))
    }
}

impl EncoderLayer {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let tokens = tokens.clone() + self.attention.forward(self.attention_norm.forward(tokens));
        let normed = self.mlp_norm.forward(tokens.clone());
        match &self.mlp {
            Some(mlp) => tokens + mlp.forward(normed),
            None => normed,
        }
    }
}

impl Attention {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = tokens.dims();
        let split = |tokens: Tensor<3>| -> Tensor<4> {
            tokens.reshape([batch, length, self.heads, width / self.heads]).swap_dims(1, 2)
        };
        let query = split(rows(&self.query, tokens.clone()));
        let key = self.key.as_ref().map_or(query.clone(), |key| split(rows(key, tokens.clone())));
        let value = split(project(&self.value, tokens));

        let scale = ((width / self.heads) as f64).sqrt();
        let weights = softmax(query.matmul(key.transpose()) / scale, 3);
        let joined = weights.matmul(value).swap_dims(1, 2).reshape([batch, length, width]);
        project(&self.output, joined)
    }
}

impl Mlp {
    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        rows(&self.outer, self.activation.forward(rows(&self.inner, tokens)))
    }
}

/// By the matrix where there is one, else the identity.
fn project(matrix: &Option<Linear>, tokens: Tensor<3>) -> Tensor<3> {
    match matrix {
        Some(matrix) => rows(matrix, tokens),
        None => tokens,
    }
}

/// All tokens of a batch as the rows of one matrix: one product, where Burn would make one for every image and add up as many
/// gradients.
fn rows(linear: &Linear, tokens: Tensor<3>) -> Tensor<3> {
    let [batch, length, width] = tokens.dims();
    let [_, outputs] = linear.weight.dims();
    linear.forward(tokens.reshape([batch * length, width])).reshape([batch, length, outputs])
}
