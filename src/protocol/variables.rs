//! Environment variables of a job. Values are often secret, so no output shows them: neither `Debug`,
//! nor the error about a malformed request.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Names and values, sorted by name.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// The names, which are not secret.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Names and values, only for the environment of a job.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl IntoIterator for Variables {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Named)
    }
}

/// Replaces the decoder's own type error, because that quotes the value.
fn no_names<E: Error>() -> E {
    E::custom("a map of names and values is wanted")
}

struct Named;

impl<'de> Visitor<'de> for Named {
    type Value = Variables;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of names and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Variables, A::Error> {
        let values = BTreeMap::<String, Unseen>::deserialize(MapAccessDeserializer::new(map))?;
        Ok(values.into_iter().map(|(name, value)| (name, value.0)).collect())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Variables, E> {
        Err(no_names())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Variables, E> {
        Err(no_names())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Variables, E> {
        Err(no_names())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Variables, E> {
        Err(no_names())
    }
}

/// A value that no error quotes.
struct Unseen(String);

impl<'de> Deserialize<'de> for Unseen {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => Ok(Self(text)),
            _ => Err(D::Error::custom("the value of a variable has to be a text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    #[test]
    fn values_are_passed_on_and_not_shown() {
        let variables: Variables = decode::json(br#"{"B":"secret","A":""}"#).expect("variables");
        assert_eq!(variables.iter().collect::<Vec<_>>(), [("A", ""), ("B", "secret")]);
        assert_eq!(format!("{variables:?}"), r#"{"A", "B"}"#);
        assert_eq!(decode::to_json(&variables), br#"{"A":"","B":"secret"}"#);
    }

    #[test]
    fn a_mistake_is_told_without_the_value() {
        #[derive(Debug, Deserialize)]
        struct Request {
            #[serde(rename = "env")]
            _env: Variables,
        }
        for (env, named) in [
            (r#"{"PIN":4711}"#, "`env.PIN`"),
            (r#"{"PIN":{"a":"4711"}}"#, "`env.PIN`"),
            (r#""PIN=4711""#, "`env`"),
            ("4711", "`env`"),
            ("-4711", "`env`"),
            ("4711.5", "`env`"),
            (r#"["PIN=4711"]"#, "`env`"),
        ] {
            let wrong = decode::json::<Request>(format!(r#"{{"env":{env}}}"#).as_bytes()).expect_err(env);
            assert!(wrong.0.contains(named) && !wrong.0.contains("4711"), "{env}: {wrong}");
        }
    }
}
