//! What is printed in the end.

use crate::ask::Measured;
use crate::questions::Question;

/// The answers with so many rows.
pub(crate) type Answers = Vec<(Question, Measured)>;

/// One line for each question; whether each was answered within a tenth of its limit, by 99 of 100.
pub(crate) fn tell(rows: u64, answers: &Answers) -> bool {
    println!("\n{rows} rows; times in ms, processor in ms an answer");
    println!(
        "{:<50} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>6}",
        "", "answers/s", "p50", "p99", "max", "server", "database", "largest", "aim"
    );
    let mut all = true;
    for (question, measured) in answers {
        let p99 = measured.within(0.99);
        let aim = question.limit.map_or(String::new(), |limit| {
            let is_met = p99 <= limit / 10.0;
            all &= is_met;
            format!("{:>6.0} {}", limit / 10.0, if is_met { "met" } else { "MISSED" })
        });
        let [server, database] = measured.processor;
        println!(
            "{:<50} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {server:>8.2} {database:>8.2} {:>5} kB {aim}",
            question.name,
            measured.rate(),
            measured.within(0.5),
            p99,
            measured.within(1.0),
            measured.largest.div_ceil(1_000),
        );
    }
    all
}

/// How much slower 99 of 100 answers are with the most rows than with the fewest.
pub(crate) fn compare((few, before): &(u64, Answers), (many, after): &(u64, Answers)) {
    println!("\np99 with {few} rows and with {many} rows, ms, and its ratio");
    for ((question, before), (_, after)) in before.iter().zip(after) {
        let (before, after) = (before.within(0.99), after.within(0.99));
        println!("{:<50} {before:>8.2} {after:>8.2} {:>8.2}", question.name, after / before);
    }
}
