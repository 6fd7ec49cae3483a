//! From a file to a configuration and back.

use std::path::Path as FilePath;

use super::check::check;
use super::document::{Document, Lines};
use super::error::{ConfigError, Diagnostic, Path, Problem};
use super::{ConvexitySwitchingConfig, rules};

impl ConvexitySwitchingConfig {
    /// Read a configuration from a JSON file, in which comments and trailing commas are allowed. What the file leaves
    /// out has its default.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] where the file cannot be read, or with everything that is wrong in it, each with line and column.
    pub fn load(path: impl AsRef<FilePath>) -> Result<Self, ConfigError> {
        Self::from_json(&read(path.as_ref())?, &path.as_ref().display().to_string())
    }

    /// Read a configuration from JSON text, as [`load`](Self::load) does; `name` stands for the file in errors.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with everything that is wrong, each with line and column.
    ///
    /// ```
    /// # use burn_convexity::config::ConvexitySwitchingConfig;
    /// let text = r#"{ "detector": { "kind": "gradient_norm_peak", "treshold": 0.8 } }"#;
    /// let error = ConvexitySwitchingConfig::from_json(text, "switching.json").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "switching.json:1:47: unknown key \"treshold\" in detector (gradient_norm_peak); did you mean \"threshold\"?"
    /// );
    /// ```
    pub fn from_json(text: &str, name: &str) -> Result<Self, ConfigError> {
        // Some editors open a text with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        diagnose(text, "").map_err(|diagnostics| ConfigError::Invalid { name: name.to_owned(), diagnostics })
    }

    /// Write the configuration to a file, in full: every default is spelled out.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] where the configuration is not [valid](Self::validate), or the file cannot be written.
    pub fn save(&self, path: impl AsRef<FilePath>) -> Result<(), ConfigError> {
        self.validate()?;
        let path = path.as_ref();
        let unwritable = |source| ConfigError::Unwritable { path: path.to_owned(), source };
        let json = serde_json::to_string_pretty(self).map_err(|error| unwritable(error.into()))?;
        std::fs::write(path, json + "\n").map_err(unwritable)
    }

    /// Check every range and every rule between parts, for a configuration that was built in Rust; a loaded one has
    /// passed.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] with the first mistake of every part, and once the parts are right with all that the schema finds.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut findings = rules::check(self);
        if findings.is_empty() {
            findings = check(&serde_json::json!(self));
        }
        if findings.is_empty() {
            return Ok(());
        }
        let diagnostics = findings
            .into_iter()
            .map(|finding| Diagnostic { location: None, path: finding.path, problem: finding.problem })
            .collect();
        Err(ConfigError::Invalid { name: "configuration".into(), diagnostics })
    }
}

/// The text of a file.
///
/// # Errors
///
/// [`ConfigError`] where there is none.
fn read(path: &FilePath) -> Result<String, ConfigError> {
    let bytes = std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    decode(bytes, path)
}

/// The text that the bytes of a file are.
pub(crate) fn decode(bytes: Vec<u8>, path: &FilePath) -> Result<String, ConfigError> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(&error.as_bytes()[..start]);
        let location = Some(Lines::of(&text).locate(start..start));
        let diagnostic = Diagnostic { location, path: Path::default(), problem: Problem::NotUtf8 };
        ConfigError::Invalid { name: path.display().to_string(), diagnostics: vec![diagnostic] }
    })?;
    // Some editors open a file with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(Into::into).unwrap_or(text))
}

/// The configuration at a JSON pointer in a text (`""` is the whole of it), or all that is wrong with it, in the order of
/// the text.
pub(crate) fn diagnose(text: &str, pointer: &str) -> Result<ConvexitySwitchingConfig, Vec<Diagnostic>> {
    findings(text, pointer).map_err(|mut diagnostics| {
        diagnostics.sort_by_key(|diagnostic| diagnostic.location.as_ref().map(|at| at.bytes.start));
        // One mistake, one message: the first found at a place explains the others there.
        diagnostics.dedup_by(|next, first| next.location == first.location && next.path == first.path);
        diagnostics
    })
}

fn findings(text: &str, pointer: &str) -> Result<ConvexitySwitchingConfig, Vec<Diagnostic>> {
    let document = Document::parse(text)?.focus(pointer)?;
    let (value, mut diagnostics) = document.to_value();
    diagnostics.extend(check(&value).into_iter().map(|finding| document.place(finding)));
    if !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    let config = serde_json::from_value(value).map_err(|error| {
        let problem = Problem::Unforeseen(error.to_string());
        vec![document.place(Path::default().value(problem))]
    })?;
    let diagnostics: Vec<_> = rules::check(&config).into_iter().map(|finding| document.place(finding)).collect();
    if diagnostics.is_empty() { Ok(config) } else { Err(diagnostics) }
}
