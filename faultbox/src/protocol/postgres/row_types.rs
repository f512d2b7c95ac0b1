//! Types of the columns of an answer.
//!
//! By the simple query protocol every value is a text, as `psql` shows it. Of what a column is the
//! server tells as well, in the message that names it, but the client keeps the name only. So that
//! message is read along as it arrives; asking once more would be traffic that no spec expects.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_postgres::types::Type;

use crate::spec::Data;

/// A message's kind and length (the manual's chapter "Message Formats"): all have them but the
/// first ones of the client.
const HEADER: usize = 5;
/// The message that describes the columns of the rows that follow.
const ROW_DESCRIPTION: u8 = b'T';
/// What follows a column's name: table (4), column (2), type (4), size (2), modifier (4), format
/// (2).
const AFTER_NAME: usize = 18;

/// The types of the columns, by object identifier, of each answer that has rows, in the order in
/// which they arrive.
#[derive(Clone, Debug, Default)]
pub(super) struct RowTypes(Arc<Mutex<VecDeque<Vec<u32>>>>);

impl RowTypes {
    /// Takes the types of the first answer that was not taken.
    pub(super) fn next(&self) -> Vec<u32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.pop_front().unwrap_or_default()
    }

    /// To be called with everything that the server sends, in pieces of any size.
    pub(super) fn reader(&self) -> impl FnMut(&[u8]) + Send + use<> {
        let found = self.clone();
        let mut pending: Vec<u8> = Vec::new();
        let mut skip = 0;
        move |mut bytes| {
            while !bytes.is_empty() {
                if skip > 0 {
                    let skipped = bytes.len().min(skip);
                    (skip, bytes) = (skip - skipped, &bytes[skipped..]);
                    continue;
                }
                let wanted = size(&pending).unwrap_or(HEADER);
                let taken = bytes.len().min(wanted - pending.len());
                pending.extend_from_slice(&bytes[..taken]);
                bytes = &bytes[taken..];
                let Some(size) = size(&pending) else { continue };
                if pending[0] != ROW_DESCRIPTION {
                    skip = size - HEADER;
                    pending.clear();
                } else if pending.len() == size {
                    let types = types(&pending[HEADER..]);
                    found.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(types);
                    pending.clear();
                }
            }
        }
    }
}

/// The size of the message that begins here, with its header; `None` before that has arrived.
fn size(message: &[u8]) -> Option<usize> {
    let length: [u8; 4] = message.get(1..HEADER)?.try_into().ok()?;
    // It counts itself.
    Some((1 + u32::from_be_bytes(length) as usize).max(HEADER))
}

/// The types in the body of a description. What is malformed ends it; the client fails over that.
fn types(body: &[u8]) -> Vec<u32> {
    let mut rest = body.get(2..).unwrap_or_default();
    let mut types = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        let Some(column) = rest.get(end + 1..end + 1 + AFTER_NAME) else { break };
        types.push(u32::from_be_bytes([column[6], column[7], column[8], column[9]]));
        rest = &rest[end + 1 + AFTER_NAME..];
    }
    types
}

/// A value of a column of this type. `bool`, whole and floating numbers are what they are; anything
/// else is the text that the server gives: `numeric` (exact, which no float is), dates and times,
/// `uuid`, `json`, `bytea` (`\x…`), arrays (`{1,2}`), types of the database's own.
pub(super) fn column(column: Option<u32>, text: Option<&str>) -> Data {
    let Some(text) = text else { return Data::None };
    let typed = match column.and_then(Type::from_oid) {
        Some(Type::BOOL) => match text {
            "t" => Some(Data::Bool(true)),
            "f" => Some(Data::Bool(false)),
            _ => None,
        },
        Some(Type::INT2 | Type::INT4 | Type::INT8 | Type::OID) => text.parse().ok().map(Data::Int),
        Some(Type::FLOAT4 | Type::FLOAT8) => text.parse().ok().map(Data::Float),
        _ => None,
    };
    typed.unwrap_or_else(|| Data::Text(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the server.
    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        message.extend_from_slice(&(4 + body.len() as u32).to_be_bytes());
        message.extend_from_slice(body);
        message
    }

    /// One that describes columns by name and type.
    fn description(columns: &[(&str, &Type)]) -> Vec<u8> {
        let mut body = (columns.len() as u16).to_be_bytes().to_vec();
        for (name, of) in columns {
            body.extend_from_slice(name.as_bytes());
            // The table's and the column's number.
            body.extend_from_slice(&[0, 1, 2, 3, 4, 5, 6]);
            body.extend_from_slice(&of.oid().to_be_bytes());
            body.extend_from_slice(&[0; 8]);
        }
        message(ROW_DESCRIPTION, &body)
    }

    #[test]
    fn descriptions_are_found_however_the_bytes_are_cut() {
        let mut sent = message(b'R', &[0; 8]);
        sent.extend(message(b'1', &[]));
        sent.extend(description(&[("id", &Type::INT4), ("", &Type::BOOL)]));
        // What a row contains is not looked at, be it like a description.
        sent.extend(message(b'D', &description(&[("no", &Type::TEXT)])));
        sent.extend(description(&[]));
        sent.extend(description(&[("x", &Type::UUID)]));
        for size in [1, 2, 7, sent.len()] {
            let types = RowTypes::default();
            let mut reader = types.reader();
            sent.chunks(size).for_each(&mut reader);
            assert_eq!(types.next(), [Type::INT4.oid(), Type::BOOL.oid()], "{size}");
            assert_eq!(types.next(), [0; 0], "{size}");
            assert_eq!(types.next(), [Type::UUID.oid()], "{size}");
            assert_eq!(types.next(), [0; 0], "nothing is left");
        }
    }

    #[test]
    fn nonsense_is_not_followed_far() {
        let types = RowTypes::default();
        let mut reader = types.reader();
        reader(&[ROW_DESCRIPTION, 0, 0, 0, 0]);
        reader(&message(ROW_DESCRIPTION, b"\x00\x09no end"));
        reader(&message(ROW_DESCRIPTION, b"\x00\x01short\0\x01"));
        for _ in 0..3 {
            assert_eq!(types.next(), [0; 0]);
        }
        assert!(types.0.lock().unwrap().is_empty());
    }

    #[test]
    fn numbers_and_truth_are_what_they_are_and_the_rest_is_text() {
        let text = |text: &str| Data::Text(text.to_owned());
        for (of, given, expected) in [
            (Type::INT2, "-3", Data::Int(-3)),
            (Type::INT8, "9223372036854775807", Data::Int(i64::MAX)),
            (Type::OID, "4294967295", Data::Int(4_294_967_295)),
            (Type::FLOAT8, "2.5", Data::Float(2.5)),
            (Type::FLOAT8, "-Infinity", Data::Float(f64::NEG_INFINITY)),
            (Type::BOOL, "t", Data::Bool(true)),
            (Type::BOOL, "f", Data::Bool(false)),
            (Type::NUMERIC, "12.50", text("12.50")),
            (Type::TEXT, "42", text("42")),
            (Type::INT4_ARRAY, "{1,2}", text("{1,2}")),
        ] {
            assert_eq!(column(Some(of.oid()), Some(given)), expected, "{of}");
        }
        assert_eq!(column(Some(Type::INT4.oid()), None), Data::None);
        assert_eq!(column(Some(99_999), Some("7")), text("7"), "a type of the database's own");
        assert_eq!(column(None, Some("7")), text("7"));
    }
}
