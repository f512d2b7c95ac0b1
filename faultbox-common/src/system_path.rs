//! Paths that belong to the system and not to the program under test.

use crate::is_same;

/// Bytes kept of each path component: enough to tell the names below apart.
pub const COMPONENT: usize = 16;

/// The first three components of an absolute path, each cut to 15 bytes and filled with zeros.
// Aligned for those who move it by words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Components {
    /// Outermost first.
    pub names: [[u8; COMPONENT]; 3],
}

impl Components {
    /// The first three components of a path.
    pub fn of(path: &[u8]) -> Self {
        let mut this = Self::default();
        let names = path.split(|&b| b == b'/').filter(|name| !name.is_empty());
        for (to, name) in this.names.iter_mut().zip(names) {
            let len = name.len().min(COMPONENT - 1);
            to[..len].copy_from_slice(&name[..len]);
        }
        this
    }
}

#[inline(always)]
const fn word(name: &[u8; COMPONENT], at: usize) -> u64 {
    u64::from_le_bytes([
        name[at],
        name[at + 1],
        name[at + 2],
        name[at + 3],
        name[at + 4],
        name[at + 5],
        name[at + 6],
        name[at + 7],
    ])
}

/// A name of at most 15 bytes, as the two words that [`Components`] hold.
const fn name(text: &str) -> (u64, u64) {
    let bytes = text.as_bytes();
    let mut padded = [0; COMPONENT];
    let mut i = 0;
    while i < bytes.len() {
        padded[i] = bytes[i];
        i += 1;
    }
    (word(&padded, 0), word(&padded, 8))
}

const LIB: (u64, u64) = name("lib");
const LIB64: (u64, u64) = name("lib64");
const USR: (u64, u64) = name("usr");
const PROC: (u64, u64) = name("proc");
const SYS: (u64, u64) = name("sys");
const DEV: (u64, u64) = name("dev");
const ETC: (u64, u64) = name("etc");
const SHARE: (u64, u64) = name("share");
const ZONEINFO: (u64, u64) = name("zoneinfo");
const HOSTS: (u64, u64) = name("hosts");
const RESOLV: (u64, u64) = name("resolv.conf");
const NSSWITCH: (u64, u64) = name("nsswitch.conf");
const LOCALTIME: (u64, u64) = name("localtime");
const PASSWD: (u64, u64) = name("passwd");
const GROUP: (u64, u64) = name("group");
/// `ld.so.` and whatever follows: six bytes.
const LD_SO: u64 = name("ld.so.").0;

/// Whether a path is the loader's, the C library's or the kernel's own, and so is not hit by a
/// rule that names no path: `/lib`, `/lib64`, `/usr/lib`, `/usr/lib64`, `/proc`, `/sys`, `/dev`,
/// `/etc/ld.so.*`, the name service's files, and the time zones.
#[inline(always)]
pub fn is_system_path(path: &Components) -> bool {
    let is = |i: usize, name: (u64, u64)| {
        let component = &path.names[i];
        is_same(word(component, 0), name.0) & is_same(word(component, 8), name.1)
    };
    let top = is(0, LIB) | is(0, LIB64) | is(0, PROC) | is(0, SYS) | is(0, DEV);
    let zones = is(1, SHARE) & is(2, ZONEINFO);
    let libraries = is(1, LIB) | is(1, LIB64);
    let loader = is_same(word(&path.names[1], 0) & 0xffff_ffff_ffff, LD_SO);
    let names = is(1, HOSTS) | is(1, RESOLV) | is(1, NSSWITCH) | is(1, LOCALTIME);
    let users = is(1, PASSWD) | is(1, GROUP);
    let user = is(0, USR) & (libraries | zones);
    let settings = is(0, ETC) & (loader | names | users);
    top | user | settings != 0
}

/// Bytes of a path that [`is_system_text`] looks at.
pub const TEXT: usize = 24;

/// The system's paths as a program spells them, whole names where they end in zero.
const SPELLINGS: [&[u8]; 16] = [
    b"/lib/",
    b"/lib64/",
    b"/usr/lib/",
    b"/usr/lib64/",
    b"/proc/",
    b"/sys/",
    b"/dev/",
    b"/etc/ld.so.",
    b"/etc/hosts\0",
    b"/etc/resolv.conf\0",
    b"/etc/nsswitch.conf\0",
    b"/etc/localtime\0",
    b"/etc/passwd\0",
    b"/etc/group\0",
    b"/usr/share/zoneinfo\0",
    b"/usr/share/zoneinfo/",
];

/// Each spelling as words, and the bits of them that count.
const PATTERNS: [([u64; 3], [u64; 3]); SPELLINGS.len()] = {
    let mut patterns = [([0; 3], [0; 3]); SPELLINGS.len()];
    let mut i = 0;
    while i < SPELLINGS.len() {
        let mut at = 0;
        while at < SPELLINGS[i].len() {
            let shift = at % 8 * 8;
            patterns[i].0[at / 8] |= (SPELLINGS[i][at] as u64) << shift;
            patterns[i].1[at / 8] |= 0xff << shift;
            at += 1;
        }
        i += 1;
    }
    patterns
};

/// [`is_system_path`] for an absolute path as a program gave it, by its first bytes: word by
/// word, because a verifier cannot follow a search for slashes.
#[inline(always)]
pub fn is_system_text(text: &[u8; TEXT]) -> bool {
    let word = |i: usize| {
        let at = i * 8;
        u64::from_le_bytes([
            text[at],
            text[at + 1],
            text[at + 2],
            text[at + 3],
            text[at + 4],
            text[at + 5],
            text[at + 6],
            text[at + 7],
        ])
    };
    let words = [word(0), word(1), word(2)];
    let mut found = 0;
    let mut i = 0;
    while i < PATTERNS.len() {
        let (pattern, mask) = &PATTERNS[i];
        let difference = (words[0] & mask[0] ^ pattern[0])
            | (words[1] & mask[1] ^ pattern[1])
            | (words[2] & mask[2] ^ pattern[2]);
        found |= is_same(difference, 0);
        i += 1;
    }
    found != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> [u8; TEXT] {
        let mut text = [0; TEXT];
        let len = path.len().min(TEXT);
        text[..len].copy_from_slice(&path.as_bytes()[..len]);
        text
    }

    #[test]
    fn the_loaders_and_the_kernels_files_are_the_systems() {
        for path in [
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/lib64/ld-linux-x86-64.so.2",
            "/usr/lib/locale/C.utf8/LC_CTYPE",
            "/proc/self/maps",
            "/sys/fs/cgroup",
            "/dev/urandom",
            "/etc/ld.so.cache",
            "/etc/ld.so.preload",
            "/etc/hosts",
            "/etc/nsswitch.conf",
            "/usr/share/zoneinfo/Europe/Berlin",
        ] {
            assert!(is_system_path(&Components::of(path.as_bytes())), "{path}");
            assert!(is_system_text(&text(path)), "{path}");
        }
    }

    #[test]
    fn the_programs_own_files_are_not() {
        for path in [
            "/",
            "/tmp/inventory.wal",
            "/var/lib/postgresql/15/main/base/1",
            "/usr/local/lib/app.so",
            "/usr/share/app",
            "/etc/app.conf",
            "/etc/hosts.allow",
            "/library/x",
            "/devices/x",
            "/home/proc/x",
        ] {
            assert!(!is_system_path(&Components::of(path.as_bytes())), "{path}");
            assert!(!is_system_text(&text(path)), "{path}");
        }
    }
}
