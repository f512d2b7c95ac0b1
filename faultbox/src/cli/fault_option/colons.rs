//! The form with colons: `ERRNO:PROB%[:GLOB][:nth=N|:after=N]` and
//! `delay:DUR:PROB%[:GLOB][:nth=N|:after=N]` (language.md 2.8).

use std::num::NonZeroU64;

use crate::{
    engine::{Action, Errno, Probability},
    spec::{did_you_mean, parse_duration, quoted},
};

use super::{Effect, Wrong};

/// A part between colons, and where it starts.
type Part<'t> = (usize, &'t str);

/// Reads what is behind the `=`, which ends at byte `start`.
pub(super) fn read(text: &str, start: usize) -> Result<Effect, Wrong> {
    let mut at = start;
    let mut parts = Vec::new();
    for part in text[start..].split(':') {
        parts.push((at, part));
        at += part.len() + 1;
    }
    let mut parts = parts.into_iter();
    // Splitting yields one part at least.
    let (at, name) = parts.next().unwrap_or((start, ""));
    let action = if name == "delay" {
        let (at, time) = parts.next().unwrap_or((text.len(), ""));
        let time = parse_duration(time).ok_or_else(|| {
            let what = format!("bad duration {}; use e.g. delay:500ms:10%", quoted(time));
            Wrong::new(at, what)
        })?;
        Action::Delay(time)
    } else {
        Action::Deny(errno(at, name)?)
    };
    let probability = probability(text, parts.next())?;
    let mut rest: Vec<_> = parts.collect();
    let mut effect = Effect { probability, ..Effect::always(action) };
    if let Some(&(at, last)) = rest.last()
        && let Some((name @ ("nth" | "after"), count)) = last.split_once('=')
    {
        rest.pop();
        let count: Option<NonZeroU64> = count.parse().ok();
        let count = count.ok_or_else(|| {
            Wrong::new(at, format!("{name}= must be a whole number from 1, as in {name}=3"))
        })?;
        match name {
            "nth" => effect.nth = Some(count),
            _ => effect.after = count.get(),
        }
    }
    // A path may contain colons itself.
    if let (Some(&(first, _)), Some(&(last, end))) = (rest.first(), rest.last()) {
        let glob = &text[first..last + end.len()];
        let glob = glob.parse().map_err(|error| {
            let what = if glob.starts_with(['/', '*']) {
                format!("the path {} {error}", quoted(glob))
            } else {
                format!(
                    "{} is neither a path, which starts with / or **/, nor nth=N or after=N",
                    quoted(glob)
                )
            };
            Wrong::new(first, what)
        })?;
        effect.path = Some(glob);
    }
    Ok(effect)
}

fn errno(at: usize, name: &str) -> Result<Errno, Wrong> {
    Errno::from_name(name).ok_or_else(|| {
        let near = did_you_mean(name, Errno::names().chain(["delay"]));
        let near = if near.is_empty() { "; use e.g. EIO:10% or delay:500ms:10%" } else { &near };
        Wrong::new(at, format!("unknown errno {}{near}", quoted(name)))
    })
}

fn probability(text: &str, part: Option<Part<'_>>) -> Result<Probability, Wrong> {
    let Some((at, percent)) = part else {
        let what = "a probability is required, as in EIO:100%";
        return Err(Wrong::new(text.len(), what));
    };
    percent.parse().map_err(|()| {
        let what = format!("bad probability {}; use 0% to 100%", quoted(percent));
        Wrong::new(at, what)
    })
}
