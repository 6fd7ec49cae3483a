//! Writes all mutants of a list into the sources at once, each behind a switch, so that one build has them all:
//!
//! ```text
//! weave-mutants LIST UNVIABLE
//! ```
//!
//! `LIST` is what `cargo mutants --list --json` printed, `UNVIABLE` a JSON list of the names of those to leave out. The
//! current folder is that of the package. Standard output gets the woven files as JSON; no file is written.
//!
//! Mutant `n` is the `n`th of the list, from 1. `a + b` becomes
//! `(if crate::mutant(7) { (a) - (b) } else if crate::mutant(8) { (a) * (b) } else { a + b })`, where `a` and `b` of the
//! last branch are woven themselves. Those of the other branches are not: one mutant at a time is on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use serde::{Deserialize, Serialize};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Expr, Stmt};

type Error = Box<dyn std::error::Error>;

/// A mutant as cargo-mutants lists it.
#[derive(Deserialize)]
struct Mutant {
    file: String,
    name: String,
    genre: String,
    replacement: String,
    span: Span,
}

#[derive(Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

/// A line and a column, in characters, both from 1.
#[derive(Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// What is printed: a woven file's text, and which mutants an error of the compiler at some place of it is about.
#[derive(Default, Serialize)]
struct Woven {
    text: String,
    /// Ranges of bytes with their mutants. The smallest that encloses an error has the guilty one.
    owners: Vec<(usize, usize, Vec<usize>)>,
}

#[derive(Serialize)]
struct Output {
    files: BTreeMap<String, Woven>,
    /// The names of those that cannot have a switch: in constants, and where a `let` is part of the condition.
    unviable: Vec<String>,
}

/// An expression, as far as the weaver must know it.
struct Place {
    range: Range<usize>,
    kind: Kind,
    /// A statement without semicolon or a match arm's body: what ends in `}` needs no comma or semicolon behind it here,
    /// what ends in `)` would.
    bare: bool,
}

enum Kind {
    /// The ranges of both sides and of the operator; `lets` where a side is or has a `let`.
    Binary {
        left: Range<usize>,
        operator: Range<usize>,
        right: Range<usize>,
        lets: bool,
    },
    Match,
    Let,
    Other,
}

/// Collects the expressions outside of constants.
struct Places<'t> {
    text: &'t str,
    /// The byte that each line begins at.
    lines: Vec<usize>,
    found: Vec<Place>,
    bare: HashSet<usize>,
    /// Bodies of functions that run when the program does.
    bodies: Vec<Range<usize>>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str) -> Result<Self, Error> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let mut places = Self { text, lines, found: Vec::new(), bare: HashSet::new(), bodies: Vec::new() };
        places.visit_file(&syn::parse_file(text)?);
        Ok(places)
    }

    /// The byte at a line and a column, in characters, both from 1.
    fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines[line - 1];
        start + self.text[start..].chars().take(column - 1).map(char::len_utf8).sum::<usize>()
    }

    fn range(&self, node: &impl Spanned) -> Range<usize> {
        let (start, end) = (node.span().start(), node.span().end());
        self.offset(start.line, start.column + 1)..self.offset(end.line, end.column + 1)
    }
}

/// Whether this part of a condition binds names.
fn lets(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => lets(&binary.left) || lets(&binary.right),
        _ => false,
    }
}

impl<'a> Visit<'a> for Places<'_> {
    fn visit_expr(&mut self, expression: &'a Expr) {
        let kind = match expression {
            Expr::Binary(binary) => Kind::Binary {
                left: self.range(&binary.left),
                operator: self.range(&binary.op),
                right: self.range(&binary.right),
                lets: lets(expression),
            },
            Expr::Match(_) => Kind::Match,
            Expr::Let(_) => Kind::Let,
            _ => Kind::Other,
        };
        let bare = self.bare.contains(&(expression as *const Expr as usize));
        self.found.push(Place { range: self.range(expression), kind, bare });
        visit::visit_expr(self, expression);
    }

    fn visit_stmt(&mut self, statement: &'a Stmt) {
        if let Stmt::Expr(expression, None) = statement {
            self.bare.insert(expression as *const Expr as usize);
        }
        visit::visit_stmt(self, statement);
    }

    fn visit_arm(&mut self, arm: &'a syn::Arm) {
        self.bare.insert(&*arm.body as *const Expr as usize);
        visit::visit_arm(self, arm);
    }

    fn visit_item_fn(&mut self, function: &'a syn::ItemFn) {
        if function.sig.constness.is_none() {
            self.bodies.push(self.range(&function.block));
            visit::visit_block(self, &function.block);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'a syn::ImplItemFn) {
        if function.sig.constness.is_none() {
            self.bodies.push(self.range(&function.block));
            visit::visit_block(self, &function.block);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'a syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.bodies.push(self.range(block));
            visit::visit_block(self, block);
        }
    }

    fn visit_item_const(&mut self, _: &'a syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'a syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'a syn::ImplItemConst) {}
    fn visit_trait_item_const(&mut self, _: &'a syn::TraitItemConst) {}
    fn visit_type(&mut self, _: &'a syn::Type) {}
    fn visit_pat(&mut self, _: &'a syn::Pat) {}
}

/// Mutants of one place.
struct Site {
    range: Range<usize>,
    braces: bool,
    /// Their numbers and what they have in the place's stead; at an empty place, the start of a body, what they return.
    branches: Vec<(usize, String)>,
}

/// Where a mutant goes, and the text of its branch.
fn place(places: &Places, mutant: &Mutant) -> Option<(Range<usize>, bool, String)> {
    let (text, Span { start, end }) = (places.text, &mutant.span);
    let span = places.offset(start.line, start.column)..places.offset(end.line, end.column);
    let encloses = |outer: &Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let replacement = &mutant.replacement;
    if mutant.genre == "FnValue" {
        let known = places.bodies.iter().any(encloses);
        return known.then(|| (span.start..span.start, false, replacement.clone()));
    }
    let place = (places.found.iter())
        .filter(|place| encloses(&place.range))
        // A field in its short form is an expression too, and it is the struct that is meant.
        .filter(|place| mutant.genre != "StructField" || place.range != span)
        .filter(|place| mutant.genre != "MatchArm" || matches!(place.kind, Kind::Match))
        .min_by_key(|place| place.range.len())?;
    let branch = match &place.kind {
        Kind::Binary { lets: true, .. } | Kind::Let => return None,
        Kind::Binary { left, operator, right, .. } if *operator == span => {
            format!("({}) {replacement} ({})", &text[left.clone()], &text[right.clone()])
        }
        _ => {
            let behind = &text[span.end..place.range.end];
            let behind =
                if mutant.genre == "StructField" { behind.strip_prefix(',').unwrap_or(behind) } else { behind };
            format!("{}{replacement}{behind}", &text[place.range.start..span.start])
        }
    };
    Some((place.range.clone(), place.bare && matches!(place.kind, Kind::Match), branch))
}

/// Writes `range` of the text with the sites in it. They are sorted, an outer one ahead of those within it.
fn weave(text: &str, range: Range<usize>, mut sites: &[Site], out: &mut Woven) {
    let mut at = range.start;
    while let Some((site, rest)) = sites.split_first() {
        let within = rest.partition_point(|inner| inner.range.start < site.range.end);
        let (inner, behind) = rest.split_at(within);
        out.text += &text[at..site.range.start];
        let start = out.text.len();
        let body = site.range.is_empty();
        let (open, close) = if site.braces { ("{ ", " }") } else { ("(", ")") };
        out.text += if body { "" } else { open };
        for (number, branch) in &site.branches {
            let start = out.text.len();
            out.text += &match body {
                true => format!("if crate::mutant({number}) {{ return {branch}; }} "),
                false => format!("if crate::mutant({number}) {{ {branch} }} else "),
            };
            out.owners.push((start, out.text.len(), vec![*number]));
        }
        if !body {
            out.text += "{ ";
            weave(text, site.range.clone(), inner, out);
            out.text += " }";
            out.text += close;
            out.owners.push((start, out.text.len(), site.branches.iter().map(|branch| branch.0).collect()));
        }
        at = site.range.end;
        sites = behind;
    }
    out.text += &text[at..range.end];
}

fn main() -> Result<(), Error> {
    let [list, unviable] = std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "two files, please")?;
    let list: Vec<Mutant> = serde_json::from_str(&std::fs::read_to_string(list)?)?;
    let known: HashSet<String> = serde_json::from_str(&std::fs::read_to_string(unviable)?)?;

    let mut by_file = BTreeMap::<&str, Vec<(usize, &Mutant)>>::new();
    for (index, mutant) in list.iter().enumerate() {
        by_file.entry(&mutant.file).or_default().push((index + 1, mutant));
    }
    let mut output = Output { files: BTreeMap::new(), unviable: Vec::new() };
    for (file, mutants) in by_file {
        let text = std::fs::read_to_string(file)?;
        let places = Places::of(&text)?;
        let mut sites = BTreeMap::<_, Site>::new();
        for (number, mutant) in mutants {
            let Some((range, braces, branch)) = place(&places, mutant) else {
                output.unviable.push(mutant.name.clone());
                continue;
            };
            if !known.contains(&mutant.name) {
                let site = sites.entry((range.start, range.end));
                let site = site.or_insert_with(|| Site { range, braces, branches: Vec::new() });
                site.branches.push((number, branch));
            }
        }
        // The start of a body comes ahead of an expression that starts there, that ahead of those within it.
        let mut sites: Vec<Site> = sites.into_values().collect();
        sites.sort_by_key(|site| (site.range.start, !site.range.is_empty(), Reverse(site.range.end)));
        let mut woven = Woven::default();
        weave(&text, 0..text.len(), &sites, &mut woven);
        output.files.insert(file.to_owned(), woven);
    }
    serde_json::to_writer(std::io::stdout(), &output)?;
    Ok(())
}
