//! The configuration in force, and where each of its values comes from.

use super::cli::{Answer, Source};
use super::tree::{Node, Tree, unquote};
use crate::config::document::Document;
use crate::config::load::diagnose;
use crate::config::{ConfigError, Path};

/// The effective configuration, itself valid, with the origin of every value in a comment behind it.
pub(super) fn explain(source: &Source) -> Answer {
    let text = source.read()?;
    let name = source.path.display().to_string();
    let refuse = |diagnostics| ConfigError::Invalid { name: name.clone(), diagnostics };
    let config = diagnose(&text, &source.pointer).map_err(refuse)?;
    let document = Document::parse(&text).and_then(|document| document.focus(&source.pointer)).map_err(refuse)?;

    let effective = serde_json::to_string_pretty(&config)?;
    let tree = Tree::of(&effective);
    let mut origins = Vec::new();
    if let Some(root) = &tree.root {
        leaves(root, &effective, &Path::default(), &mut |end, path| {
            let origin = document.value_at(path).map_or("default".into(), |at| format!("{name}:{}", at.line));
            origins.push((end, origin));
        });
    }
    let width = effective.lines().map(|line| line.chars().count()).max().unwrap_or_default() + 2;
    let (mut explained, mut start) = (String::new(), 0);
    for line in effective.lines() {
        let end = start + line.len();
        match origins.iter().find(|(at, _)| (start..=end).contains(at)) {
            Some((_, origin)) => explained += &format!("{line:width$}// {origin}\n"),
            None => explained += &format!("{line}\n"),
        }
        start = end + 1;
    }
    Ok((explained, true))
}

/// Every value that holds no further one: where it ends, and its path.
fn leaves(node: &Node, text: &str, path: &Path, tell: &mut impl FnMut(usize, &Path)) {
    if node.is_scalar() {
        tell(node.range.end, path);
    }
    for property in node.properties() {
        if let Some(value) = &property.value {
            leaves(value, text, &path.key(&unquote(&text[property.key.clone()])), tell);
        }
    }
    for (index, element) in node.elements().iter().enumerate() {
        leaves(element, text, &path.index(index), tell);
    }
}
