//! What a server has answered, in the values that specs have.

use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// SQL's NULL, Redis's nil.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number, and what is none: NaN and the infinities.
    Float(f64),
    /// A text, or whatever the server gives as one. Bytes that are no UTF-8 are replaced.
    Text(String),
    /// Several values.
    List(Vec<Self>),
    /// Values by name, in the order of the answer.
    Map(Vec<(String, Self)>),
}

impl Data {
    /// Bytes as a text.
    pub fn text(bytes: &[u8]) -> Self {
        Self::Text(String::from_utf8_lossy(bytes).into_owned())
    }

    /// As JSON, which has no NaN and no infinity: they become `null`.
    pub fn to_json(&self) -> String {
        // Fails only for keys that are no strings, and for writers that fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Bool(it) => serializer.serialize_bool(*it),
            Self::Int(it) => serializer.serialize_i64(*it),
            Self::Float(it) => serializer.serialize_f64(*it),
            Self::Text(it) => serializer.serialize_str(it),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (name, value) in entries {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_the_order_of_the_answer() {
        let row = Data::Map(vec![
            ("name".to_owned(), Data::Text("a \"b\"".to_owned())),
            ("id".to_owned(), Data::Int(-7)),
            ("rest".to_owned(), Data::List(vec![Data::None, Data::Bool(true), Data::Float(2.5)])),
            ("odd".to_owned(), Data::Float(f64::NAN)),
        ]);
        let expected = r#"{"name":"a \"b\"","id":-7,"rest":[null,true,2.5],"odd":null}"#;
        assert_eq!(row.to_json(), expected);
        assert_eq!(Data::text(b"a\xff"), Data::Text("a\u{fffd}".to_owned()));
    }
}
