//! The questions of nats/README.md, asked as a stock client asks them, are answered as printed there.

use std::time::Duration;

use crate::harness::fleet::Fleet;
use crate::harness::nats::Raw;
use crate::harness::wait::eventually;
use serde_json::Value;

const README: &str = include_str!("../../nats/README.md");

const SOON: Duration = Duration::from_secs(30);

/// Longer than two intervals of heartbeats.
const NEXT_BEAT: Duration = Duration::from_secs(15);

/// A question of the README, and the answer that is printed there.
#[derive(Debug)]
struct Recipe {
    verb: String,
    subject: String,
    body: String,
    printed: Value,
}

/// All questions in `console` blocks.
fn recipes() -> Vec<Recipe> {
    let blocks = README.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let entries = blocks.flat_map(|block| block.split("$ nats ").skip(1)).filter_map(|entry| {
        let (command, printed) = entry.split_once('\n')?;
        let mut words = command.split(' ').filter(|word| !["--replies", "0"].contains(word));
        let mut word = || Some(words.next()?.trim_matches('\'').to_owned());
        let (verb, subject, body) = (word()?, word()?, word().unwrap_or_default());
        let printed =
            serde_json::from_str(printed).unwrap_or_else(|error| panic!("{command}: {error}: {printed}"));
        Some(Recipe { verb, subject, body, printed })
    });
    entries.collect()
}

/// Keys and kinds of a value. What may be missing is null on one machine and something on another.
fn shape(value: &Value) -> String {
    const OPTIONAL: [&str; 3] = ["ip_address", "mac_address", "next"];
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "text".to_owned(),
        Value::Array(items) => format!("[{}]", items.first().map(shape).unwrap_or_default()),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| match OPTIONAL.contains(&key.as_str()) {
                true => key.clone(),
                false => format!("{key}: {}", shape(value)),
            };
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn every_recipe_is_answered_as_it_is_printed() {
    let fleet = Fleet::builder().leader("lead").worker("w1").start();
    let mut raw = Raw::connect(&fleet.url());
    let known = || {
        let answer = Raw::connect(&fleet.url()).request("peers.get", r#"{"peer":"w1"}"#, SOON).json();
        (answer["found"] == "one").then_some(())
    };
    eventually(SOON, "the leader to know w1", known);
    let recipes = recipes();
    assert!(recipes.len() >= 8, "{recipes:?}");
    for recipe in recipes {
        let answer = match recipe.verb.as_str() {
            "sub" => {
                let sid = raw.subscribe(&recipe.subject);
                raw.expect_on(sid, NEXT_BEAT, "what the README subscribes to").json()
            }
            "req" => raw.request(&recipe.subject, &recipe.body, SOON).json(),
            other => panic!("nats {other}: not known here"),
        };
        assert_eq!(answer["type"], recipe.printed["type"], "{recipe:?}");
        assert_eq!(shape(&answer), shape(&recipe.printed), "{} {}", recipe.subject, recipe.body);
    }
}

#[test]
fn a_shape_tells_answers_apart() {
    let shape = |text: &str| shape(&serde_json::from_str(text).unwrap());
    assert_eq!(shape(r#"{"a":1,"next":null}"#), shape(r#"{"next":"w1","a":2}"#));
    assert_ne!(shape(r#"{"a":1}"#), shape(r#"{"a":"1"}"#));
    assert_ne!(shape(r#"{"a":1}"#), shape(r#"{"a":1,"b":1}"#));
}
