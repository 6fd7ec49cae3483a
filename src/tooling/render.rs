//! What is wrong, for people, for programs and for GitHub's annotations.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::{Value, json};

use crate::config::{Diagnostic, Problem};

/// How diagnostics are shown.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Format {
    /// With the lines they are about.
    Human,
    /// A list of objects.
    Json,
    /// Workflow commands, which GitHub shows beside the lines of a change.
    Github,
}

/// The report on some files.
pub(super) struct Report {
    format: Format,
    color: bool,
    text: String,
    objects: Vec<Value>,
    files: usize,
    unreadable: usize,
    problems: usize,
}

impl Report {
    pub fn new(format: Format, color: bool) -> Self {
        Self { format, color, text: String::new(), objects: Vec::new(), files: 0, unreadable: 0, problems: 0 }
    }

    /// Take in what is wrong with a file.
    pub fn add(&mut self, name: &str, text: &str, diagnostics: Vec<Diagnostic>) {
        self.files += 1;
        self.problems += diagnostics.len();
        for diagnostic in &diagnostics {
            match self.format {
                Format::Human => self.text += &(human(name, text, diagnostic, self.color) + "\n\n"),
                Format::Json => self.objects.push(object(name, text, diagnostic)),
                Format::Github => self.text += &github(name, text, diagnostic),
            }
        }
    }

    /// A file that cannot be read, which is told elsewhere.
    pub fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// The report, and whether nothing is wrong.
    pub fn finish(self) -> (String, bool) {
        let plural = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (files, problems) = (plural(self.files, "file"), plural(self.problems, "problem"));
        let text = match self.format {
            Format::Human if self.unreadable > 0 => {
                format!("{}{files} checked: {problems}, {} unreadable\n", self.text, self.unreadable)
            }
            Format::Human => format!("{}{files} checked: {problems}\n", self.text),
            Format::Json => format!("{:#}\n", Value::Array(self.objects)),
            Format::Github => self.text,
        };
        (text, self.problems == 0)
    }
}

fn human(name: &str, text: &str, diagnostic: &Diagnostic, color: bool) -> String {
    let problem = &diagnostic.problem;
    let title = Level::ERROR.primary_title(problem.to_string()).id(problem.code());
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    // Where the bytes are no text there is no line to show.
    let Some(place) = diagnostic.location.as_ref().filter(|place| place.bytes.end <= text.len()) else {
        let at = diagnostic.location.as_ref().map(|place| format!(":{place}")).unwrap_or_default();
        let title = Level::ERROR.primary_title(format!("{problem}: {name}{at}")).id(problem.code());
        return renderer.render(&[annotate_snippets::Group::with_title(title)]);
    };
    let mut snippet = Snippet::source(text).line_start(1).path(name);
    snippet = snippet.annotation(AnnotationKind::Primary.span(place.bytes.clone()).label(label(problem)));
    if let Some((other, words)) = problem.other() {
        snippet = snippet.annotation(AnnotationKind::Context.span(other.bytes.clone()).label(words));
    }
    renderer.render(&[title.element(snippet)])
}

/// What stands beside the underlined place.
fn label(problem: &Problem) -> String {
    match problem.nearest() {
        Some(nearest) => format!("help: write \"{nearest}\""),
        None => match problem {
            Problem::WrongType { expected, .. } | Problem::OutOfRange { expected, .. } => format!("must be {expected}"),
            Problem::Contradiction { rule, .. } => rule.clone(),
            _ => String::new(),
        },
    }
}

/// Line and column past the end of a diagnostic.
fn end(text: &str, diagnostic: &Diagnostic) -> Option<(usize, usize)> {
    let before = text.get(..diagnostic.location.as_ref()?.bytes.end)?;
    let line = before.rfind('\n').map_or(0, |at| at + 1);
    Some((before.matches('\n').count() + 1, before[line..].chars().count() + 1))
}

fn object(name: &str, text: &str, diagnostic: &Diagnostic) -> Value {
    let place = diagnostic.location.as_ref();
    let end = end(text, diagnostic);
    json!({
        "file": name,
        "line": place.map(|place| place.line),
        "column": place.map(|place| place.column),
        "end_line": end.map(|end| end.0),
        "end_column": end.map(|end| end.1),
        "path": diagnostic.path.to_string(),
        "code": diagnostic.problem.code(),
        "message": diagnostic.problem.to_string(),
        "suggestion": diagnostic.problem.nearest(),
    })
}

fn github(name: &str, text: &str, diagnostic: &Diagnostic) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    let mut command = format!("::error file={}", property(name));
    if let Some(place) = &diagnostic.location {
        command += &format!(",line={},col={}", place.line, place.column);
        // GitHub takes an end column only within the line.
        if let Some((line, column)) = end(text, diagnostic).filter(|(line, _)| *line == place.line) {
            command += &format!(",endLine={line},endColumn={column}");
        }
    }
    let problem = &diagnostic.problem;
    format!("{command},title={}::{}\n", problem.code(), escape(&problem.to_string()))
}
