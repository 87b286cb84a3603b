//! `analytics`: who said how much, and where.

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};
use serde_json::Value;

use crate::servers::{self, Asked, Ended, Servers, list, print_all, query};
use crate::table::{Column, cell, table};
use crate::terminal::{harmless, print};

/// What `analytics` is told on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// How many users said something.
    ActiveUsers(Span),
    /// Who said the most.
    TopUsers(Listed),
    /// Where the most was said.
    TopRooms(Listed),
    /// How many messages each second, minute, hour or day has that has any.
    MessageRate(Rated),
    /// Who was in how many rooms.
    Participation(Listed),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, or it refuses; 2 usage; 130 interrupted.")]
struct Span {
    #[command(flatten)]
    asked: Asked,
    /// From this time on, such as 2026-11-20T11:00:00Z; whole minutes are counted, and the range that was is told.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// Up to this time.
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
}

#[derive(Debug, clap::Args)]
struct Listed {
    #[command(flatten)]
    span: Span,
    /// How many at most, 1 to 1,000.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

#[derive(Debug, clap::Args)]
struct Rated {
    #[command(flatten)]
    span: Span,
    /// How many at most, 1 to 1,000: the newest.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
    /// What is counted.
    #[arg(long, value_enum, default_value_t = Step::Minute)]
    step: Step,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Step {
    Second,
    Minute,
    Hour,
    Day,
}

impl Step {
    fn text(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    servers::run(async {
        match args.question {
            Question::ActiveUsers(span) => {
                span.answer("active-users", None, None, |body| {
                    print_all(&table([Column::Figure("USERS")], [[cell(body, "users")]]));
                    Ok(())
                })
                .await
            }
            Question::TopUsers(Listed { span, limit }) => {
                span.answer("top-users", Some(limit), None, |body| {
                    pairs(body, "users", [Column::Text("USER"), Column::Figure("MESSAGES")], ["userId", "messages"])
                })
                .await
            }
            Question::TopRooms(Listed { span, limit }) => {
                span.answer("top-rooms", Some(limit), None, |body| {
                    pairs(body, "rooms", [Column::Text("ROOM"), Column::Figure("MESSAGES")], ["roomId", "messages"])
                })
                .await
            }
            Question::MessageRate(Rated { span, limit, step }) => {
                span.answer("message-rate", Some(limit), Some(step), |body| {
                    pairs(body, "steps", [Column::Text("FROM"), Column::Figure("MESSAGES")], ["at", "messages"])
                })
                .await
            }
            Question::Participation(Listed { span, limit }) => span.answer("participation", Some(limit), None, participation).await,
        }
    })
    .await
}

impl Span {
    async fn answer(&self, what: &str, limit: Option<u16>, step: Option<Step>, show: impl Fn(&Value) -> Ended<()>) -> Ended<()> {
        let mut servers = Servers::new(&self.asked)?;
        let limit = limit.map(|limit| limit.to_string());
        let parameters =
            [("start", self.start.as_deref()), ("end", self.end.as_deref()), ("limit", limit.as_deref()), ("step", step.map(Step::text))];
        let body = servers.get(&format!("/api/v1/analytics/{what}{}", query(&parameters))).await?;
        if self.asked.json {
            print(&body.to_string());
            return Ok(());
        }
        show(&body)?;
        let text = |name, none: &str| body.get(name).and_then(Value::as_str).map_or(none.to_owned(), harmless);
        let counted = match body.get("asOf").and_then(Value::as_str) {
            Some(at) => format!("what was accepted before {} is counted", harmless(at)),
            None => "everything is counted".to_owned(),
        };
        eprintln!("from {} to {}; {counted}", text("start", "the beginning"), text("end", "now"));
        Ok(())
    }
}

fn pairs(body: &Value, name: &str, columns: [Column; 2], fields: [&str; 2]) -> Ended<()> {
    print_all(&table(columns, list(body, name)?.iter().map(|one| fields.map(|field| cell(one, field)))));
    Ok(())
}

fn participation(body: &Value) -> Ended<()> {
    let heads = ["USERS", "ROOMS", "PAIRS", "USERS/ROOM", "ROOMS/USER"].map(Column::Figure);
    let average = |name| body.get(name).and_then(Value::as_f64).map_or("-".to_owned(), |average| format!("{average:.2}"));
    let figures = [cell(body, "users"), cell(body, "rooms"), cell(body, "pairs"), average("usersPerRoom"), average("roomsPerUser")];
    print_all(&table(heads, [figures]));
    print("");
    pairs(body, "fullestRooms", [Column::Text("ROOM"), Column::Figure("USERS")], ["roomId", "users"])?;
    print("");
    pairs(body, "busiestUsers", [Column::Text("USER"), Column::Figure("ROOMS")], ["userId", "rooms"])
}
