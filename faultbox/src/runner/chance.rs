//! Where a rule's stream of chance starts. The same seed, service, keyword and declaration give
//! the same decisions at the same matches, whatever else the test does.

/// The stream of the `index`th rule that a test declares by this keyword on this service.
/// `part` tells apart the parts that one declared rule is installed as.
///
/// FNV-1a over all of it, then the finalizer of splitmix64, since FNV alone leaves neighbouring
/// seeds with neighbouring values.
pub(crate) fn stream(seed: u64, service: &str, keyword: &str, index: u32, part: u32) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        // Neither name contains a zero byte, so it separates them.
        .chain(service.bytes())
        .chain([0])
        .chain(keyword.bytes())
        .chain([0])
        .chain(index.to_le_bytes())
        .chain(part.to_le_bytes());
    finalize(bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

fn finalize(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn streams_are_the_same_every_time() {
        // Written down: a change would make every recorded seed replay something else.
        assert_eq!(stream(0, "db", "write", 0, 0), 0xf709_70ad_f4f4_d00b);
    }

    #[test]
    fn everything_that_identifies_a_rule_changes_its_stream() {
        let mut seen = HashSet::new();
        for seed in 0..100 {
            for (service, keyword) in [("db", "write"), ("db", "read"), ("dbw", "rite")] {
                for index in 0..10 {
                    for part in 0..2 {
                        assert!(seen.insert(stream(seed, service, keyword, index, part)));
                    }
                }
            }
        }
    }

    #[test]
    fn neighbouring_seeds_have_unrelated_streams() {
        let near = |seed| stream(seed, "api", "connect", 0, 0);
        let differing: u32 = (0..1000).map(|it| (near(it) ^ near(it + 1)).count_ones()).sum();
        assert!((28_000..36_000).contains(&differing), "{differing}");
    }
}
