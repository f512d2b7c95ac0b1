//! What a run may have left on the machine.

use std::{fs, time::Duration};

use super::project::{Place, wait_until};

/// Processes that descend from the runs of this place, the runs themselves and their janitors
/// included: all have its path in their environment.
pub(crate) fn processes(place: &Place) -> Vec<String> {
    let needle = format!("TMPDIR={}\0", place.path.display()).into_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.windows(needle.len()).any(|it| it == needle)
        })
        .map(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid} {}", line.replace('\0', " "))
        })
        .collect()
}

/// Directories of sessions, and the one that holds them.
pub(crate) fn sessions(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(&place.path).into_iter().flatten().flatten();
    entries
        .filter(|base| base.file_name().to_string_lossy().starts_with("faultbox-"))
        .flat_map(|base| {
            let below = fs::read_dir(base.path()).into_iter().flatten().flatten();
            [base.path()].into_iter().chain(below.map(|entry| entry.path()))
        })
        .map(|path| path.display().to_string())
        .collect()
}

/// Fails unless all processes and directories of the place's runs are gone within this time.
#[track_caller]
pub(crate) fn assert_none(place: &Place, patience: Duration) {
    let all_gone = || processes(place).is_empty() && sessions(place).is_empty();
    let clean = wait_until(patience, all_gone);
    assert!(clean, "left behind: {:?} {:?}", processes(place), sessions(place));
}

/// Ids of all programs, maps or links in the kernel (`bpf(2)`); `None` without the right to ask.
pub(crate) fn kernel_objects() -> Option<Vec<(&'static str, u32)>> {
    // BPF_PROG_GET_NEXT_ID, BPF_MAP_GET_NEXT_ID, BPF_LINK_GET_NEXT_ID of `linux/bpf.h`.
    let kinds = [("program", 11), ("map", 12), ("link", 31)];
    let mut found = Vec::new();
    for (kind, command) in kinds {
        let mut id = 0;
        for _ in 0..100_000 {
            // `start_id`, `next_id`, `open_flags`.
            let mut attributes = [id, 0_u32, 0];
            let size = size_of_val(&attributes);
            // SAFETY: the kernel reads and writes the three words of the attributes only.
            let result =
                unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size) };
            if result < 0 {
                match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::ENOENT) => break,
                    _ => return None,
                }
            }
            id = attributes[1];
            found.push((kind, id));
        }
    }
    Some(found)
}
