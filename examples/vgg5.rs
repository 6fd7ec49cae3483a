//! A convolutional network on handwritten digits: Adam, then the convex phase, beside Adam alone at equal cost.
//!
//! `cargo run --release --example vgg5` needs no network and no GPU; `-- --help` lists the options.

use crate::shared::experiment::{self, Defaults};
use crate::shared::models::ModelKind;
use crate::shared::models::vit::VitConfig;

mod shared;

fn main() {
    experiment::main(Defaults {
        model: ModelKind::Vgg5,
        size: VitConfig { side: 8, ..VitConfig::default() },
        epochs: 150,
    });
}
