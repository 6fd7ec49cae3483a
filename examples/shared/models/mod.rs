//! The models of the published experiments, and the classifier that makes any of them trainable by
//! a Burn `Learner`.

pub mod vgg5;
pub mod vit;

use std::fmt;
use std::str::FromStr;

use burn::data::dataloader::DataLoader;
use burn::data::dataset::DatasetError;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::loss::{CrossEntropyLossConfig, MseLoss, Reduction};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use burn::train::{ClassificationOutput, InferenceStep, TrainOutput, TrainStep};

use super::data::ImageBatch;
use vgg5::Vgg5;
use vit::{Vit, VitConfig};

/// A name that is none of the known ones.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("there is no {kind} {name:?}: did you mean {nearest:?}? Known are {known}")]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    nearest: &'static str,
    known: String,
}

/// The value that goes by `name`.
///
/// # Errors
/// [`UnknownName`] with the nearest name.
pub fn by_name<T: Copy>(kind: &'static str, known: &[(&'static str, T)], name: &str) -> Result<T, UnknownName> {
    if let Some(&(_, value)) = known.iter().find(|(known, _)| *known == name) {
        return Ok(value);
    }
    let names: Vec<&'static str> = known.iter().map(|(name, _)| *name).collect();
    let distance = |known: &&&str| strsim::damerau_levenshtein(known, name);
    let nearest = names.iter().min_by_key(distance).copied().unwrap_or_default();
    Err(UnknownName { kind, name: name.into(), nearest, known: names.join(", ") })
}

/// The models by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    VitMlp,
    VitNomlp,
    VitNomlpWkewq,
    VitNomlpWkewqWvwo,
    Vgg5,
}

impl ModelKind {
    pub const ALL: [(&'static str, Self); 5] = [
        ("vit-mlp", Self::VitMlp),
        ("vit-nomlp", Self::VitNomlp),
        ("vit-nomlp-wkewq", Self::VitNomlpWkewq),
        ("vit-nomlp-wkewq-wvwo", Self::VitNomlpWkewqWvwo),
        ("vgg5", Self::Vgg5),
    ];

    /// The network with small random weights. Of `size`, a ViT takes everything but the last three
    /// fields, which its name settles, and `vgg5` takes channels, side and classes.
    pub fn init(self, size: VitConfig, device: &Device) -> Network {
        if self == Self::Vgg5 {
            return Network::Vgg5(Vgg5::new(size.channels, size.side, size.classes, device));
        }
        let config = VitConfig {
            mlp: self == Self::VitMlp,
            separate_keys: matches!(self, Self::VitMlp | Self::VitNomlp),
            values: self != Self::VitNomlpWkewqWvwo,
            ..size
        };
        Network::Vit(config.init(device))
    }
}

impl FromStr for ModelKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name("model", &Self::ALL, name)
    }
}

impl fmt::Display for ModelKind {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name))
    }
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    CrossEntropy,
    /// Of the softmax, averaged over batch and classes.
    Mse,
}

impl Loss {
    pub const ALL: [(&'static str, Self); 2] = [("cross-entropy", Self::CrossEntropy), ("mse", Self::Mse)];

    /// From `[batch, classes]` and `[batch]` to the batch's mean.
    pub fn forward(self, logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
        match self {
            Self::CrossEntropy => CrossEntropyLossConfig::new().init(&logits.device()).forward(logits, targets),
            Self::Mse => {
                let wanted = targets.one_hot(logits.dims()[1]).float();
                MseLoss::new().forward(softmax(logits, 1), wanted, Reduction::Mean)
            }
        }
    }
}

impl FromStr for Loss {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        by_name("loss", &Self::ALL, name)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(_, loss)| loss == self).map_or("", |(name, _)| name))
    }
}

/// Any of the models.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Network {
    Vit(Vit),
    Vgg5(Vgg5),
}

/// A network and what it is to minimise.
#[derive(Module, Debug)]
pub struct Classifier {
    pub network: Network,
    #[module(skip)]
    pub loss: Loss,
}

impl Classifier {
    pub fn new(network: Network, loss: Loss) -> Self {
        Self { network, loss }
    }

    /// `[batch, channels, side, side]` to logits `[batch, classes]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        match &self.network {
            Network::Vit(vit) => vit.forward(images),
            Network::Vgg5(vgg5) => vgg5.forward(images),
        }
    }

    fn classify(&self, batch: ImageBatch) -> ClassificationOutput {
        let logits = self.forward(batch.images);
        let loss = self.loss.forward(logits.clone(), batch.targets.clone());
        ClassificationOutput::new(loss, logits, batch.targets)
    }
}

impl TrainStep for Classifier {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> TrainOutput<ClassificationOutput> {
        let output = self.classify(batch);
        TrainOutput::new(self, output.loss.backward(), output)
    }
}

impl InferenceStep for Classifier {
    type Input = ImageBatch;
    type Output = ClassificationOutput;

    fn step(&self, batch: ImageBatch) -> ClassificationOutput {
        self.classify(batch)
    }
}

/// Loss and share of right answers over a whole loader.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    pub loss: f64,
    pub accuracy: f64,
}

/// Evaluates `model` (in validation mode, see [`Module::valid`]) on all of `loader`, in forward
/// passes only; batches count by their size.
///
/// # Errors
/// What the loader reports.
pub fn evaluate(model: &Classifier, loader: &dyn DataLoader<ImageBatch>) -> Result<Evaluation, DatasetError> {
    let (mut loss, mut right, mut items) = (0.0, 0.0, 0.0);
    for batch in loader.iter() {
        let output = model.classify(batch?);
        let [size] = output.targets.dims();
        let hits = output.output.argmax(1).flatten::<1>(0, 1).equal(output.targets).float().sum();
        // One read-back a batch.
        let sums: Vec<f64> = Tensor::cat(vec![output.loss, hits], 0).into_data().iter().collect();
        loss += sums[0] * size as f64;
        right += sums[1];
        items += size as f64;
    }
    Ok(Evaluation { loss: loss / items, accuracy: right / items })
}

/// The sum of the squares of all parameters.
pub fn squared_norm(model: &impl Module) -> f64 {
    struct Squares(Vec<Tensor<1>>);
    impl ModuleVisitor for Squares {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().square().sum());
        }
    }
    let mut squares = Squares(Vec::new());
    model.visit(&mut squares);
    Tensor::cat(squares.0, 0).into_data().iter::<f64>().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::data::{EpochLoader, Images};
    use burn::tensor::Distribution;

    fn parameters(kind: ModelKind, channels: usize, classes: usize) -> usize {
        let size = VitConfig { channels, classes, ..VitConfig::default() };
        kind.init(size, &Device::flex()).num_params()
    }

    #[test]
    fn every_model_has_the_parameters_of_the_published_experiments() {
        // Hrycej et al., arXiv 2510.25366, Table 1: P = K M / Q for MNIST, CIFAR-10, CIFAR-100.
        let published = [
            (ModelKind::VitMlp, [154_058, 162_250, 168_100]),
            (ModelKind::VitNomlp, [54_794, 62_986, 68_836]),
            (ModelKind::VitNomlpWkewq, [42_506, 50_698, 56_548]),
            (ModelKind::VitNomlpWkewqWvwo, [17_930, 26_122, 31_972]),
            (ModelKind::Vgg5, [121_994, 122_570, 128_420]),
        ];
        for (kind, counts) in published {
            let ours = [(1, 10), (3, 10), (3, 100)].map(|(channels, m)| parameters(kind, channels, m));
            assert_eq!(ours, counts, "{kind}");
        }
    }

    #[test]
    fn neighbouring_variants_differ_by_exactly_the_stated_matrices() {
        let size = VitConfig { layers: 1, ..VitConfig::default() };
        let shapes = |kind: ModelKind| shapes(&kind.init(size, &Device::flex()));
        let without = |kind: ModelKind, names: &[&str]| -> Vec<_> {
            let kept = |(path, _): &(String, Vec<usize>)| !names.iter().any(|name| path.contains(name));
            shapes(kind).into_iter().filter(kept).collect()
        };
        let [mlp, nomlp, wkewq, wvwo] =
            [ModelKind::VitMlp, ModelKind::VitNomlp, ModelKind::VitNomlpWkewq, ModelKind::VitNomlpWkewqWvwo];
        assert_eq!(shapes(nomlp), without(mlp, &["mlp.inner", "mlp.outer"]));
        assert_eq!(shapes(wkewq), without(nomlp, &["attention.key"]));
        assert_eq!(shapes(wvwo), without(wkewq, &["attention.value", "attention.output"]));
        assert_eq!(shapes(mlp).len() - shapes(nomlp).len(), 4);
        assert_eq!(shapes(nomlp).len() - shapes(wkewq).len(), 1);
        assert_eq!(shapes(wkewq).len() - shapes(wvwo).len(), 2);
    }

    /// Paths and shapes of a module's parameters, in its order.
    #[derive(Default)]
    struct Shapes {
        path: Vec<String>,
        found: Vec<(String, Vec<usize>)>,
    }

    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push((self.path.join("."), param.val().dims().to_vec()));
        }
    }

    fn shapes(model: &impl Module) -> Vec<(String, Vec<usize>)> {
        let mut shapes = Shapes::default();
        model.visit(&mut shapes);
        shapes.found
    }

    #[test]
    fn every_parameter_of_every_model_gets_a_gradient() {
        let device = Device::flex().autodiff();
        for (_, kind) in ModelKind::ALL {
            let size = VitConfig { channels: 1, side: 16, width: 8, heads: 2, ..VitConfig::default() };
            let model = Classifier::new(kind.init(size, &device), Loss::CrossEntropy);
            let images = Tensor::random([3, 1, 16, 16], Distribution::Default, &device);
            let targets = Tensor::from_ints([0, 1, 2], &device);
            let output = TrainStep::step(&model, ImageBatch { images, targets });
            assert_eq!(output.item.output.dims(), [3, 10]);
            assert_eq!(output.grads.len(), shapes(&model).len(), "{kind}");
        }
    }

    #[test]
    fn a_uniform_output_has_the_loss_that_the_arithmetic_says() {
        // MSE: ((1 - 1/M)^2 + (M - 1)/M^2) / M = (M - 1)/M^2; cross-entropy: ln M.
        for (classes, mse) in [(10, 0.09), (100, 0.0099)] {
            let logits = Tensor::<2>::full([7, classes], 3.0, &Device::flex());
            let targets = Tensor::<1, Int>::from_ints([0, 1, 2, 3, 4, 5, 9], &Device::flex());
            let loss = |loss: Loss| loss.forward(logits.clone(), targets.clone()).into_scalar::<f32>();
            assert!((loss(Loss::Mse) - mse).abs() < 1e-7);
            assert!((loss(Loss::CrossEntropy) - (classes as f32).ln()).abs() < 1e-5);
        }
    }

    #[test]
    fn an_evaluation_does_not_depend_on_the_batches() {
        let device = Device::flex();
        let size = VitConfig { channels: 1, side: 8, patch: 4, width: 8, layers: 1, ..VitConfig::default() };
        let model = Classifier::new(ModelKind::VitNomlp.init(size, &device), Loss::CrossEntropy);
        let pixels = (0..10 * 64).map(|i| (i as f32).sin()).collect();
        let images = Images::new(pixels, (0..10).collect(), [1, 8, 10]).unwrap().upload(&device);
        let evaluate = |batch| evaluate(&model, &EpochLoader::sequential(&images, batch).unwrap()).unwrap();
        let (whole, parts) = (evaluate(10), evaluate(3));
        assert!((whole.loss - parts.loss).abs() < 1e-6);
        assert_eq!(whole.accuracy, parts.accuracy);
    }

    #[test]
    fn names_are_read_back_and_unknown_ones_answered_with_the_nearest() {
        for (name, kind) in ModelKind::ALL {
            assert_eq!(name.parse(), Ok(kind));
            assert_eq!(kind.to_string(), name);
        }
        let message = "vit-nomlp-wkewk".parse::<ModelKind>().unwrap_err().to_string();
        assert!(message.starts_with("there is no model \"vit-nomlp-wkewk\": did you mean \"vit-nomlp-wkewq\"?"));
        assert_eq!("mse".parse(), Ok(Loss::Mse));
        assert!("mes".parse::<Loss>().unwrap_err().to_string().contains("did you mean \"mse\"?"));
    }
}
