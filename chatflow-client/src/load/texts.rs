//! What the load says.

/// Fifty short texts, as people in a chat would write them; plain ASCII, so that bytes are characters.
pub(super) const TEXTS: [&str; 50] = [
    "Morning all, who has the deploy today?",
    "I'll take it, starting in ten minutes.",
    "Can someone look at the flaky login test?",
    "Looking now.",
    "Lunch at twelve?",
    "Make it half past, I'm still in a call.",
    "The new dashboard is up, tell me what you think.",
    "Graphs are great, the legend is a bit small.",
    "Noted, fixing that this afternoon.",
    "Who changed the retry limit to three?",
    "That was me, see the ticket from Tuesday.",
    "Ah, makes sense. Thanks!",
    "Does anybody know where the staging keys live?",
    "In the vault, under the team folder.",
    "The build is green again.",
    "Finally! What was it?",
    "A missing newline in a fixture, believe it or not.",
    "I believe it.",
    "Reminder: the retro is at three.",
    "I'll be five minutes late.",
    "No worries, we'll start with the easy part.",
    "Has the customer answered yet?",
    "Yes, they are happy with the second proposal.",
    "Great news, well done everybody.",
    "Coffee machine on the second floor is broken again.",
    "There is a spare one in the kitchen upstairs.",
    "You are a hero.",
    "Quick question: do we support time zones in exports?",
    "Everything is UTC, the viewer converts it.",
    "Perfect, that is what I hoped for.",
    "I pushed a draft, comments welcome.",
    "Two small remarks, otherwise ready to merge.",
    "Fixed both, please look again.",
    "Approved. Ship it!",
    "Rolling out to one percent now.",
    "Error rate is flat, latency slightly down.",
    "Ten percent.",
    "Still flat. Going to a hundred.",
    "Done. Watching it for another hour.",
    "Thanks for the calm rollout.",
    "Who wants to join the reading group on Thursday?",
    "Me! Which paper is it this time?",
    "The one about time, clocks and the ordering of events.",
    "A classic. Count me in.",
    "The train is late, I'll dial in from the platform.",
    "We can hear you fine, go ahead.",
    "Signing off for today, see you tomorrow.",
    "Good night!",
    "Last one out, please close the windows.",
    "Will do. Bye!",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_is_plain_and_says_something_else() {
        let distinct: std::collections::HashSet<_> = TEXTS.iter().collect();
        assert_eq!(distinct.len(), TEXTS.len());
        assert!(TEXTS.iter().all(|t| t.is_ascii() && (1..=500).contains(&t.len()) && !t.contains(['"', '\\'])));
    }
}
