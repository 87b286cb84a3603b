//! Rules of one's own for what may be said: as a closure, and as a type.
//!
//! `cargo run --example custom_validator`: a client says things that break the rules and prints what it is told. Every violation
//! comes in one answer, each naming its field.

mod server;

use std::collections::HashSet;

use chatflow_client::{Client, Error};
use chatflow_core::{ChatValidator, Draft, Engine, Limits, MessageValidator, Violation};

/// The rules of chat messages, with other limits, and besides them a list of words that nobody may say.
struct WordFilter {
    limits: ChatValidator,
    forbidden: HashSet<&'static str>,
}

impl WordFilter {
    fn new(forbidden: &[&'static str]) -> Self {
        let mut limits = Limits::default();
        limits.message = 1..=80;
        limits.username_alphanumeric = false;
        Self { limits: ChatValidator::new(limits), forbidden: forbidden.iter().copied().collect() }
    }
}

impl MessageValidator for WordFilter {
    fn validate(&self, draft: &Draft) -> Result<(), Vec<Violation>> {
        let mut violations = self.limits.validate(draft).err().unwrap_or_default();
        let words = draft.text.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        for word in words.filter(|word| self.forbidden.contains(word.as_str())) {
            violations.push(Violation::new("message", format!("must not say {word:?}")));
        }
        if violations.is_empty() { Ok(()) } else { Err(violations) }
    }
}

/// Publishes into a new engine with these rules, and gives what the sender is told.
async fn say(rules: impl MessageValidator, text: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let engine = Engine::builder().validator(rules).build().await?;
    let url = server::start(&engine).await?;
    let (client, _events) = Client::builder(url).user("1", "Ada L.").room("lobby").connect().await?;
    match client.publish("lobby", text).await {
        Ok(_) => Ok(Vec::new()),
        Err(Error::Refused(refusal)) => Ok(refusal.errors),
        Err(error) => Err(error.into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A closure sees the draft and answers with everything that is wrong.
    let no_shouting = |draft: &Draft| match draft.text.chars().any(char::is_lowercase) {
        true => Ok(()),
        false => Err(vec![Violation::new("message", "must not be all capitals")]),
    };
    let told = say(no_shouting, "HELLO").await?;
    println!("\"HELLO\": {told:?}");
    assert_eq!(told, ["message: must not be all capitals"]);

    // A type can hold what its rules need, and build on the rules that come with the library.
    let rules = || WordFilter::new(&["darn", "heck"]);
    let told = say(rules(), "What the heck, darn it").await?;
    println!("\"What the heck, darn it\": {told:?}");
    assert_eq!(told, ["message: must not say \"heck\"", "message: must not say \"darn\""]);
    let told = say(rules(), &"darn ".repeat(17)).await?;
    assert_eq!(told.len(), 18, "the length, and each of the words: {told:?}");

    assert_eq!(say(rules(), "What a fine day").await?, [""; 0]);
    println!("\"What a fine day\": published");
    Ok(())
}
