//! One experiment: a model trained by several methods from the same initial parameters in the same order of the data, and
//! what is printed and left behind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use burn::lr_scheduler::cosine::CosineAnnealingLrSchedulerConfig;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn_convexity::ConvexitySwitchingConfig;
use burn_convexity::config::{DetectorConfig, LineSearchConfig, SafeResortConfig};
use burn_convexity::convex::line_search::GoldenSectionConfig;
use burn_convexity::detector::{AtWindowConfig, NeverConfig};
use clap::{Parser, ValueEnum};
use serde_json::{Value, json};

use super::data::{DataSet, EpochLoader, load};
use super::device::DeviceName;
use super::methods::{self, Setup};
use super::models::vit::VitConfig;
use super::models::{Classifier, Loss, ModelKind};
use super::plots;
use super::run::{self, Method, Summary, TraceRow};

/// What a run may fail with; the message is meant for the user.
pub type Failure = Box<dyn std::error::Error>;

/// Train with Adam, swap when the loss has become convex, and compare with Adam alone at equal cost.
#[derive(Parser, Debug)]
pub struct Arguments {
    /// Configuration of the switching optimizer (JSON); the library's defaults without it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Epochs for each method, at most: one that has converged ends.
    #[arg(long)]
    epochs: Option<usize>,
    /// Seed of the initial parameters and of the order of the data.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder for summary.json, trace.jsonl and the plots.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on with the run in --out.
    #[arg(long)]
    resume: bool,
    /// Replace the run in --out.
    #[arg(long, conflicts_with = "resume")]
    force: bool,
    /// flex, ndarray, libtorch, libtorch-cuda:N, cuda:N or wgpu.
    #[arg(long, default_value = "flex")]
    device: DeviceName,
    /// Methods to compare with at equal cost.
    #[arg(long, value_enum, default_value_t = Baseline::All)]
    baseline: Baseline,
    /// default: through the Learner. paper: a fixed swap at 30 % of the epochs, then one iteration of conjugate gradients
    /// with a golden-section search an epoch, on the MSE of the softmax in batches of 512. detector: the same with the swap
    /// where the published rule finds it.
    #[arg(long, value_enum, default_value_t = Protocol::Default)]
    protocol: Protocol,
    /// cross-entropy, or mse of the softmax; mse for the published protocols.
    #[arg(long)]
    loss: Option<Loss>,
    /// Weight decay in the objective of every method; else that of the configuration.
    #[arg(long)]
    l2: Option<f64>,
    /// vit-mlp, vit-nomlp, vit-nomlp-wkewq, vit-nomlp-wkewq-wvwo or vgg5.
    #[arg(long)]
    model: Option<ModelKind>,
    /// Layers of the transformer.
    #[arg(long)]
    layers: Option<usize>,
    /// Width of the transformer; 4 heads share it.
    #[arg(long)]
    width: Option<usize>,
    /// digits (embedded), mnist, fashion-mnist, cifar10 or cifar100.
    #[arg(long, default_value = "digits")]
    dataset: DataSet,
    /// Folder of the data sets that examples/data/fetch.sh brings.
    #[arg(long, default_value = "data")]
    data_dir: PathBuf,
    /// Train on this many images, drawn once for all seeds.
    #[arg(long)]
    limit: Option<usize>,
    /// Share of the training images whose labels are shuffled among them, the same ones for all seeds; the labels of the
    /// validation stay right.
    #[arg(long)]
    label_noise: Option<f64>,
    /// Samples in a batch; 64, and 512 for the published protocols.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Learning rate of Adam.
    #[arg(long, default_value_t = 1e-3)]
    lr: f64,
}

/// Methods to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Baseline {
    None,
    Adam,
    AdamCosine,
    All,
}

/// How the method is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Default,
    Detector,
    Paper,
}

/// What an example fixes.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    pub model: ModelKind,
    pub size: VitConfig,
    pub epochs: usize,
}

/// Run the example and print its table; a failure is one line on standard error.
pub fn main(defaults: Defaults) {
    let arguments = Arguments::parse();
    if let Err(failure) = run(&arguments, defaults) {
        eprintln!("error: {failure}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments, defaults: Defaults) -> Result<(), Failure> {
    let published = arguments.protocol != Protocol::Default;
    let epochs = arguments.epochs.unwrap_or(defaults.epochs);
    if epochs == 0 {
        return Err("--epochs must be at least 1".into());
    }
    let loss = arguments.loss.unwrap_or(if published { Loss::Mse } else { Loss::CrossEntropy });
    let batch_size = arguments.batch_size.unwrap_or(if published { 512 } else { 64 });
    let kind = arguments.model.unwrap_or(defaults.model);
    let device = arguments.device.open()?;
    let mut split = load(arguments.dataset, defaults.size.side, &arguments.data_dir, arguments.limit)?;
    if let Some(share) = arguments.label_noise {
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("--label-noise {share} is no share: choose 0 to 1").into());
        }
        split.train = split.train.with_label_noise(share);
    }
    let size = size(arguments, defaults, &split.train)?;
    device.seed(arguments.seed);
    let network = kind.init(size, &device.clone().autodiff());
    let model = Classifier::new(network, loss).materialize();
    let (train, valid) = (split.train.upload(&device), split.valid.upload(&device));
    let mut config = config(arguments, epochs)?;
    config.l2 = arguments.l2.unwrap_or(config.l2);
    let out = folder(arguments, kind, loss)?;
    let setup = Setup {
        train: EpochLoader::shuffled(&train, batch_size, arguments.seed)?,
        measured: EpochLoader::sequential(&train, batch_size)?,
        valid: EpochLoader::sequential(&valid, batch_size.min(valid.len()))?,
        passes: train.len().div_ceil(batch_size),
        model,
        epochs,
        lr: arguments.lr,
        l2: config.l2,
        out: out.clone(),
        resume: arguments.resume,
    };
    let parameters = setup.model.num_params();
    let mut protocol = json!({
        "name": arguments.protocol.to_possible_value().map(|value| value.get_name().to_owned()),
        "epochs": epochs,
        "images": train.len(),
        "batch_size": batch_size,
        "lr": arguments.lr,
    });
    if let Some(share) = arguments.label_noise {
        protocol["label_noise"] = share.into();
    }
    let summary = Summary {
        model: kind.to_string(),
        dataset: arguments.dataset.to_string(),
        loss: loss.to_string(),
        parameters,
        seed: arguments.seed,
        device: arguments.device.to_string(),
        config: serde_json::to_value(&config)?,
        protocol,
        methods: Vec::new(),
    };
    claim(arguments, &out, &serde_json::to_value(&summary)?)?;
    println!(
        "{kind} ({parameters} parameters) on {} images of {}, {loss} loss, {epochs} epochs a method, {}, seed {}",
        train.len(),
        arguments.dataset,
        arguments.device,
        arguments.seed
    );

    let mut summary = Summary { methods: train_all(arguments, &setup, &config)?, ..summary };
    let trace = methods::trace(&out)?;
    let of = |method: &Method| trace.iter().filter(|row| row.method == method.name).cloned().collect::<Vec<_>>();
    let rows: Vec<TraceRow> = summary.methods.iter().flat_map(of).collect();
    summary.set_cost_to_adam(&rows);
    summary.save(&out.join("summary.json"))?;
    let title = format!("{kind}, {}, {loss}, seed {}", arguments.dataset, arguments.seed);
    let ours: Vec<TraceRow> = rows.iter().filter(|row| row.method == methods::OURS).cloned().collect();
    plots::norm_against_loss(&out.join("norm_against_loss.svg"), &title, &ours)?;
    plots::loss_against_cost(&out.join("loss_against_cost.svg"), &title, &rows)?;
    println!("\n{}", summary.table());
    println!("summary.json, trace.jsonl and two plots are in {}", out.display());
    Ok(())
}

/// Every method that was asked for, from the same start.
fn train_all(arguments: &Arguments, setup: &Setup, config: &ConvexitySwitchingConfig) -> Result<Vec<Method>, Failure> {
    let never = ConvexitySwitchingConfig { detector: DetectorConfig::Never(NeverConfig {}), ..config.clone() };
    let adam = matches!(arguments.baseline, Baseline::Adam | Baseline::All);
    let cosine = matches!(arguments.baseline, Baseline::AdamCosine | Baseline::All);
    let mut finished = Vec::new();
    let mut baselines = |suffix: &str, epochs: usize| -> Result<(), Failure> {
        let setup = Setup { epochs, ..setup.clone() };
        if adam {
            let constant = ModuleLrScheduler::from(setup.lr);
            finished.push(methods::in_learner(&setup, &format!("adam{suffix}"), &never, constant)?);
        }
        if cosine {
            let decay = CosineAnnealingLrSchedulerConfig::new(setup.lr, epochs * setup.passes).init()?;
            finished.push(methods::in_learner(&setup, &format!("adam_cosine{suffix}"), &never, decay)?);
        }
        Ok(())
    };
    baselines("", setup.epochs)?;
    let ours = match arguments.protocol {
        Protocol::Default => methods::in_learner(setup, methods::OURS, config, ModuleLrScheduler::from(setup.lr))?,
        Protocol::Detector | Protocol::Paper => methods::in_own_loop(setup, methods::OURS, config)?,
    };
    // The published protocols count an iteration of conjugate gradients as an epoch, whatever its line search costs.
    let cost = ours.cost.round() as usize;
    if cost > setup.epochs {
        baselines("_equal_cost", cost)?;
    }
    finished.push(ours);
    Ok(finished)
}

/// The configuration of the method: the user's, or the published one.
fn config(arguments: &Arguments, epochs: usize) -> Result<ConvexitySwitchingConfig, Failure> {
    if let Some(path) = &arguments.config {
        return Ok(ConvexitySwitchingConfig::load(path)?);
    }
    let golden = LineSearchConfig::GoldenSection(GoldenSectionConfig::default());
    // The published swap is for good.
    let safe_resort = SafeResortConfig { enabled: false, ..SafeResortConfig::default() };
    let published = ConvexitySwitchingConfig { line_search: golden, safe_resort, ..ConvexitySwitchingConfig::paper() };
    Ok(match arguments.protocol {
        Protocol::Default => ConvexitySwitchingConfig::default(),
        Protocol::Detector => published,
        Protocol::Paper => {
            let window = (3 * epochs).div_ceil(10) as u64;
            ConvexitySwitchingConfig { detector: DetectorConfig::AtWindow(AtWindowConfig { window }), ..published }
        }
    })
}

/// The size of the transformer: the example's for the digits, the paper's for the larger sets.
fn size(arguments: &Arguments, defaults: Defaults, images: &super::data::Images) -> Result<VitConfig, Failure> {
    let base = if arguments.dataset == DataSet::Digits { defaults.size } else { VitConfig::default() };
    let size = VitConfig {
        channels: images.channels,
        side: images.side,
        classes: images.classes,
        layers: arguments.layers.unwrap_or(base.layers),
        width: arguments.width.unwrap_or(base.width),
        ..base
    };
    if size.width == 0 || !size.width.is_multiple_of(size.heads) || size.layers == 0 {
        return Err(format!("--width must be a multiple of {} and --layers at least 1", size.heads).into());
    }
    Ok(size)
}

fn folder(arguments: &Arguments, kind: ModelKind, loss: Loss) -> Result<PathBuf, Failure> {
    let name = format!("{}-{kind}-{loss}-seed{}", arguments.dataset, arguments.seed);
    let out = arguments.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    fs::create_dir_all(&out).map_err(|error| format!("cannot write to {}: {error}", out.display()))?;
    Ok(out)
}

/// Make the folder this run's own, or refuse.
fn claim(arguments: &Arguments, out: &Path, ours: &Value) -> Result<(), Failure> {
    let path = out.join("run.json");
    match fs::read_to_string(&path) {
        Ok(text) if arguments.resume => {
            let theirs: Value = serde_json::from_str(&text)?;
            let keys = ours.as_object().into_iter().flat_map(|object| object.keys());
            if let Some(key) = keys.into_iter().find(|key| theirs[key.as_str()] != ours[key.as_str()]) {
                return Err(format!(
                    "the run in {} has {key} {}, this one has {}: resume with its own options",
                    out.display(),
                    theirs[key.as_str()],
                    ours[key.as_str()]
                )
                .into());
            }
            return Ok(());
        }
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("cannot read {}: {error}", path.display()).into());
        }
        // Nobody knows the options of what lies there without it.
        Err(_) if !has_parts(out) => {}
        _ if arguments.force => {
            fs::remove_dir_all(out)?;
            fs::create_dir_all(out)?;
        }
        Ok(_) => {
            return Err(
                format!("there is a run in {}: --resume goes on with it, --force replaces it", out.display()).into()
            );
        }
        Err(_) => {
            let problem =
                format!("a run in {} lacks its run.json and cannot go on: --force replaces it", out.display());
            return Err(problem.into());
        }
    }
    fs::write(out.join(methods::TRACE), "")?;
    Ok(run::write_whole(&path, &serde_json::to_string_pretty(ours)?)?)
}

/// Whether there are parts of a run in a folder. An empty trace is none: it is there just before the options are.
fn has_parts(out: &Path) -> bool {
    let of_a_method = |folder: &Path| ["finished.json", "checkpoint"].iter().any(|part| folder.join(part).exists());
    let mut folders = fs::read_dir(out).into_iter().flatten().flatten();
    fs::metadata(out.join(methods::TRACE)).is_ok_and(|trace| trace.len() > 0)
        || folders.any(|entry| of_a_method(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use tempfile::TempDir;

    /// Holds the arguments of [`one_run`].
    const ARGUMENTS: &str = "BURN_CONVEXITY_ONE_RUN";
    const EPOCHS: usize = 10;

    #[test]
    #[ignore = "the other tests start it, in a process that can be killed and draws no random numbers for other tests"]
    fn one_run() {
        let Ok(arguments) = std::env::var(ARGUMENTS) else { return };
        let size = VitConfig { layers: 1, heads: 2, width: 8, side: 8, patch: 4, ..VitConfig::default() };
        let defaults = Defaults { model: ModelKind::VitNomlpWkewq, size, epochs: EPOCHS };
        run(&Arguments::parse_from(arguments.lines()), defaults).unwrap();
    }

    /// What one experiment is told, and the folder in which its runs have folders of their own.
    struct Experiment<'a> {
        root: &'a TempDir,
        arguments: &'a [&'a str],
    }

    impl Experiment<'_> {
        fn command(&self, name: &str, more: &[&str]) -> Command {
            let out = self.root.path().join(name).display().to_string();
            let few = ["vit", "--limit", "60", "--batch-size", "20", "--out", &out];
            let test = module_path!().split_once("::").unwrap().1.to_owned() + "::one_run";
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--ignored", "--exact", &test]).stdout(Stdio::null());
            command.env(ARGUMENTS, [&few, self.arguments, more].concat().join("\n"));
            command
        }

        /// Summary and trace of a run that ends by itself, but for the time it took and where it was resumed.
        fn run(&self, name: &str, more: &[&str]) -> (Value, Vec<Value>) {
            assert!(self.command(name, more).status().unwrap().success());
            let read = |file| fs::read_to_string(self.root.path().join(name).join(file)).unwrap();
            let mut summary: Value = serde_json::from_str(&read("summary.json")).unwrap();
            for method in summary["methods"].as_array_mut().unwrap() {
                method["seconds"].take();
                method["events"].as_array_mut().unwrap().retain(|event| event["event"] != "resumed");
            }
            let mut trace: Vec<Value> =
                read(methods::TRACE).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            trace.iter_mut().for_each(|row| drop(row["seconds"].take()));
            (summary, trace)
        }

        /// A run that is killed when the checkpoint of this epoch is there.
        fn killed(&self, name: &str, epoch: usize) {
            let checkpoint = format!("{name}/{}/checkpoint/model-{epoch}.bpk", methods::OURS);
            let checkpoint = self.root.path().join(checkpoint);
            let mut child = self.command(name, &[]).spawn().unwrap();
            while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A configuration that swaps early.
    fn swaps_at_4(root: &TempDir) -> String {
        let path = root.path().join("switching.json");
        fs::write(&path, r#"{ "detector": { "kind": "at_window", "window": 4 } }"#).unwrap();
        path.display().to_string()
    }

    #[test]
    fn the_same_seed_gives_the_same_numbers_bit_for_bit_and_another_seed_others() {
        let root = tempfile::tempdir().unwrap();
        let arguments = ["--config", &swaps_at_4(&root), "--baseline", "adam"];
        let experiment = Experiment { root: &root, arguments: &arguments };
        let [first, second, other] = [("first", "7"), ("second", "7"), ("other", "8")]
            .map(|(name, seed)| experiment.run(name, &["--seed", seed]));
        let rows = |phase: &str| first.1.iter().filter(|row| row["phase"] == phase).count();
        assert_eq!((rows("non_convex"), rows("convex")), (EPOCHS + 4, EPOCHS - 4));
        assert!(first.1.iter().all(|row| row["valid_loss"].is_f64()));
        assert_eq!(first, second);
        assert!(first.1.iter().zip(&other.1).all(|(row, other)| row["train_loss"] != other["train_loss"]));
    }

    #[test]
    fn a_run_killed_in_either_phase_goes_on_bit_for_bit() {
        let root = tempfile::tempdir().unwrap();
        let learner = ["--baseline", "none", "--config", &swaps_at_4(&root)];
        let own_loop = ["--baseline", "none", "--protocol", "paper"];
        for (kind, arguments) in [("learner", learner), ("own_loop", own_loop)] {
            let experiment = Experiment { root: &root, arguments: &arguments };
            let undisturbed = experiment.run(kind, &[]);
            for epoch in [1, 3, 4, 8] {
                let name = format!("{kind}_{epoch}");
                experiment.killed(&name, epoch);
                assert_eq!(experiment.run(&name, &["--resume"]), undisturbed, "{name}");
            }
        }
    }

    #[test]
    fn parts_of_a_run_without_its_options_are_no_part_of_another_one() {
        let root = tempfile::tempdir().unwrap();
        let arguments = ["--config", &swaps_at_4(&root), "--baseline", "none"];
        let experiment = Experiment { root: &root, arguments: &arguments };
        let undisturbed = experiment.run("parts", &[]);
        let folder = root.path().join("parts");
        fs::write(folder.join("mine.txt"), "").unwrap();
        fs::remove_file(folder.join("run.json")).unwrap();
        // What a removal that was killed may leave.
        for parts in [&[][..], &[methods::TRACE]] {
            parts.iter().for_each(|part| fs::remove_file(folder.join(part)).unwrap());
            for more in [&["--resume"][..], &[]] {
                let status = experiment.command("parts", more).stderr(Stdio::null()).status();
                assert!(!status.unwrap().success() && folder.join(methods::OURS).exists());
            }
        }
        assert_eq!(experiment.run("parts", &["--force"]), undisturbed);
        // Other files are in nobody's way.
        fs::create_dir(root.path().join("new")).unwrap();
        fs::write(root.path().join("new/mine.txt"), "").unwrap();
        assert_eq!(experiment.run("new", &[]), undisturbed);
        assert!(root.path().join("new/mine.txt").exists());
    }
}
