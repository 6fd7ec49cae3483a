//! Table 1 of Hrycej, Bermeitinger, Pavone, Wiegand and Handschuh, "A Convexity-Dependent Two-Phase Training Algorithm
//! for Deep Neural Networks", KDIR 2025, pp. 78-86 (arXiv 2510.25366).

/// Train loss, train accuracy, validation loss, validation accuracy, in the order of the [`Metric`](super::gather::Metric)s.
pub type Numbers = [f64; 4];

/// One line of the table: Adam throughout, and Adam followed by conjugate gradients.
pub struct Published {
    dataset: &'static str,
    model: &'static str,
    pub adam: Numbers,
    pub adam_cg: Numbers,
}

impl Published {
    /// Epochs of Adam throughout, and of the two phases.
    pub fn epochs(&self) -> (usize, [usize; 2]) {
        if self.model == "vit-mlp" { (700, [210, 490]) } else { (1000, [300, 700]) }
    }
}

/// What was published for `model` on `dataset`. The loss is the mean squared error of the softmax.
pub fn published(dataset: &str, model: &str) -> Option<&'static Published> {
    TABLE_1.iter().find(|row| row.dataset == dataset && row.model == model)
}

const fn row(dataset: &'static str, model: &'static str, adam: Numbers, adam_cg: Numbers) -> Published {
    Published { dataset, model, adam, adam_cg }
}

static TABLE_1: [Published; 15] = [
    row("mnist", "vit-mlp", [0.0008, 0.995, 0.0061, 0.965], [0.0001, 1.000, 0.0044, 0.974]),
    row("mnist", "vit-nomlp", [0.0003, 0.998, 0.0064, 0.963], [0.0002, 0.999, 0.0053, 0.969]),
    row("mnist", "vit-nomlp-wkewq", [0.0004, 0.998, 0.0057, 0.967], [0.0002, 0.999, 0.0048, 0.971]),
    row("mnist", "vit-nomlp-wkewq-wvwo", [0.0016, 0.990, 0.0073, 0.955], [0.0006, 0.996, 0.0063, 0.962]),
    row("mnist", "vgg5", [0.0001, 1.000, 0.0014, 0.993], [0.0001, 1.000, 0.0011, 0.994]),
    row("cifar10", "vit-mlp", [0.0091, 0.943, 0.0997, 0.428], [0.0041, 0.970, 0.0991, 0.435]),
    row("cifar10", "vit-nomlp", [0.0290, 0.819, 0.0981, 0.428], [0.0175, 0.891, 0.0982, 0.444]),
    row("cifar10", "vit-nomlp-wkewq", [0.0386, 0.744, 0.0889, 0.441], [0.0270, 0.833, 0.0881, 0.461]),
    row("cifar10", "vit-nomlp-wkewq-wvwo", [0.0567, 0.575, 0.0775, 0.414], [0.0527, 0.612, 0.0738, 0.436]),
    row("cifar10", "vgg5", [0.0059, 0.967, 0.0531, 0.710], [0.0047, 0.969, 0.0491, 0.719]),
    row("cifar100", "vit-mlp", [0.0041, 0.706, 0.0128, 0.155], [0.0028, 0.758, 0.0134, 0.151]),
    row("cifar100", "vit-nomlp", [0.0062, 0.478, 0.0112, 0.166], [0.0053, 0.534, 0.0116, 0.165]),
    row("cifar100", "vit-nomlp-wkewq", [0.0069, 0.425, 0.0108, 0.174], [0.0059, 0.487, 0.0109, 0.176]),
    row("cifar100", "vit-nomlp-wkewq-wvwo", [0.0082, 0.291, 0.0099, 0.157], [0.0078, 0.326, 0.0097, 0.164]),
    row("cifar100", "vgg5", [0.0032, 0.755, 0.0108, 0.300], [0.0032, 0.737, 0.0102, 0.321]),
];
