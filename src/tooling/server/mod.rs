//! The language server: what an editor knows of a configuration while it is typed.

use std::collections::HashMap;

use lsp_server::{Connection, ErrorCode, Message, Notification, ProtocolError, Request, Response};
use lsp_types::notification::{
    DidChangeConfiguration, DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, Exit, Notification as _,
    PublishDiagnostics,
};
use lsp_types::request::{
    CodeActionRequest, Completion, DocumentSymbolRequest, Formatting, HoverRequest, Request as _, Shutdown,
};
use lsp_types::{
    CodeAction, CodeActionKind, CodeActionOptions, CodeActionParams, CompletionOptions, CompletionParams,
    DiagnosticRelatedInformation, DiagnosticSeverity, DiagnosticTag, DidChangeConfigurationParams,
    DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams, DocumentFormattingParams,
    DocumentSymbolParams, DocumentSymbolResponse, HoverParams, InitializeParams, Location, NumberOrString, OneOf,
    PositionEncodingKind, PublishDiagnosticsParams, ServerCapabilities, TextDocumentPositionParams,
    TextDocumentSyncCapability, TextDocumentSyncKind, TextEdit, Uri, WorkspaceEdit,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::edit;
use super::format::format;
use super::tree::Tree;
use super::{MAX_BYTES, SCHEMA_FILE};
use crate::config::load::diagnose;
use crate::config::{Diagnostic, Problem};

mod actions;
mod complete;
mod cursor;
mod hover;
mod position;
mod symbols;

use position::Lines;

/// The name under which the server reports and is configured.
const NAME: &str = "burn-convexity";

/// Serve one client until it says `exit` or goes away.
///
/// The client may set `pointers` in its `initializationOptions`, or under `burn-convexity` in its settings: an object of
/// file patterns (`*` stands for anything) and the JSON pointer to the configuration within such a file, for example
/// `{ "pointers": { "train.json": "/optimizer" } }`.
///
/// Says whether the client took its leave by `shutdown` before it went.
///
/// # Errors
///
/// [`ProtocolError`] where the client does not begin as the protocol has it.
pub fn serve(connection: &Connection) -> Result<bool, ProtocolError> {
    let capabilities = ServerCapabilities {
        position_encoding: Some(PositionEncodingKind::UTF16),
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::INCREMENTAL)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some(["\"", ":", " "].map(Into::into).into()),
            ..Default::default()
        }),
        hover_provider: Some(true.into()),
        code_action_provider: Some(
            CodeActionOptions {
                code_action_kinds: Some(vec![CodeActionKind::QUICKFIX, CodeActionKind::REFACTOR_REWRITE]),
                ..Default::default()
            }
            .into(),
        ),
        document_formatting_provider: Some(OneOf::Left(true)),
        document_symbol_provider: Some(OneOf::Left(true)),
        ..Default::default()
    };
    let (id, params) = connection.initialize_start()?;
    let info = json!({ "name": NAME, "version": env!("CARGO_PKG_VERSION") });
    connection.initialize_finish(id, json!({ "capabilities": capabilities, "serverInfo": info }))?;
    // A client that describes itself oddly is served as one that can do nothing.
    let params: InitializeParams = serde_json::from_value(params).unwrap_or_default();
    let completion = params.capabilities.text_document.and_then(|document| document.completion);
    let mut server = Server {
        connection,
        open: HashMap::new(),
        pointers: pointers(&params.initialization_options.unwrap_or_default()).unwrap_or_default(),
        snippets: completion.and_then(|completion| completion.completion_item?.snippet_support).unwrap_or(false),
    };
    Ok(server.run())
}

struct Server<'c> {
    connection: &'c Connection,
    /// The open files, by address.
    open: HashMap<String, Open>,
    /// Where the configuration stands in files of a name, from the client's settings.
    pointers: Vec<(String, String)>,
    /// Whether the client understands tab stops.
    snippets: bool,
}

struct Open {
    uri: Uri,
    version: i32,
    text: String,
}

/// What one request is about: a text and the pointer to the configuration in it.
struct Subject<'s> {
    uri: &'s Uri,
    text: &'s str,
    pointer: String,
}

impl Server<'_> {
    fn run(&mut self) -> bool {
        // In their order: an answer takes less than what cancels it.
        let mut leaving = false;
        loop {
            let Ok(message) = self.connection.receiver.recv() else { return leaving };
            match message {
                Message::Request(request) => {
                    let response = if leaving {
                        let message = "the server is shutting down".to_owned();
                        Response::new_err(request.id, ErrorCode::InvalidRequest as i32, message)
                    } else if request.method == Shutdown::METHOD {
                        leaving = true;
                        Response::new_ok(request.id, ())
                    } else {
                        self.answer(request)
                    };
                    self.send(response.into());
                }
                Message::Notification(notification) if notification.method == Exit::METHOD => return leaving,
                Message::Notification(notification) => self.hear(notification),
                Message::Response(_) => {}
            }
        }
    }

    /// A client that no longer listens is noticed by the next read.
    fn send(&self, message: Message) {
        let _ = self.connection.sender.send(message);
    }

    fn answer(&self, request: Request) -> Response {
        match request.method.as_str() {
            Completion::METHOD => respond(request, |params: CompletionParams| {
                let (subject, offset) = self.at(&params.text_document_position)?;
                Some(complete::complete(subject.text, &subject.pointer, offset, self.snippets))
            }),
            HoverRequest::METHOD => respond(request, |params: HoverParams| {
                let (subject, offset) = self.at(&params.text_document_position_params)?;
                hover::hover(subject.text, &subject.pointer, offset)
            }),
            CodeActionRequest::METHOD => respond(request, |params: CodeActionParams| Some(self.actions(&params))),
            Formatting::METHOD => respond(request, |params: DocumentFormattingParams| {
                let subject = self.subject(&params.text_document.uri)?;
                let width = params.options.tab_size.min(16) as usize;
                let indent = if params.options.insert_spaces { " ".repeat(width) } else { "\t".into() };
                reformat(subject.text, &indent)
            }),
            DocumentSymbolRequest::METHOD => respond(request, |params: DocumentSymbolParams| {
                let subject = self.subject(&params.text_document.uri).filter(Subject::is_readable)?;
                Some(DocumentSymbolResponse::Nested(symbols::symbols(subject.text, &subject.pointer)))
            }),
            method => {
                let message = format!("{method} is not a request this server knows");
                Response::new_err(request.id, ErrorCode::MethodNotFound as i32, message)
            }
        }
    }

    fn hear(&mut self, notification: Notification) {
        let Notification { method, params } = notification;
        match method.as_str() {
            DidOpenTextDocument::METHOD => {
                let Some(DidOpenTextDocumentParams { text_document: document }) = read(params) else { return };
                let open = Open { uri: document.uri, version: document.version, text: document.text };
                self.publish(&open);
                self.open.insert(open.uri.as_str().to_owned(), open);
            }
            DidChangeTextDocument::METHOD => {
                let Some(DidChangeTextDocumentParams { text_document, content_changes }) = read(params) else { return };
                let Some(open) = self.open.get_mut(text_document.uri.as_str()) else { return };
                open.version = text_document.version;
                for change in content_changes {
                    position::apply(&mut open.text, change);
                }
                self.publish(&self.open[text_document.uri.as_str()]);
            }
            DidCloseTextDocument::METHOD => {
                let Some(DidCloseTextDocumentParams { text_document }) = read(params) else { return };
                self.open.remove(text_document.uri.as_str());
                self.tell(PublishDiagnosticsParams::new(text_document.uri, Vec::new(), None));
            }
            DidChangeConfiguration::METHOD => {
                let Some(DidChangeConfigurationParams { settings }) = read(params) else { return };
                // Settings that say nothing of them leave those of the beginning.
                let Some(pointers) = pointers(settings.get(NAME).unwrap_or(&settings)) else { return };
                self.pointers = pointers;
                self.open.values().for_each(|open| self.publish(open));
            }
            // Saving, tracing and whatever else a client tells changes nothing here.
            _ => {}
        }
    }

    fn publish(&self, open: &Open) {
        // A file that is none of ours may have been one until the last change: its diagnostics are none.
        let diagnostics = self.subject_of(open).map(|subject| subject.diagnostics());
        self.tell(PublishDiagnosticsParams::new(open.uri.clone(), diagnostics.unwrap_or_default(), Some(open.version)));
    }

    fn tell(&self, params: PublishDiagnosticsParams) {
        self.send(Notification::new(PublishDiagnostics::METHOD.into(), params).into());
    }

    /// An open file, if it holds a configuration.
    fn subject(&self, uri: &Uri) -> Option<Subject<'_>> {
        self.subject_of(self.open.get(uri.as_str())?)
    }

    fn subject_of<'s>(&self, open: &'s Open) -> Option<Subject<'s>> {
        let Open { uri, text, .. } = open;
        let path = uri.path().as_estr().decode().into_string_lossy();
        let name = path.rsplit('/').next().unwrap_or_default();
        let fits = |(pattern, _): &&(String, String)| {
            matches(pattern, name)
                || pattern.contains('/') && matches(&format!("*/{}", pattern.trim_start_matches('/')), &path)
        };
        let pointer = match self.pointers.iter().find(fits) {
            Some((_, pointer)) => pointer.clone(),
            None if is_ours(name, text) => String::new(),
            None => return None,
        };
        Some(Subject { uri, text, pointer })
    }

    fn at(&self, place: &TextDocumentPositionParams) -> Option<(Subject<'_>, usize)> {
        let subject = self.subject(&place.text_document.uri).filter(Subject::is_readable)?;
        let offset = Lines::of(subject.text).offset(place.position);
        Some((subject, offset))
    }

    fn actions(&self, params: &CodeActionParams) -> Vec<CodeAction> {
        let Some(subject) = self.subject(&params.text_document.uri).filter(Subject::is_readable) else {
            return Vec::new();
        };
        let lines = Lines::of(subject.text);
        let (start, end) = (lines.offset(params.range.start), lines.offset(params.range.end));
        let actions = actions::actions(subject.text, &subject.pointer, start..end.max(start), &subject.problems());
        let wanted = |kind: &CodeActionKind| {
            let only = params.context.only.as_ref();
            only.is_none_or(|only| only.iter().any(|only| kind.as_str().starts_with(only.as_str())))
        };
        let action = |action: actions::Action| CodeAction {
            title: action.title,
            is_preferred: action.fixes.as_ref().map(|_| action.preferred),
            diagnostics: action.fixes.map(|fixed| vec![subject.show(&lines, &fixed)]),
            kind: Some(action.kind),
            edit: Some(WorkspaceEdit::new(HashMap::from([(subject.uri.clone(), action.edits)]))),
            ..Default::default()
        };
        actions.into_iter().filter(|action| wanted(&action.kind)).map(action).collect()
    }
}

impl Subject<'_> {
    fn is_readable(&self) -> bool {
        self.text.len() <= MAX_BYTES
    }

    fn problems(&self) -> Vec<Diagnostic> {
        if !self.is_readable() {
            let problem = Problem::Syntax(format!("no configuration is larger than {} MiB", MAX_BYTES >> 20));
            let location = Some(crate::config::Location { line: 1, column: 1, bytes: 0..0 });
            return vec![Diagnostic { location, path: Default::default(), problem }];
        }
        diagnose(self.text, &self.pointer).err().unwrap_or_default()
    }

    fn diagnostics(&self) -> Vec<lsp_types::Diagnostic> {
        let lines = Lines::of(self.text);
        self.problems().iter().map(|problem| self.show(&lines, problem)).collect()
    }

    fn show(&self, lines: &Lines, diagnostic: &Diagnostic) -> lsp_types::Diagnostic {
        let range = diagnostic.location.as_ref().map(|location| lines.range(location.bytes.clone()));
        let related = diagnostic.problem.other().map(|(place, message)| {
            let location = Location::new(self.uri.clone(), lines.range(place.bytes.clone()));
            vec![DiagnosticRelatedInformation { location, message: message.into() }]
        });
        let deprecated = matches!(diagnostic.problem, Problem::DeprecatedKey { .. });
        lsp_types::Diagnostic {
            range: range.unwrap_or_default(),
            tags: deprecated.then(|| vec![DiagnosticTag::DEPRECATED]),
            severity: Some(DiagnosticSeverity::ERROR),
            code: Some(NumberOrString::String(diagnostic.problem.code().into())),
            source: Some(NAME.into()),
            message: diagnostic.problem.to_string(),
            related_information: related,
            ..Default::default()
        }
    }
}

/// The change that formats a text, if it is JSON and not formatted yet.
fn reformat(text: &str, indent: &str) -> Option<Vec<TextEdit>> {
    let is_json = |problem: &Diagnostic| !matches!(problem.problem, Problem::Syntax(_));
    if text.len() > MAX_BYTES || !diagnose(text, "").err().unwrap_or_default().iter().all(is_json) {
        return None;
    }
    // The line ends of a file stay.
    let formatted = format(text, indent).replace("\r\n", "\n").replace('\n', edit::line_break(text));
    if formatted == text {
        return Some(Vec::new());
    }
    let common = |a: &mut dyn Iterator<Item = char>, b: &mut dyn Iterator<Item = char>| -> usize {
        a.zip(b).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
    };
    let start = common(&mut text.chars(), &mut formatted.chars());
    let end = common(&mut text[start..].chars().rev(), &mut formatted[start..].chars().rev());
    let range = Lines::of(text).range(start..text.len() - end);
    Some(vec![TextEdit::new(range, formatted[start..formatted.len() - end].to_owned())])
}

fn respond<P: DeserializeOwned, R: serde::Serialize>(
    request: Request,
    answer: impl FnOnce(P) -> Option<R>,
) -> Response {
    match serde_json::from_value(request.params) {
        Ok(params) => Response::new_ok(request.id, answer(params)),
        Err(error) => {
            let message = format!("{}: {error}", request.method);
            Response::new_err(request.id, ErrorCode::InvalidParams as i32, message)
        }
    }
}

fn read<P: DeserializeOwned>(params: Value) -> Option<P> {
    serde_json::from_value(params).inspect_err(|error| log::warn!("a notification is not understood: {error}")).ok()
}

fn pointers(options: &Value) -> Option<Vec<(String, String)>> {
    let pointers = options.get("pointers")?.as_object()?.iter();
    Some(pointers.filter_map(|(pattern, pointer)| Some((pattern.clone(), pointer.as_str()?.to_owned()))).collect())
}

/// Whether a file is a configuration: its `$schema` says so or, where it has none, its name.
fn is_ours(name: &str, text: &str) -> bool {
    // Reading a tree of what may be any JSON file is for those that speak of a schema.
    let schema = (text.len() <= MAX_BYTES && text.contains("\"$schema\""))
        .then(|| Tree::of(text).root?.string(text, "$schema"))
        .flatten();
    match schema {
        Some(schema) => schema.ends_with(SCHEMA_FILE),
        None => super::PATTERNS.iter().any(|pattern| matches(pattern, name)) && !name.ends_with(".schema.json"),
    }
}

/// Whether a name fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_known_by_its_schema_or_its_name() {
        let ours = r#"{ "$schema": "../schema/convexity-switching.schema.json" "#;
        let other = r#"{ "$schema": "https://example.org/other.json" }"#;
        for (name, text, expected) in [
            ("switching.json", "{", true),
            ("my-switching-2.json", "", true),
            ("vit.convexity.json", "{}", true),
            ("train.json", "{}", false),
            ("train.json", ours, true),
            ("switching.json", other, false),
            ("convexity-switching.schema.json", "{}", false),
            ("train.json", r#"{ "detector": { "$schema": "convexity-switching.schema.json" } }"#, false),
        ] {
            assert_eq!(is_ours(name, text), expected, "{name} {text}");
        }
    }
}
