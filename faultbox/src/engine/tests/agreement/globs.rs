//! Globs that match some of the world's files: a path with parts of it made wild.

use super::{super::super::PathGlob, Random, world::World};

/// A glob that can be compiled.
pub(super) fn random(random: &mut Random, world: &World) -> PathGlob {
    loop {
        let path = world.some_path(random);
        if let Ok(glob) = wild(random, path).parse() {
            return glob;
        }
    }
}

fn wild(random: &mut Random, path: &str) -> String {
    let mut names: Vec<String> = path
        .split('/')
        .filter(|name| !name.is_empty())
        .map(|name| wild_name(random, name))
        .collect();
    // A long glob leaves no room for others on the same call.
    while !names.is_empty() && random.below(3) > 0 {
        let first = random.below(names.len());
        let last = first + random.below(names.len() - first);
        names.splice(first..=last, ["**".to_owned()]);
    }
    if random.one_in(6) {
        let keep = random.below(names.len() + 1);
        names.truncate(keep);
        names.push("**".to_owned());
    }
    let joined = names.join("/");
    if joined.starts_with("**") && random.one_in(2) { joined } else { format!("/{joined}") }
}

fn wild_name(random: &mut Random, name: &str) -> String {
    match random.below(9) {
        0 => "*".to_owned(),
        1 => {
            let at = cut(random, name);
            format!("{}*", &name[..at])
        }
        2 => {
            let at = cut(random, name);
            format!("*{}", &name[at..])
        }
        3 => {
            let at = cut(random, name);
            let start = cut(random, &name[..at]);
            format!("{}*{}", &name[..start], &name[at..])
        }
        4 | 5 => {
            // One character in each of up to four places.
            let mut parts: Vec<String> = name.chars().map(String::from).collect();
            for _ in 0..=random.below(4) {
                let at = random.below(parts.len());
                let old = parts[at].clone();
                parts[at] = match random.below(5) {
                    0 => "?".to_owned(),
                    1 => "[a-z]".to_owned(),
                    2 => "[!a-m]".to_owned(),
                    3 if old.len() == 1 && old != "\\" => format!("[{old}0]"),
                    _ if old.len() == 1 => format!("\\{old}"),
                    _ => old,
                };
            }
            parts.concat()
        }
        _ => name.to_owned(),
    }
}

/// A place between two characters.
fn cut(random: &mut Random, name: &str) -> usize {
    let places: Vec<_> = name.char_indices().map(|(at, _)| at).chain([name.len()]).collect();
    *random.pick(&places)
}
