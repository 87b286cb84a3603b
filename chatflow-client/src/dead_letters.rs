//! `dead-letters`: what was accepted and could not be stored.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::Value;

use crate::pages::{Amount, Pages};
use crate::servers::{self, Asked, Ended, Missing, Servers, list, print_all, query};
use crate::table::{Column, cell, table};
use crate::terminal::{harmless, print};

/// What `dead-letters` is told on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All of them, on all nodes.
    List(ListArgs),
    /// Publish them again, under the ids that they have; each is gone once it is in the history.
    Replay(ReplayArgs),
    /// Forget one for good.
    Discard(DiscardArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, it refuses, or a node could not be asked; 2 usage; 130 interrupted.")]
struct ListArgs {
    #[command(flatten)]
    asked: Asked,
    /// Only what comes after this one in the list.
    #[arg(long)]
    after: Option<String>,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, it refuses, or a letter stays one; 2 usage; 130 interrupted.")]
#[group(id = "which", required = true, multiple = false)]
struct ReplayArgs {
    #[command(flatten)]
    asked: Asked,
    /// The letter, by its id in the list.
    #[arg(group = "which")]
    id: Option<String>,
    /// Every letter.
    #[arg(long, group = "which")]
    all: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, or it refuses; 2 usage; 130 interrupted.")]
struct DiscardArgs {
    #[command(flatten)]
    asked: Asked,
    /// The letter, by its id in the list.
    id: String,
}

const PATH: &str = "/api/v1/dead-letters";

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    match args.action {
        Action::List(args) => servers::run(show(args)).await,
        Action::Replay(args) => servers::run(replay(args)).await,
        Action::Discard(args) => servers::run(discard(args)).await,
    }
}

async fn show(args: ListArgs) -> Ended<()> {
    let mut servers = Servers::new(&args.asked)?;
    let pages = Pages::named(PATH.to_owned(), "deadLetters", args.after.as_deref());
    let columns = [
        Column::Text("ID"),
        Column::Text("TIME"),
        Column::Text("ROOM"),
        Column::Text("MESSAGE ID"),
        Column::Figure("BYTES"),
        Column::Text("NODE"),
        Column::Text("REASON"),
    ];
    let fields = ["id", "at", "roomId", "messageId", "bytes", "node", "reason"];
    pages.show(&mut servers, &args.amount, args.asked.json, columns, |letter| fields.map(|name| cell(letter, name))).await
}

/// One call tries a thousand letters at most; what fails stays, and the next call goes on behind it.
async fn replay(args: ReplayArgs) -> Ended<()> {
    let mut servers = Servers::new(&args.asked)?;
    let (mut replayed, mut failures, mut missing) = (0, Vec::new(), Missing::default());
    let mut after = None::<String>;
    loop {
        let parameters = match &args.id {
            Some(id) => query(&[("id", Some(id))]),
            None => query(&[("limit", Some("1000")), ("after", after.as_deref())]),
        };
        let body = servers.post(&format!("{PATH}/replay{parameters}")).await?;
        if args.asked.json {
            print(&body.to_string());
        }
        replayed += body.get("replayed").and_then(Value::as_u64).unwrap_or_default();
        failures.extend(list(&body, "failed")?.iter().map(|one| ["id", "code", "reason"].map(|name| cell(one, name))));
        missing.note(&body);
        after = body.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() || args.id.is_some() {
            break;
        }
    }
    let failed = failures.len();
    if !args.asked.json {
        if failed > 0 {
            print_all(&table(["ID", "CODE", "REASON"].map(Column::Text), failures));
        }
        print(&format!("{replayed} replayed, {failed} failed"));
    }
    missing.done()?;
    if failed == 0 { Ok(()) } else { Err(ExitCode::FAILURE) }
}

async fn discard(args: DiscardArgs) -> Ended<()> {
    let mut servers = Servers::new(&args.asked)?;
    let body = servers.delete(&format!("{PATH}{}", query(&[("id", Some(&args.id))]))).await?;
    let discarded = cell(&body, "discarded");
    print(&if args.asked.json { body.to_string() } else { format!("{} discarded", harmless(&discarded)) });
    let mut missing = Missing::default();
    missing.note(&body);
    missing.done()
}
