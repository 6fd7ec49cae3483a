//! The command line.

use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use lsp_server::Connection;

use super::render::{Format, Report};
use super::{MAX_BYTES, explain, init};
use crate::config::load::{decode, diagnose};
use crate::config::{ConfigError, Preset};

/// The configuration of burn-convexity: write it, check it, explain it, and serve editors.
#[derive(Parser)]
#[command(name = "burn-convexity", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the JSON schema of this version.
    Schema {
        /// Write it to a file instead.
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// Write a commented configuration to start from, and its schema beside it.
    Init {
        /// The file, or the folder it goes to (a name without an extension is a folder's).
        #[arg(default_value = "switching.json")]
        path: PathBuf,
        /// What to start from.
        #[arg(long, value_enum, default_value = "default")]
        preset: PresetName,
        /// Tell VS Code of the schema, in .vscode/settings.json.
        #[arg(long)]
        vscode: bool,
        /// Write over an existing configuration.
        #[arg(long)]
        force: bool,
    },
    /// Check configurations. Exit code 0: all are right; 1: something is wrong; 2: a file cannot be read.
    Check {
        /// The files. A configuration within another is named by a JSON pointer: train.json#/optimizer.
        #[arg(required = true, value_name = "FILE[#/POINTER]")]
        files: Vec<Source>,
        /// How to say what is wrong.
        #[arg(long, value_enum, default_value = "human")]
        format: Format,
    },
    /// Print a configuration with its defaults filled in, and where each value comes from. Exit codes as of `check`.
    Explain {
        /// The file. A configuration within another is named by a JSON pointer: train.json#/optimizer.
        #[arg(value_name = "FILE[#/POINTER]")]
        file: Source,
    },
    /// Serve an editor: the language server protocol on standard input and output.
    Lsp {
        /// What most clients add; there is nothing else.
        #[arg(long, hide = true)]
        stdio: bool,
    },
    /// Merge runs of the examples into one page with their plots and tables.
    Report(super::report::ReportArgs),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Clone)]
struct PresetName(Preset);

impl ValueEnum for PresetName {
    fn value_variants<'a>() -> &'a [Self] {
        const NAMES: [PresetName; 4] = [
            PresetName(Preset::Default),
            PresetName(Preset::Paper),
            PresetName(Preset::ConjugateGradient),
            PresetName(Preset::Careful),
        ];
        &NAMES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.0.name()).help(self.0.description()))
    }
}

/// A configuration in a file, or in a part of one.
#[derive(Clone)]
pub(super) struct Source {
    pub path: PathBuf,
    /// The JSON pointer to it, empty for the whole file.
    pub pointer: String,
}

impl From<OsString> for Source {
    fn from(argument: OsString) -> Self {
        let text = argument.to_string_lossy();
        // What stands behind the file's name, though it may be no pointer, which is told then.
        let of_a_file = || text.rfind('#').filter(|at| Path::new(&text[..*at]).is_file());
        match text.find("#/").or_else(|| text.strip_suffix('#').map(str::len)).or_else(of_a_file) {
            Some(at) if !Path::new(&argument).exists() => {
                Self { path: text[..at].into(), pointer: text[at + 1..].to_owned() }
            }
            _ => Self { path: argument.into(), pointer: String::new() },
        }
    }
}

impl Source {
    /// The text of the file.
    pub fn read(&self) -> Result<String, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: self.path.clone(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&self.path).map_err(unreadable)?;
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() > MAX_BYTES {
            let message = format!("no configuration is larger than {} MiB", MAX_BYTES >> 20);
            return Err(unreadable(std::io::Error::other(message)));
        }
        decode(bytes, &self.path)
    }
}

/// What a command answers: the text for standard output, and whether all is well.
pub(super) type Answer = Result<(String, bool), Box<dyn std::error::Error>>;

/// Run the command with the arguments of a process, the first of which is its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = match Cli::try_parse_from(arguments) {
        Ok(Cli { command }) => command,
        Err(error) => {
            // A closed pipe is no reason to fail louder.
            let _ = error.print();
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    // An invalid configuration is an answer, where one was asked about.
    let asked = matches!(command, Command::Explain { .. });
    let answer = match command {
        Command::Schema { write: None } => Ok((init::schema_text(), true)),
        Command::Schema { write: Some(path) } => {
            init::write(&path, &init::schema_text()).map(|()| (String::new(), true))
        }
        Command::Init { path, preset, vscode, force } => init::init(path, preset.0, vscode, force),
        Command::Check { files, format } => return check(&files, format),
        Command::Explain { file } => explain::explain(&file),
        Command::Lsp { .. } => lsp(),
        Command::Report(arguments) => match super::report::report(&arguments) {
            Ok(written) => Ok((format!("{written}\n"), true)),
            Err(error) => Err(error.into()),
        },
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "burn-convexity", &mut script);
            Ok((String::from_utf8_lossy(&script).into_owned(), true))
        }
    };
    match answer {
        Ok((text, well)) => {
            print(&text);
            ExitCode::from(if well { 0 } else { 1 })
        }
        Err(error) => {
            eprintln!("error: {error}");
            let invalid = matches!(error.downcast_ref(), Some(ConfigError::Invalid { .. }));
            ExitCode::from(if asked && invalid { 1 } else { 2 })
        }
    }
}

fn print(text: &str) {
    // Whoever closes the pipe has read enough.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn check(files: &[Source], format: Format) -> ExitCode {
    let color = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut report = Report::new(format, color);
    let mut unreadable = false;
    for source in files {
        let name = source.path.display().to_string();
        match source.read() {
            Ok(text) => report.add(&name, &text, diagnose(&text, &source.pointer).err().unwrap_or_default()),
            Err(ConfigError::Invalid { diagnostics, .. }) => report.add(&name, "", diagnostics),
            Err(error) => {
                eprintln!("error: {error}");
                report.unreadable();
                unreadable = true;
            }
        }
    }
    let (text, well) = report.finish();
    print(&text);
    ExitCode::from(if unreadable { 2 } else { u8::from(!well) })
}

fn lsp() -> Answer {
    let (connection, threads) = Connection::stdio();
    let well = super::serve(&connection)?;
    // The writer ends when the last sender is gone.
    drop(connection);
    threads.join()?;
    Ok((String::new(), well))
}
