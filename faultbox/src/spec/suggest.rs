//! "Did you mean": names near a misspelt one, and quoting what the user wrote.

/// How much of a user's text an error repeats, in characters.
const QUOTED: usize = 60;

/// The text in quotes, escaped, and cut where it is too long to be worth reading.
pub(crate) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// `; did you mean: a, b?` with the candidates nearest to the word, or nothing when all are far.
pub(crate) fn did_you_mean<'n>(word: &str, candidates: impl Iterator<Item = &'n str>) -> String {
    let near = nearest(word, candidates);
    if near.is_empty() { String::new() } else { format!("; did you mean: {}?", near.join(", ")) }
}

/// The candidates with the least distance to the word, in the order given, each once. A third of
/// the word may be wrong: more is another word.
pub(crate) fn nearest<'n>(word: &str, candidates: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let length = word.chars().count();
    // Nothing that long is a near miss of a name, and the distance costs length × length.
    if length > QUOTED {
        return Vec::new();
    }
    let mut limit = (length / 3).clamp(1, 3);
    let mut near = Vec::new();
    for candidate in candidates {
        let distance = distance(&word.to_lowercase(), &candidate.to_lowercase());
        if distance < limit {
            limit = distance;
            near.clear();
        }
        if distance == limit && !near.contains(&candidate) {
            near.push(candidate);
        }
    }
    near
}

/// Edits between two words: insertions, deletions, replacements, and swaps of neighbours
/// (the optimal string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut two_above = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replace = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let swapped: &Vec<usize> = &two_above;
                least = least.min(swapped[j - 2] + 1);
            }
            row.push(least);
        }
        two_above = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_letters_are_one_edit() {
        assert_eq!(distance("wirte", "write"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn only_the_nearest_are_offered() {
        let names = ["write", "writev", "read", "close"];
        assert_eq!(nearest("wirte", names.into_iter()), ["write"]);
        assert_eq!(nearest("xyzzy", names.into_iter()), [""; 0]);
        assert_eq!(nearest("rite", ["write", "site", "far"].into_iter()), ["write", "site"]);
    }

    #[test]
    fn long_texts_are_cut() {
        let text = quoted(&"x".repeat(10_000));
        assert!(text.chars().count() < 70, "{text}");
        assert_eq!(quoted("a\"b"), r#""a\"b""#);
    }
}
