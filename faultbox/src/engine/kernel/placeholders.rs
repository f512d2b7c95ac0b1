//! What the object leaves open, and the loader writes into the instructions: offsets in the
//! kernel's structures, numbers of the call that a program is for, addresses of tables, and calls
//! of kernel functions.
//!
//! All could be looked up while a program runs, at the price of some instructions each time.

use std::{collections::HashSet, os::fd::RawFd};

use aya_obj::generated::bpf_insn;
use faultbox_common::{
    CONSTANTS, DESCRIPTORS, FIELD_DESCRIPTORS, FIELD_DIRECTORY, FIELD_NUMBER, FIELD_OPERAND,
    FIELD_SET, FIELD_TRACE, FIELDS, KERNEL_FUNCTIONS, Layout,
};

use super::{
    super::{Syscall, TraceLevel},
    btf::Types,
};

/// `linux/bpf_common.h` and `linux/bpf.h`: classes, and whole operation codes.
const CLASS: u8 = 0x07;
const LOAD: u8 = 0x01;
const MOVE: u8 = 0xb7;
const MOVE_32: u8 = 0xb4;
const ADDRESS: u8 = 0x18;
const CALL: u8 = 0x85;
const JUMP: u8 = 0x05;
/// Sources of an address, and kinds of a call.
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;
const KERNEL_FUNCTION: u8 = 2;

/// What is the same for all programs of an object.
pub(super) struct Placeholders {
    /// By field, as far as they are members of the layout.
    layout: Vec<u32>,
    trace: TraceLevel,
    /// Maps whose only element is a table.
    tables: HashSet<RawFd>,
    /// Kernel functions by their placeholders; `None` where the kernel has not got them all.
    functions: Option<Vec<(i32, u32)>>,
    fd_array: u32,
}

impl Placeholders {
    pub(super) fn new(
        layout: &Layout,
        trace: TraceLevel,
        types: &Types,
        tables: HashSet<RawFd>,
    ) -> Self {
        let words = size_of::<Layout>() / size_of::<u32>();
        // SAFETY: a live structure that consists of words, and so many.
        let layout_words =
            unsafe { std::slice::from_raw_parts((&raw const *layout).cast::<u32>(), words) };
        let functions = KERNEL_FUNCTIONS
            .iter()
            .map(|(name, placeholder)| Some((*placeholder, types.function(name)?)))
            .collect();
        let fd_array = layout.files_fd_array;
        Self { layout: layout_words.to_vec(), trace, tables, functions, fd_array }
    }

    /// Fills all in, in a program that is about a call, or about none. Kernel functions can be
    /// left out: their calls become jumps to the next instruction, which the verifier removes.
    pub(super) fn fill(&self, program: &mut [bpf_insn], call: Option<Syscall>, functions: bool) {
        let mut rest = program;
        while let [instruction, behind @ ..] = rest {
            rest = behind;
            match instruction.code {
                ADDRESS => {
                    if instruction.src_reg() == MAP && self.tables.contains(&instruction.imm) {
                        instruction.set_src_reg(MAP_VALUE);
                    }
                    // Its second half is no instruction.
                    rest = rest.get_mut(1..).unwrap_or_default();
                }
                MOVE | MOVE_32 => {
                    let field = (instruction.imm as usize).checked_sub(CONSTANTS);
                    if let Some(value) = field.and_then(|field| self.value(field, call)) {
                        instruction.imm = value as i32;
                    }
                }
                CALL if instruction.src_reg() == 0 => self.fill_call(instruction, functions),
                code if code & CLASS == LOAD => {
                    let field = usize::try_from(instruction.off).ok();
                    let field = field.and_then(|offset| offset.checked_sub(FIELDS));
                    let value = field.and_then(|field| self.value(field, call));
                    // What does not fit stays, and the verifier refuses it.
                    if let Some(Ok(offset)) = value.map(i16::try_from) {
                        instruction.off = offset;
                    }
                }
                _ => {}
            }
        }
    }

    fn fill_call(&self, instruction: &mut bpf_insn, functions: bool) {
        if !KERNEL_FUNCTIONS.iter().any(|(_, placeholder)| *placeholder == instruction.imm) {
            return;
        }
        let known = self.functions.iter().flatten().find(|it| it.0 == instruction.imm);
        match known {
            Some((_, id)) if functions => {
                instruction.set_src_reg(KERNEL_FUNCTION);
                instruction.imm = *id as i32;
            }
            _ => (instruction.code, instruction.imm) = (JUMP, 0),
        }
    }

    /// What a field is; `None` if it is none that is known here.
    fn value(&self, field: usize, call: Option<Syscall>) -> Option<u32> {
        const LAST: usize = FIELD_DESCRIPTORS + DESCRIPTORS - 1;
        let argument = |index: u32| {
            let first = std::mem::offset_of!(Layout, regs_args) / size_of::<u32>();
            (index < 6).then(|| self.layout[first + index as usize])
        };
        match field {
            FIELD_TRACE => Some(self.trace as u32),
            FIELD_NUMBER => call.map(Syscall::number),
            FIELD_SET => call.map(|it| it.number() * size_of::<u16>() as u32),
            FIELD_OPERAND => argument(call?.operand().1),
            FIELD_DIRECTORY => argument(call?.operand().1.wrapping_sub(1)),
            FIELD_DESCRIPTORS..=LAST => {
                Some(self.fd_array + ((field - FIELD_DESCRIPTORS) * size_of::<usize>()) as u32)
            }
            field => self.layout.get(field).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u8, off: i16, imm: i32) -> bpf_insn {
        // SAFETY: all zeros is a valid instruction: plain numbers.
        let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
        (instruction.code, instruction.off, instruction.imm) = (code, off, imm);
        instruction
    }

    #[test]
    fn placeholders_are_filled_in_and_nothing_else_is() {
        let layout = Layout { regs_args: [112, 104, 96, 56, 72, 68], ..Layout::default() };
        let placeholders = Placeholders {
            layout: vec![120, layout.regs_args[0], layout.regs_args[1]],
            trace: TraceLevel::All,
            tables: HashSet::from([7]),
            functions: None,
            fd_array: 160,
        };
        let offset = |field: usize| (FIELDS + field) as i16;
        let mut table = instruction(ADDRESS, 0, 7);
        table.set_src_reg(MAP);
        let mut other = instruction(ADDRESS, 0, 8);
        other.set_src_reg(MAP);
        let mut program = [
            instruction(0x79, offset(0), 0),
            instruction(0x79, 16, 0),
            instruction(MOVE, 0, (CONSTANTS + FIELD_TRACE) as i32),
            instruction(0x79, offset(FIELD_DESCRIPTORS + 3), 0),
            table,
            // What looks like a placeholder in the second half of an address.
            instruction(0, offset(0), (CONSTANTS + FIELD_TRACE) as i32),
            other,
            instruction(0, 0, 0),
            instruction(CALL, 0, KERNEL_FUNCTIONS[0].1),
            instruction(CALL, 0, 14),
        ];
        placeholders.fill(&mut program, Syscall::from_name("write"), true);
        assert_eq!(program.map(|it| it.off)[..4], [120, 16, 0, 160 + 24]);
        assert_eq!(program[2].imm, TraceLevel::All as i32);
        assert_eq!((program[4].src_reg(), program[4].imm), (MAP_VALUE, 7));
        assert_eq!((program[5].off, program[5].imm), (offset(0), (CONSTANTS + FIELD_TRACE) as i32));
        assert_eq!(program[6].src_reg(), MAP);
        assert_eq!((program[8].code, program[8].imm), (JUMP, 0));
        assert_eq!((program[9].code, program[9].imm), (CALL, 14));
    }
}
