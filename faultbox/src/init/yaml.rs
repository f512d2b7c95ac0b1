//! YAML as a tree. Aliases share what they stand for, and what `<<` merges is counted, so that no
//! file can blow up; how deep values nest is bounded, aliases included, so that no walk through
//! them can overflow the stack.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

/// Compose files nest some six deep.
const DEEPEST: usize = 64;

/// As many entries may all `<<` of a file merge together.
const MOST_MERGED: usize = 100_000;

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Yaml {
    /// `null`, `~` or nothing.
    Null,
    /// Any other scalar, as written but for quotes and escapes.
    Text(String),
    List(Vec<Rc<Node>>),
    /// In the order written.
    Map(Vec<(String, Rc<Node>)>),
}

/// A value and where it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) value: Yaml,
    /// Line and column, from 1.
    pub(super) place: (usize, usize),
    /// Levels of values in it, itself included.
    depth: usize,
}

/// What is wrong with a file, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct YamlError {
    pub(super) place: (usize, usize),
    pub(super) text: String,
}

impl Node {
    /// The scalar, if it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Yaml::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a key of a map, unless it is null.
    pub(super) fn get(&self, key: &str) -> Option<&Rc<Node>> {
        let found = self.entries().iter().find(|(it, _)| it == key);
        found.map(|(_, value)| value).filter(|it| it.value != Yaml::Null)
    }

    /// The entries of a map, those that `<<` has merged into it last.
    pub(super) fn entries(&self) -> &[(String, Rc<Node>)] {
        match &self.value {
            Yaml::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The elements of a list.
    pub(super) fn elements(&self) -> &[Rc<Node>] {
        match &self.value {
            Yaml::List(elements) => elements,
            _ => &[],
        }
    }
}

/// Puts the entries of what `<<` names into a map, but for keys that it has itself, and returns
/// how many there were to look at.
fn merge(map: &mut Vec<(String, Rc<Node>)>) -> usize {
    let Some(at) = map.iter().position(|(key, _)| key == "<<") else {
        return 0;
    };
    let (_, merged) = map.remove(at);
    let mut keys: HashSet<String> = map.iter().map(|(key, _)| key.clone()).collect();
    let mut count = 0;
    for source in [&merged].into_iter().chain(merged.elements()) {
        for (key, value) in source.entries() {
            count += 1;
            if keys.insert(key.clone()) {
                map.push((key.clone(), Rc::clone(value)));
            }
        }
    }
    count
}

/// A list or map whose end has not come yet.
struct Open {
    value: Yaml,
    place: (usize, usize),
    depth: usize,
    anchor: usize,
    /// The key of a map whose value comes next.
    key: Option<String>,
}

/// The first document of a file. Keys must be scalars.
pub(super) fn parse(text: &str) -> Result<Rc<Node>, YamlError> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Rc<Node>> = HashMap::new();
    let mut merged = 0;
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        let place = (span.start.line(), span.start.col() + 1);
        let wrong = |text: &str| Err(YamlError { place, text: text.to_owned() });
        let (node, anchor) = match event {
            Event::SequenceStart(anchor, _) => {
                open.push(Open {
                    value: Yaml::List(Vec::new()),
                    place,
                    depth: 0,
                    anchor,
                    key: None,
                });
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open {
                    value: Yaml::Map(Vec::new()),
                    place,
                    depth: 0,
                    anchor,
                    key: None,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { mut value, place, depth, anchor, .. }) = open.pop() else {
                    return wrong("an end without a beginning");
                };
                if let Yaml::Map(entries) = &mut value {
                    merged += merge(entries);
                }
                if merged > MOST_MERGED {
                    return wrong("<<: merges too much");
                }
                (Rc::new(Node { value, place, depth: depth + 1 }), anchor)
            }
            Event::Scalar(text, style, anchor, _) => {
                let is_null = style == ScalarStyle::Plain
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if is_null { Yaml::Null } else { Yaml::Text(text.into_owned()) };
                (Rc::new(Node { value, place, depth: 1 }), anchor)
            }
            Event::Alias(anchor) => match anchors.get(&anchor) {
                Some(node) => (Rc::clone(node), 0),
                None => return wrong("an alias within what it stands for"),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => continue,
        };
        if node.depth > DEEPEST || open.len() > DEEPEST {
            return wrong("values nest too deep");
        }
        if anchor > 0 {
            anchors.insert(anchor, Rc::clone(&node));
        }
        let Some(parent) = open.last_mut() else {
            return Ok(node);
        };
        parent.depth = parent.depth.max(node.depth);
        match (&mut parent.value, parent.key.take()) {
            (Yaml::List(elements), _) => elements.push(node),
            (Yaml::Map(entries), Some(key)) => entries.push((key, node)),
            (_, _) => match &node.value {
                Yaml::Text(key) => parent.key = Some(key.clone()),
                _ => return wrong("a key must be a word"),
            },
        }
    }
    Ok(Rc::new(Node { value: Yaml::Null, place: (1, 1), depth: 1 }))
}

fn scan_error(error: &ScanError) -> YamlError {
    let (place, text) = (error.marker(), error.info().to_owned());
    YamlError { place: (place.line(), place.col() + 1), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_lists_scalars_aliases_and_merges_are_read() {
        let tree = parse(
            "base: &base {a: 1, b: 'x y'}\nlist:\n  - one\n  - *base\nmap:\n  <<: *base\n  b: ~\n  \
             c: \"\"\n",
        )
        .unwrap();
        let map = tree.get("map").unwrap();
        assert_eq!(map.get("a").and_then(|it| it.text()), Some("1"));
        let keys: Vec<_> = map.entries().iter().map(|(key, _)| &**key).collect();
        assert_eq!(keys, ["b", "c", "a"]);
        assert_eq!(map.get("c").and_then(|it| it.text()), Some(""));
        let list = tree.get("list").unwrap();
        assert_eq!((list.elements()[0].text(), list.place), (Some("one"), (3, 3)));
        assert_eq!(list.elements()[1].get("b").and_then(|it| it.text()), Some("x y"));
        assert_eq!(parse("").unwrap().value, Yaml::Null);
    }

    #[test]
    fn what_would_blow_up_or_overflow_is_refused_or_shared() {
        let bomb = |size| {
            let line = |i| format!("a{i}: &a{i} [*a{0}, *a{0}]\n", i - 1);
            (1..size).fold("a0: &a0 [x, x]\n".to_owned(), |bomb, i| bomb + &line(i))
        };
        assert!(parse(&bomb(60)).is_ok());
        assert_eq!(parse(&bomb(200)).unwrap_err().text, "values nest too deep");
        let line = |i| format!("a{i}: &a{i} {{<<: [*a{0}, *a{0}], k{i}: 1}}\n", i - 1);
        let merges = (1..30).fold("a0: &a0 {k: 1}\n".to_owned(), |all, i| all + &line(i));
        assert_eq!(parse(&merges).unwrap().get("a29").unwrap().entries().len(), 30);
        let keys: Vec<_> = (0..1000).map(|i| format!("k{i}: 1")).collect();
        let many = format!("a: &a {{{}}}\n", keys.join(", "));
        let many = (0..101).fold(many, |all, i| all + &format!("b{i}: {{<<: *a}}\n"));
        assert_eq!(parse(&many).unwrap_err().text, "<<: merges too much");
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&"- ".repeat(100_000)).is_err());
        assert!(parse("a: &a [*a]\n").is_err());
        assert!(parse("[1, 2]: x\n").is_err());
        assert_eq!(parse("a: 1\n b: 2\n").unwrap_err().place.0, 2);
    }
}
