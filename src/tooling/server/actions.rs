//! Code actions: what can be put right by itself.

use std::ops::Range;

use lsp_types::{CodeActionKind, TextEdit};

use super::super::edit;
use super::super::shape::Shape;
use super::super::tree::{Node, Tree, unquote};
use super::position::Lines;
use crate::config::{Diagnostic, Problem};

/// A change on offer.
pub(super) struct Action {
    pub title: String,
    pub kind: CodeActionKind,
    /// The diagnostic it puts right.
    pub fixes: Option<Diagnostic>,
    /// Whether that is what was meant, as far as one can tell.
    pub preferred: bool,
    pub edits: Vec<TextEdit>,
}

/// What can be done about the diagnostics that meet a range, and about the object at its start.
pub(super) fn actions(text: &str, pointer: &str, range: Range<usize>, diagnostics: &[Diagnostic]) -> Vec<Action> {
    let (tree, lines) = (Tree::of(text), Lines::of(text));
    let edit = |(range, insert): (Range<usize>, String)| TextEdit::new(lines.range(range), insert);
    let mut actions = Vec::new();
    for diagnostic in diagnostics {
        let Some(at) = diagnostic.location.as_ref().map(|location| location.bytes.clone()) else { continue };
        if at.start > range.end || at.end < range.start {
            continue;
        }
        let meant = diagnostic.problem.nearest().map(|nearest| format!("Change to \"{nearest}\""));
        let mut fix_by = |title: String, changes: Option<Vec<edit::Edit>>| {
            actions.extend(changes.map(|changes| Action {
                preferred: meant.as_ref() == Some(&title),
                title,
                kind: CodeActionKind::QUICKFIX,
                fixes: Some(diagnostic.clone()),
                edits: changes.into_iter().map(edit).collect(),
            }));
        };
        let mut fix = |title: String, change: Option<edit::Edit>| fix_by(title, change.map(|change| vec![change]));
        let around = || tree.root.as_ref().and_then(|root| object_with(root, &at));
        match &diagnostic.problem {
            Problem::UnknownName { nearest: None, valid, .. } => {
                for name in valid {
                    fix(format!("Change to \"{name}\""), Some((at.clone(), format!("\"{name}\""))));
                }
            }
            Problem::MissingKind { valid, .. } => {
                for kind in valid {
                    let object = around().filter(|object| object.range == at);
                    let insert = format!("\"kind\": \"{kind}\"");
                    fix(format!("Make it \"{kind}\""), object.map(|object| edit::prepend(text, object, &insert)));
                }
            }
            Problem::UnknownKey { .. }
            | Problem::Misplaced { .. }
            | Problem::DeprecatedKey { .. }
            | Problem::DuplicateKey { .. } => {
                if let Some(nearest) = diagnostic.problem.nearest() {
                    fix(format!("Change to \"{nearest}\""), Some((at.clone(), format!("\"{nearest}\""))));
                }
                let key = text[at.clone()].to_owned();
                let removed = around().and_then(|object| edit::remove(text, &tree, object, at.start));
                fix_by(format!("Remove {key}"), removed);
            }
            problem => {
                if let Some(nearest) = problem.nearest() {
                    fix(format!("Change to \"{nearest}\""), Some((at.clone(), format!("\"{nearest}\""))));
                }
            }
        }
    }
    if let Some((object, missing)) = missing(&tree, text, pointer, range.start) {
        actions.push(Action {
            title: "Insert the missing keys with their defaults".into(),
            kind: CodeActionKind::REFACTOR_REWRITE,
            fixes: None,
            preferred: false,
            edits: edit::append(text, &tree, object, &missing).into_iter().map(edit).collect(),
        });
    }
    actions
}

/// The innermost object that is this range or has a key there.
fn object_with<'t>(node: &'t Node, at: &Range<usize>) -> Option<&'t Node> {
    let within = node.properties().iter().filter_map(|property| property.value.as_ref()).chain(node.elements());
    let inner = within.filter(|child| child.range.start <= at.start && at.end <= child.range.end);
    inner.filter_map(|child| object_with(child, at)).next().or_else(|| {
        let is_it = node.range == *at || node.properties().iter().any(|property| property.key == *at);
        is_it.then_some(node)
    })
}

/// The innermost object of the configuration around a place, and the keys it leaves to their defaults.
fn missing<'t>(tree: &'t Tree, text: &str, pointer: &str, offset: usize) -> Option<(&'t Node, Vec<String>)> {
    let mut node = tree.focus(text, pointer)?;
    let (mut shape, mut found) = (Shape::root(), None);
    loop {
        let child = if node.elements().is_empty() {
            shape = shape.of(node, text);
            found = Some((node, shape));
            let holds = |value: &&Node| value.surrounds(offset);
            node.properties().iter().find_map(|property| {
                let value = property.value.as_ref().filter(holds)?;
                Some((value, shape.property(&unquote(&text[property.key.clone()]))?))
            })
        } else {
            let child = node.elements().iter().find(|element| element.surrounds(offset));
            child.and_then(|child| Some((child, shape.items()?)))
        };
        let Some(child) = child.filter(|(child, _)| !child.is_scalar()) else { break };
        (node, shape) = child;
    }
    let (object, shape) = found.filter(|(object, _)| object.surrounds(offset) && object.closed)?;
    let lacks = |key: &str| object.get(text, key).is_none();
    let missing: Vec<String> = shape
        .properties()
        .filter(|(key, _)| lacks(key))
        .filter_map(|(key, shape)| Some(format!("\"{key}\": {}", shape.usual()?)))
        .collect();
    (!missing.is_empty()).then_some((object, missing))
}
