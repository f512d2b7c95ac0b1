//! Which globs lie in which place of the table that the programs match paths by.

use faultbox_common::{Globs, MAX_GLOB_SETS};

use super::{EngineError, PathGlob, tables::Tables};

/// The places of the table. One that nobody uses any more keeps its globs until it is needed, and
/// with them all that the programs have found out about open files.
pub(super) struct GlobSets {
    /// By place; the first stays empty, as it means no globs.
    places: Vec<Place>,
    epoch: u64,
}

#[derive(Clone, Default)]
struct Place {
    globs: Vec<PathGlob>,
    /// Rule sets that name it.
    users: u32,
}

impl Default for GlobSets {
    fn default() -> Self {
        Self { places: vec![Place::default(); MAX_GLOB_SETS as usize], epoch: 0 }
    }
}

impl GlobSets {
    /// The place whose globs are those of another place and one more, and the bit of that one
    /// there. Bits of the other place mean the same in the new one. A place that is not the other
    /// has one more user, which gives the other up.
    pub(super) fn extend(
        &mut self,
        tables: &Tables,
        place: u32,
        glob: &PathGlob,
    ) -> Result<(u32, u32), EngineError> {
        let known = &self.places[place as usize].globs;
        if let Some(bit) = known.iter().position(|it| it == glob) {
            return Ok((place, 1 << bit));
        }
        let mut globs = known.clone();
        globs.push(glob.clone());
        let bit = 1 << (globs.len() - 1);
        let there = self.places.iter().position(|it| it.globs == globs);
        let place = match there {
            Some(place) => place,
            None => self.fill(tables, globs)?,
        };
        self.places[place].users += 1;
        Ok((place as u32, bit))
    }

    /// Takes a user from a place.
    pub(super) fn release(&mut self, place: u32) {
        let users = &mut self.places[place as usize].users;
        *users = users.saturating_sub(1);
    }

    fn fill(&mut self, tables: &Tables, globs: Vec<PathGlob>) -> Result<usize, EngineError> {
        let unused = || self.places.iter().enumerate().skip(1).filter(|(_, it)| it.users == 0);
        let free = unused().find(|(_, it)| it.globs.is_empty()).or_else(|| unused().next());
        let Some((place, _)) = free else {
            let text = format!("paths of active faults in {MAX_GLOB_SETS} combinations or more");
            return Err(EngineError(text));
        };
        self.epoch += 1;
        let mut compiled = Box::new(Globs::EMPTY);
        compiled.compile(globs.iter().map(|glob| glob.as_str().as_bytes())).map_err(|error| {
            let last = globs.last().map_or("", PathGlob::as_str);
            EngineError(format!("path {last:?} {error}"))
        })?;
        compiled.epoch = self.epoch;
        tables.fill_globs(place as u32, &compiled);
        self.places[place].globs = globs;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(text: &str) -> PathGlob {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_globs_share_a_place_and_bits_stay_as_they_are() {
        let (tables, mut sets) = (Tables::new(None).unwrap(), GlobSets::default());
        let (one, bit) = sets.extend(&tables, 0, &glob("/a")).unwrap();
        assert_eq!(bit, 1);
        assert_eq!(sets.extend(&tables, 0, &glob("/a")).unwrap(), (one, 1));
        assert_eq!(sets.extend(&tables, one, &glob("/a")).unwrap(), (one, 1));
        let (two, bit) = sets.extend(&tables, one, &glob("/b")).unwrap();
        assert_eq!(bit, 2);
        assert_ne!(one, two);
        assert_eq!(tables.place(two, b"/a").globs, 1);
        assert_eq!(tables.place(two, b"/b").globs, 2);
        assert_eq!(tables.place(one, b"/b").globs, 0);
    }

    #[test]
    fn a_place_is_used_again_only_when_nobody_needs_it() {
        let (tables, mut sets) = (Tables::new(None).unwrap(), GlobSets::default());
        let mut places = Vec::new();
        for i in 1..MAX_GLOB_SETS {
            places.push(sets.extend(&tables, 0, &glob(&format!("/{i}"))).unwrap().0);
        }
        assert!(sets.extend(&tables, 0, &glob("/one-more")).is_err());
        sets.release(places[7]);
        assert_eq!(sets.extend(&tables, 0, &glob("/one-more")).unwrap().0, places[7]);
        assert_eq!(tables.place(places[7], b"/one-more").globs, 1);
        assert_eq!(tables.place(places[7], b"/8").globs, 0);
    }
}
