//! A file to start from, its schema beside it, and VS Code told of both.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path as FilePath, PathBuf};

use serde_json::json;

use super::cli::Answer;
use super::edit;
use super::shape::Shape;
use super::tree::{Content, Node, Tree, unquote};
use super::{PATTERNS, SCHEMA_FILE};
use crate::config::load::decode;
use crate::config::{ConfigError, ConvexitySwitchingConfig, Preset};

/// Comments are broken before this column.
const WIDTH: usize = 100;

/// Write the file and what belongs to it; the answer says what was written.
pub(super) fn init(mut path: PathBuf, preset: Preset, vscode: bool, force: bool) -> Answer {
    if path.is_dir() || path.extension().is_none() {
        path.push("switching.json");
    }
    if path.exists() && !force {
        return Err(format!("{} exists; write over it with --force", path.display()).into());
    }
    let schema = path.with_file_name(SCHEMA_FILE);
    let mut files = vec![(schema.clone(), schema_text()), (path, commented(preset))];
    if vscode {
        let settings = PathBuf::from(".vscode/settings.json");
        let present = match std::fs::read(&settings) {
            Ok(bytes) => decode(bytes, &settings)?,
            Err(error) if error.kind() == ErrorKind::NotFound => "{\n}\n".into(),
            Err(source) => return Err(ConfigError::Unreadable { path: settings, source }.into()),
        };
        let changed = with_settings(&present, &schema)
            .ok_or_else(|| format!("{} is no JSON object: put it right, or do without --vscode", settings.display()))?;
        files.push((settings, changed));
    }
    let mut lines = String::new();
    for (path, text) in files {
        write(&path, &text)?;
        lines += &format!("wrote {}\n", path.display());
    }
    Ok((lines, true))
}

/// The schema as it is written to files.
pub(super) fn schema_text() -> String {
    format!("{:#}\n", crate::config::schema().to_value())
}

/// Write a file, and the folder it is in.
pub(super) fn write(path: &FilePath, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let written = parent.map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(path, text));
    written.map_err(|source| ConfigError::Unwritable { path: path.to_owned(), source }.into())
}

/// The preset, every default spelled out, with the schema's word on every key above it.
fn commented(preset: Preset) -> String {
    let config = ConvexitySwitchingConfig { schema: Some(format!("./{SCHEMA_FILE}")), ..preset.config() };
    let text = serde_json::to_string_pretty(&config).expect("a configuration has string keys and finite numbers");
    let tree = Tree::of(&text);
    let mut comments = Vec::new();
    if let Some(root) = &tree.root {
        collect(root, Shape::root(), &text, 1, &mut comments);
    }
    let title: String = wrap(preset.description(), WIDTH).iter().map(|line| format!("// {line}\n")).collect();
    format!("{title}{}\n", edit::apply(&text, &comments))
}

fn collect(node: &Node, shape: Shape, text: &str, depth: usize, comments: &mut Vec<edit::Edit>) {
    let variant = shape.of(node, text);
    for property in node.properties() {
        let key = unquote(&text[property.key.clone()]);
        let Some(shape_of_key) = variant.property(&key) else { continue };
        let mut words = shape_of_key.description().to_owned();
        let names = shape_of_key.names().map(|(name, _)| name);
        let kinds = shape.kinds().map(|(kind, _)| kind).filter(|_| key == "kind");
        let names: Vec<&str> = names.chain(kinds).collect();
        if !names.is_empty() {
            words += &format!(" One of {}.", names.join(", "));
        }
        let indent = "  ".repeat(depth);
        let comment: String =
            wrap(&words, WIDTH - indent.len()).iter().map(|line| format!("// {line}\n{indent}")).collect();
        comments.push((property.key.start..property.key.start, comment));
        if let Some(value) = &property.value {
            collect(value, shape_of_key, text, depth + 1, comments);
        }
    }
    let items = shape.items();
    for element in node.elements() {
        items.into_iter().for_each(|items| collect(element, items, text, depth + 1, comments));
    }
}

fn wrap(words: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("there is a first line");
        if !line.is_empty() && line.chars().count() + word.chars().count() > width - 4 {
            lines.push(word.to_owned());
        } else {
            *line += if line.is_empty() { "" } else { " " };
            *line += word;
        }
    }
    lines
}

/// VS Code's settings with the schema tied to our file names, and these read as JSON with comments.
fn with_settings(settings: &str, schema: &FilePath) -> Option<String> {
    let url = format!("{}{}", if schema.is_absolute() { "" } else { "./" }, schema.display());
    if settings.contains(&json!(url).to_string()) {
        return Some(settings.to_owned());
    }
    let entry = json!({ "fileMatch": PATTERNS, "url": url });
    if let Some(range) = ours(settings) {
        return Some(edit::apply(settings, &[(range, entry.to_string())]));
    }
    let associations: Vec<String> = PATTERNS.iter().map(|pattern| format!("{}: \"jsonc\"", json!(pattern))).collect();
    let settings = insert(settings, "json.schemas", "[]", &[entry.to_string()])?;
    insert(&settings, "files.associations", "{}", &associations)
}

/// Where the entry stands that ties another schema of ours to the same file names.
fn ours(settings: &str) -> Option<Range<usize>> {
    let tree = Tree::of(settings);
    let entries = tree.root.as_ref()?.get(settings, "json.schemas")?.value.as_ref()?;
    let names = |entry: &&Node| -> Option<bool> {
        let names = entry.get(settings, "fileMatch")?.value.as_ref()?;
        let names: Vec<String> = serde_json::from_str(&settings[names.range.clone()]).ok()?;
        Some(names == PATTERNS)
    };
    entries.elements().iter().find(|entry| names(entry) == Some(true)).map(|entry| entry.range.clone())
}

/// The text with entries added to the list or object at a key, which is made where it is missing.
fn insert(text: &str, key: &str, empty: &str, entries: &[String]) -> Option<String> {
    let tree = Tree::of(text);
    let root = tree.root.as_ref().filter(|root| root.closed && matches!(root.content, Content::Object(_)))?;
    if root.get(text, key).is_some() {
        return fill(text, key, entries);
    }
    let property = format!("\"{key}\": {empty}");
    fill(&edit::apply(text, &edit::append(text, &tree, root, &[property])), key, entries)
}

/// The text with the entries that it lacks added to the list or object at a key that is there.
fn fill(text: &str, key: &str, entries: &[String]) -> Option<String> {
    let tree = Tree::of(text);
    let property = tree.root.as_ref()?.get(text, key)?;
    let target = property.value.as_ref().filter(|value| value.closed && !value.is_scalar())?;
    let entries: Vec<String> = entries.iter().filter(|entry| !text.contains(entry.as_str())).cloned().collect();
    match entries.is_empty() {
        true => Some(text.to_owned()),
        false => Some(edit::apply(text, &edit::append(text, &tree, target, &entries))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::document::Document;

    #[test]
    fn every_starting_file_is_its_preset() {
        for preset in Preset::ALL {
            let text = commented(preset);
            let config = ConvexitySwitchingConfig::from_json(&text, "switching.json").unwrap();
            assert_eq!(ConvexitySwitchingConfig { schema: None, ..config }, preset.config());
            assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        }
    }

    #[test]
    fn settings_keep_what_they_have() {
        let settings =
            "{\n  // mine\n  \"json.schemas\": [{ \"url\": \"x\" }], // theirs\n  \"editor.tabSize\": 2\n}\n";
        let changed = with_settings(settings, FilePath::new("s.json")).unwrap();
        for part in ["// mine", "// theirs", "{ \"url\": \"x\" }, {", "\"./s.json\"", "\"*switching*.json\": \"jsonc\""]
        {
            assert!(changed.contains(part), "{part} in {changed}");
        }
        assert_eq!(with_settings(&changed, FilePath::new("s.json")).unwrap(), changed);
        // Another place of the same schema takes the first's.
        let moved = with_settings(&changed, FilePath::new("sub/s.json")).unwrap();
        assert_eq!(moved, changed.replace("./s.json", "./sub/s.json"));
        let commented = "{ \"editor.tabSize\": 2, \"json.schemas\": [ { \"url\": \"x\" } // mine\n ] // all\n}";
        let changed = with_settings(commented, FilePath::new("/s.json")).unwrap();
        let read = Document::parse(&changed).ok().unwrap().to_value().0;
        assert_eq!(read["json.schemas"][1]["url"], "/s.json", "{changed}");
        assert_eq!(read["files.associations"]["*switching*.json"], "jsonc", "{changed}");
        assert!(with_settings("[]", FilePath::new("s.json")).is_none());
        assert!(with_settings("{}", FilePath::new("s.json")).is_some());
    }
}
