//! What can be wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

/// A configuration that cannot be had: its file, or what it says.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, a directory, or not ours to read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable {
        /// The file asked for.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file asked for.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The text was read and something in it is wrong: everything that is, in the order of the text. Shown a line each.
    #[error("{}", lines(name, diagnostics))]
    Invalid {
        /// The file, or whatever the caller calls the text.
        name: String,
        /// What is wrong; at least one.
        diagnostics: Vec<Diagnostic>,
    },
}

fn lines(name: &str, diagnostics: &[Diagnostic]) -> String {
    let line = |diagnostic: &Diagnostic| match &diagnostic.location {
        Some(location) => format!("{name}:{location}: {}", diagnostic.problem),
        None => format!("{name}: {}", diagnostic.problem),
    };
    diagnostics.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Where in the text; `None` for a configuration that was built in Rust.
    pub location: Option<Location>,
    /// Where in the configuration.
    pub path: Path,
    /// What.
    pub problem: Problem,
}

/// A place in a text; shown as `line:column`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// The same place in bytes, from its first to past its last.
    pub bytes: std::ops::Range<usize>,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A place in a configuration, such as `detector.of[1].threshold`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(pub Vec<Step>);

/// One step of a [`Path`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into an object, by key.
    Key(String),
    /// Into a list, by index.
    Index(usize),
}

impl Path {
    /// This path and one step more, by key.
    pub fn key(&self, key: &str) -> Self {
        self.then(Step::Key(key.to_owned()))
    }

    /// This path and one step more, by index.
    pub fn index(&self, index: usize) -> Self {
        self.then(Step::Index(index))
    }

    fn then(&self, step: Step) -> Self {
        Self(self.0.iter().cloned().chain([step]).collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the configuration");
        }
        for (depth, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if depth == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// What is wrong, as one sentence.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Bytes that are no text.
    #[error("the file is not UTF-8 text: save it as UTF-8")]
    NotUtf8,
    /// Text that is no JSON. Comments and trailing commas are allowed.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// A key nobody reads.
    #[error("unknown key \"{key}\" in {owner}; {}", choice("keys", nearest, valid))]
    UnknownKey {
        /// The key.
        key: String,
        /// The object it stands in, with its kind.
        owner: String,
        /// The most similar valid key, where one is similar.
        nearest: Option<String>,
        /// All valid keys there.
        valid: Vec<String>,
    },
    /// A key that belongs elsewhere.
    #[error("unknown key \"{key}\" in {owner}; {advice}")]
    Misplaced {
        /// The key.
        key: String,
        /// The object it stands in, with its kind.
        owner: String,
        /// What to do, in words.
        advice: String,
    },
    /// A key of an earlier version.
    #[error("\"{key}\" in {owner} is a key of an earlier version; {}", replacement(now))]
    DeprecatedKey {
        /// The key.
        key: String,
        /// The object it stands in, with its kind.
        owner: String,
        /// The key that has taken its place, if one has.
        now: Option<String>,
    },
    /// The same key twice in one object.
    #[error("duplicate key \"{key}\" in {owner}; it is first given at {first}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// The object it stands in.
        owner: String,
        /// Where it stands first.
        first: Location,
    },
    /// A key that has no default is not there.
    #[error("{owner} needs the key \"{key}\"")]
    MissingKey {
        /// The key.
        key: String,
        /// The object it belongs in, with its kind.
        owner: String,
    },
    /// An object that does not say what it is.
    #[error("{path} needs the key \"kind\"; {}", choice("kinds", &None, valid))]
    MissingKind {
        /// The object.
        path: Path,
        /// All kinds there are.
        valid: Vec<String>,
    },
    /// A name that is not among those there are.
    #[error("unknown {} \"{name}\" in {path}; {}", if *kind { "kind" } else { "value" },
        choice(if *kind { "kinds" } else { "values" }, nearest, valid))]
    UnknownName {
        /// Whether it names the kind of an object, or is a value.
        kind: bool,
        /// The name.
        name: String,
        /// The object whose kind, or the key whose value it is.
        path: Path,
        /// The most similar valid name, where one is similar.
        nearest: Option<String>,
        /// All valid names there.
        valid: Vec<String>,
    },
    /// A value of another type than its key takes.
    #[error("{path} must be {expected}, not {found}")]
    WrongType {
        /// The key.
        path: Path,
        /// Type and range, in words.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// A value of the right type outside its range.
    #[error("{path} must be {expected}, but is {found}")]
    OutOfRange {
        /// The key.
        path: Path,
        /// Type and range, in words.
        expected: String,
        /// The value.
        found: String,
    },
    /// Two values, each in its range, that do not go together.
    #[error("{} ({}) and {} ({}) contradict each other: {rule}; {}", paths[0], values[0], paths[1], values[1],
        other.as_ref().map_or("the latter is a default".into(), |at| format!("the latter is at {at}")))]
    Contradiction {
        /// Both keys; the diagnostic's own location is that of the first.
        paths: [Path; 2],
        /// Their values.
        values: [String; 2],
        /// The rule they break.
        rule: String,
        /// Where the second stands; `None` where it has its default.
        other: Option<Location>,
    },
    /// A JSON pointer to the configuration within a larger file leads nowhere.
    #[error("there is nothing at {pointer}{}", if valid.is_empty() { String::new() } else {
        format!("; {}", choice("keys there", nearest, valid)) })]
    NothingThere {
        /// The pointer.
        pointer: String,
        /// The most similar key of the last value that it leads to, where one is similar.
        nearest: Option<String>,
        /// All keys of that value.
        valid: Vec<String>,
    },
    /// What the schema did not foresee; a defect of this crate if ever seen.
    #[error("the configuration cannot be read: {0}")]
    Unforeseen(String),
}

impl Problem {
    /// A name for the sort of problem, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not-utf8",
            Self::Syntax(_) => "syntax",
            Self::UnknownKey { .. } | Self::Misplaced { .. } => "unknown-key",
            Self::DeprecatedKey { .. } => "deprecated-key",
            Self::DuplicateKey { .. } => "duplicate-key",
            Self::MissingKey { .. } => "missing-key",
            Self::MissingKind { .. } => "missing-kind",
            Self::UnknownName { .. } => "unknown-name",
            Self::WrongType { .. } => "wrong-type",
            Self::OutOfRange { .. } => "out-of-range",
            Self::Contradiction { .. } => "contradiction",
            Self::NothingThere { .. } => "nothing-there",
            Self::Unforeseen(_) => "unforeseen",
        }
    }

    /// Another place that the problem is about, and what it is to it.
    #[cfg(feature = "cli")]
    pub(crate) fn other(&self) -> Option<(&Location, &'static str)> {
        match self {
            Self::Contradiction { other: Some(other), .. } => Some((other, "the other value")),
            Self::DuplicateKey { first, .. } => Some((first, "the first of them")),
            _ => None,
        }
    }

    /// The name that was probably meant.
    pub fn nearest(&self) -> Option<&str> {
        match self {
            Self::UnknownKey { nearest, .. } | Self::UnknownName { nearest, .. } => nearest.as_deref(),
            Self::DeprecatedKey { now, .. } => now.as_deref(),
            _ => None,
        }
    }
}

fn choice(what: &str, nearest: &Option<String>, valid: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("did you mean \"{nearest}\"?"),
        None => format!("valid {what} are {}", super::check::quoted(valid)),
    }
}

fn replacement(now: &Option<String>) -> String {
    match now {
        Some(now) => format!("write \"{now}\" in its place"),
        None => "remove it".into(),
    }
}
