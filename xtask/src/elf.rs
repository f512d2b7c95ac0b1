//! Taking the debug information out of 64-bit little-endian ELF files.
//!
//! Two users: the eBPF object that is committed (DWARF would be most of it, and only `.BTF` and `.BTF.ext` mean
//! something to the kernel), and the binaries that go into a virtual machine's memory. Doing it here rather than with
//! `strip` gives the same bytes on every machine, whichever binutils or LLVM it has; binutils know no BPF at all.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::{Context as _, Result, bail, ensure};

const EHDR: usize = 64;
const SHDR: usize = 64;
const PHDR: usize = 56;
const SYM: usize = 24;

const ET_REL: u16 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_REL: u32 = 9;
const SHT_GROUP: u32 = 17;
const SHT_SYMTAB_SHNDX: u32 = 18;
const STT_FILE: u8 = 4;
const SHF_ALLOC: u64 = 2;
/// From here on a section number is a marker, such as "absolute", and no section.
const SHN_LORESERVE: u16 = 0xff00;

/// Whether the file starts as an ELF file does.
pub(crate) fn is_elf(data: &[u8]) -> bool {
    data.starts_with(b"\x7fELF")
}

/// Whether the file is an ELF program or library that asks for a dynamic loader or for libraries.
pub(crate) fn is_dynamic(path: &Path) -> bool {
    // The program headers follow the file's header: no need to read all of a large binary.
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(4096).read_to_end(&mut start));
    read.is_ok() && is_elf(&start) && has_dynamic_segment(&start).unwrap_or(false)
}

fn has_dynamic_segment(data: &[u8]) -> Result<bool> {
    let (start, count) = (u64_at(data, 32)? as usize, u16_at(data, 56)? as usize);
    for i in 0..count {
        if matches!(u32_at(data, start + i * PHDR)?, PT_DYNAMIC | PT_INTERP) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A copy of the ELF file without `.debug_*` sections, their relocations and the symbols that stand for them.
///
/// What is loaded at run time keeps its offsets and section numbers.
///
/// # Errors
/// If the file is truncated, is not 64-bit little-endian ELF, or groups sections in an object file.
pub(crate) fn without_debug_info(data: &[u8]) -> Result<Vec<u8>> {
    ensure!(is_elf(data) && data.get(4..6) == Some(&[2, 1]), "not a 64-bit little-endian ELF file");
    let sections = sections(data)?;
    let names = &sections[u16_at(data, 62)? as usize % sections.len().max(1)];
    let names = names.body(data)?;

    let debug: Vec<bool> =
        sections.iter().map(|s| name(names, s.name).starts_with(b".debug_")).collect();
    let removed: Vec<bool> = sections
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let of_removed =
                matches!(s.kind, SHT_REL | SHT_RELA) && debug.get(s.info as usize) == Some(&true);
            s.flags & SHF_ALLOC == 0 && (debug[i] || of_removed)
        })
        .collect();
    if !removed.contains(&true) {
        return Ok(data.to_vec());
    }
    let object = u16_at(data, 16)? == ET_REL;
    for (section, _) in sections.iter().zip(&removed).filter(|(_, removed)| !**removed) {
        ensure!(section.kind != SHT_SYMTAB_SHNDX, "more sections than this tool can renumber");
        ensure!(
            !(object && section.kind == SHT_GROUP),
            "section groups, which this tool cannot renumber"
        );
    }
    let index = renumber(&removed);
    rewrite(data, sections, &removed, &index, object)
}

/// One section header, and what it covers.
#[derive(Clone)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    info: u32,
    align: u64,
    entry: u64,
}

impl Section {
    fn body<'a>(&self, data: &'a [u8]) -> Result<&'a [u8]> {
        if self.kind == SHT_NOBITS {
            return Ok(&[]);
        }
        let end = self.offset.checked_add(self.size).context("a section's end overflows")?;
        data.get(self.offset as usize..end as usize).context("a section lies outside the file")
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.name.to_le_bytes());
        out.extend(self.kind.to_le_bytes());
        for value in [self.flags, self.address, self.offset, self.size] {
            out.extend(value.to_le_bytes());
        }
        out.extend(self.link.to_le_bytes());
        out.extend(self.info.to_le_bytes());
        out.extend(self.align.to_le_bytes());
        out.extend(self.entry.to_le_bytes());
    }
}

fn sections(data: &[u8]) -> Result<Vec<Section>> {
    let (start, count) = (u64_at(data, 40)? as usize, u16_at(data, 60)? as usize);
    ensure!(
        u16_at(data, 58)? as usize == SHDR || count == 0,
        "unexpected size of a section header"
    );
    (0..count)
        .map(|i| {
            let at = start.checked_add(i * SHDR).context("the section table's end overflows")?;
            Ok(Section {
                name: u32_at(data, at)?,
                kind: u32_at(data, at + 4)?,
                flags: u64_at(data, at + 8)?,
                address: u64_at(data, at + 16)?,
                offset: u64_at(data, at + 24)?,
                size: u64_at(data, at + 32)?,
                link: u32_at(data, at + 40)?,
                info: u32_at(data, at + 44)?,
                align: u64_at(data, at + 48)?,
                entry: u64_at(data, at + 56)?,
            })
        })
        .collect()
}

/// Old number → new number, `None` for what goes.
fn renumber(removed: &[bool]) -> Vec<Option<u32>> {
    let mut next = 0;
    removed
        .iter()
        .map(|gone| {
            (!gone).then(|| {
                next += 1;
                next - 1
            })
        })
        .collect()
}

fn rewrite(
    data: &[u8],
    mut sections: Vec<Section>,
    removed: &[bool],
    index: &[Option<u32>],
    object: bool,
) -> Result<Vec<u8>> {
    let mut out = data[..fixed_part(data, &sections, object)?].to_vec();
    let symbols = sections.iter().position(|s| s.kind == SHT_SYMTAB);
    let (symbol_table, symbol_index, locals) = match symbols {
        Some(i) => keep_symbols(sections[i].body(data)?, index)?,
        None => (Vec::new(), Vec::new(), 0),
    };
    for (i, section) in sections.iter_mut().enumerate() {
        let fixed = !object && section.flags & SHF_ALLOC != 0;
        if removed[i] || i == 0 {
            continue;
        }
        let relocations = matches!(section.kind, SHT_REL | SHT_RELA);
        let mut body = section.body(data)?.to_vec();
        if Some(i) == symbols {
            body.clone_from(&symbol_table);
            section.info = locals;
        } else if relocations && Some(section.link as usize) == symbols {
            point_at_kept_symbols(&mut body, section.kind, &symbol_index)?;
        }
        if section.link != 0 {
            section.link = index
                .get(section.link as usize)
                .copied()
                .flatten()
                .context("a kept section needs a removed one")?;
        }
        if relocations && section.info != 0 {
            section.info = index
                .get(section.info as usize)
                .copied()
                .flatten()
                .context("relocations of a removed section")?;
        }
        if !fixed {
            pad(&mut out, section.align);
            section.offset = out.len() as u64;
            out.extend(&body);
            if section.kind != SHT_NOBITS {
                section.size = body.len() as u64;
            }
        }
    }
    pad(&mut out, 8);
    let table = out.len() as u64;
    let kept: Vec<_> = sections.iter().zip(removed).filter(|(_, gone)| !**gone).collect();
    for (section, _) in &kept {
        section.write(&mut out);
    }
    let names =
        index[u16_at(data, 62)? as usize].context("the section names are debug information")?;
    out[40..48].copy_from_slice(&table.to_le_bytes());
    out[60..62].copy_from_slice(&(kept.len() as u16).to_le_bytes());
    out[62..64].copy_from_slice(&(names as u16).to_le_bytes());
    Ok(out)
}

/// How much of the file's start stays as it is: the header alone in an object, else all that is loaded.
fn fixed_part(data: &[u8], sections: &[Section], object: bool) -> Result<usize> {
    if object {
        return Ok(EHDR);
    }
    let (start, count) = (u64_at(data, 32)? as usize, u16_at(data, 56)? as usize);
    let mut end = EHDR.max(start + count * PHDR);
    for i in 0..count {
        let at = start + i * PHDR;
        end = end.max((u64_at(data, at + 8)? + u64_at(data, at + 32)?) as usize);
    }
    for section in sections.iter().filter(|s| s.flags & SHF_ALLOC != 0 && s.kind != SHT_NOBITS) {
        end = end.max((section.offset + section.size) as usize);
    }
    ensure!(end <= data.len(), "a segment lies outside the file");
    Ok(end)
}

/// The symbol table without symbols of removed sections and names of source files, the new number of each symbol, and how many are local.
fn keep_symbols(table: &[u8], index: &[Option<u32>]) -> Result<(Vec<u8>, Vec<Option<u32>>, u32)> {
    let mut kept = Vec::with_capacity(table.len());
    let mut numbers = Vec::new();
    let mut locals = 0;
    for symbol in table.chunks_exact(SYM) {
        let section = u16_at(symbol, 6)?;
        let new = if symbol[4] & 0xf == STT_FILE {
            None
        } else if section == 0 || section >= SHN_LORESERVE {
            Some(u32::from(section))
        } else {
            *index.get(section as usize).context("a symbol of a section that does not exist")?
        };
        numbers.push(new.map(|_| (kept.len() / SYM) as u32));
        if let Some(new) = new {
            let at = kept.len();
            kept.extend(symbol);
            kept[at + 6..at + 8].copy_from_slice(&(new as u16).to_le_bytes());
            // The upper half of st_info is the binding; 0 is local, and local symbols come first.
            locals += u32::from(symbol[4] >> 4 == 0);
        }
    }
    Ok((kept, numbers, locals))
}

fn point_at_kept_symbols(relocations: &mut [u8], kind: u32, symbols: &[Option<u32>]) -> Result<()> {
    let size = if kind == SHT_RELA { 24 } else { 16 };
    for relocation in relocations.chunks_exact_mut(size) {
        let old = u32_at(relocation, 12)? as usize;
        let Some(new) = symbols.get(old).copied().flatten() else {
            bail!("a kept relocation refers to symbol {old}, which is debug information");
        };
        relocation[12..16].copy_from_slice(&new.to_le_bytes());
    }
    Ok(())
}

fn name(table: &[u8], at: u32) -> &[u8] {
    let rest = table.get(at as usize..).unwrap_or_default();
    &rest[..rest.iter().position(|b| *b == 0).unwrap_or(rest.len())]
}

fn pad(out: &mut Vec<u8>, align: u64) {
    out.resize(out.len().next_multiple_of(align.max(1) as usize), 0);
}

fn bytes<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes =
        at.checked_add(N).and_then(|end| data.get(at..end)).context("the file is truncated")?;
    Ok(bytes.try_into()?)
}

fn u16_at(data: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(bytes(data, at)?))
}

fn u32_at(data: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(bytes(data, at)?))
}

fn u64_at(data: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(data, at)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    #[test]
    fn a_stripped_binary_is_smaller_and_still_runs() {
        let own = fs::read("/proc/self/exe").unwrap();
        let stripped = without_debug_info(&own).unwrap();
        assert!(stripped.len() < own.len(), "{} of {} bytes left", stripped.len(), own.len());
        let file = std::env::temp_dir().join(format!("xtask-elf-{}", std::process::id()));
        fs::write(&file, &stripped).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let listed = Command::new(&file).args(["--list", "tally"]).output();
        fs::remove_file(&file).unwrap();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        assert!(listed.contains("result_lines_add_up"), "{listed}");
    }

    #[test]
    fn stripping_twice_changes_nothing() {
        let once = without_debug_info(&fs::read("/proc/self/exe").unwrap()).unwrap();
        assert!(without_debug_info(&once).unwrap() == once);
    }

    #[test]
    fn no_truncation_of_the_file_makes_it_panic() {
        let own = fs::read("/proc/self/exe").unwrap();
        for end in (0..200).chain([own.len() / 2, own.len() - 1]) {
            assert!(without_debug_info(&own[..end]).is_err(), "cut at {end}");
        }
    }
}
