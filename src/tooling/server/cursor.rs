//! Where a cursor stands in a configuration: at which key or value, and what the schema says of the place.

use super::super::shape::Shape;
use super::super::tree::{Content, Node, Property, TokenKind, Tree, unquote};
use crate::config::Path;

pub(super) struct Cursor<'t> {
    /// The key or element the cursor is at; for a key still to come, the object.
    pub path: Path,
    /// What the schema says of it; `None` where it knows nothing.
    pub shape: Option<Shape>,
    /// The object around, all its variants open.
    pub owner: Option<Shape>,
    pub place: Place<'t>,
}

pub(super) enum Place<'t> {
    /// At a key of the object, or where a further one may come.
    Key { object: &'t Node, property: Option<&'t Property> },
    /// At a value that is no object or list, or where one is due.
    Value { node: Option<&'t Node> },
}

impl<'t> Cursor<'t> {
    /// The cursor at a place in a text whose configuration stands at the pointer.
    pub fn at(tree: &'t Tree, text: &str, pointer: &str, offset: usize) -> Option<Self> {
        if tree.in_comment(offset) {
            return None;
        }
        let (mut path, mut shape, mut owner) = (Path::default(), Some(Shape::root()), None);
        let Some(mut node) = tree.focus(text, pointer) else {
            let is_empty = tree.root.is_none() && pointer.is_empty();
            return is_empty.then_some(Self { path, shape, owner, place: Place::Value { node: None } });
        };
        loop {
            let touches = |node: &Node| node.is_scalar() && node.range.start <= offset && offset <= node.range.end;
            if touches(node) {
                return Some(Self { path, shape, owner, place: Place::Value { node: Some(node) } });
            }
            if !node.surrounds(offset) {
                return None;
            }
            let holds = |node: &&Node| node.surrounds(offset) || touches(node);
            match &node.content {
                Content::Object(properties) => {
                    owner = shape;
                    shape = shape.map(|shape| shape.of(node, text));
                    let into = |property: &Property| {
                        let key = unquote(&text[property.key.clone()]);
                        (path.key(&key), shape.and_then(|shape| shape.property(&key)))
                    };
                    let at_key = |property: &&Property| property.key.start < offset && offset <= property.key.end;
                    if let Some(property) = properties.iter().find(at_key) {
                        let (path, shape) = into(property);
                        return Some(Self {
                            path,
                            shape,
                            owner,
                            place: Place::Key { object: node, property: Some(property) },
                        });
                    }
                    let value = |property: &'t Property| Some((property, property.value.as_ref().filter(holds)?));
                    if let Some((property, value)) = properties.iter().find_map(value) {
                        (path, shape) = into(property);
                        node = value;
                        continue;
                    }
                    // At the edge of a bracket nothing is due.
                    if properties.iter().any(|property| property.range().end == offset && property.value.is_some()) {
                        return None;
                    }
                    if tree.before(offset)?.kind == TokenKind::Colon {
                        let property = properties.iter().rev().find(|property| property.key.end <= offset)?;
                        if property.value.as_ref().is_some_and(|value| value.range.start <= offset) {
                            return None;
                        }
                        let (path, shape) = into(property);
                        return Some(Self { path, shape, owner, place: Place::Value { node: None } });
                    }
                    return Some(Self { path, shape, owner, place: Place::Key { object: node, property: None } });
                }
                Content::Array(elements) => {
                    let index = elements.iter().position(|element| holds(&element));
                    shape = shape.and_then(Shape::items);
                    owner = None;
                    let Some(index) = index else {
                        let index = elements.iter().filter(|element| element.range.end <= offset).count();
                        let due = matches!(tree.before(offset)?.kind, TokenKind::OpenArray | TokenKind::Comma);
                        let place = Place::Value { node: None };
                        return due.then_some(Self { path: path.index(index), shape, owner, place });
                    };
                    path = path.index(index);
                    node = &elements[index];
                }
                Content::Scalar => return None,
            }
        }
    }

    /// The name of the key the cursor is at, or whose value it is at.
    pub fn key(&self) -> Option<&str> {
        match self.path.0.last()? {
            crate::config::Step::Key(key) => Some(key),
            crate::config::Step::Index(_) => None,
        }
    }
}
