//! `users`: what somebody said, and where.

use std::process::ExitCode;

use clap::Subcommand;

use crate::history::Range;
use crate::pages::{Amount, Pages};
use crate::servers::{self, Asked, Servers, encoded};
use crate::table::{Column, cell};

/// What `users` is told on the command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// What a user said, in all rooms.
    Messages(MessagesArgs),
    /// The rooms in which a user said something.
    Rooms(RoomsArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, or it refuses; 2 usage; 130 interrupted.")]
struct MessagesArgs {
    #[command(flatten)]
    asked: Asked,
    /// The user's id.
    #[arg(allow_hyphen_values = true)]
    user: String,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    amount: Amount,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, or it refuses; 2 usage; 130 interrupted.")]
struct RoomsArgs {
    #[command(flatten)]
    asked: Asked,
    /// The user's id.
    #[arg(allow_hyphen_values = true)]
    user: String,
    /// Only rooms whose names come after this one.
    #[arg(long)]
    after: Option<String>,
    #[command(flatten)]
    amount: Amount,
}

/// Before every cursor of a user's messages.
const ORIGIN: &str = "0.00000000-0000-0000-0000-000000000000";

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    match args.question {
        Question::Messages(args) => servers::run(messages(args)).await,
        Question::Rooms(args) => servers::run(rooms(args)).await,
    }
}

async fn messages(args: MessagesArgs) -> servers::Ended<()> {
    let mut servers = Servers::new(&args.asked)?;
    let pages = args.range.messages(format!("/api/v1/users/{}/messages", encoded(&args.user)), ORIGIN);
    let heads = ["TIME", "ROOM", "POSITION", "NAME", "TYPE", "MESSAGE"].map(Column::Text);
    let fields = ["serverTimestamp", "roomId", "position", "username", "messageType", "message"];
    pages.show(&mut servers, &args.amount, args.asked.json, heads, |message| fields.map(|name| cell(message, name))).await
}

async fn rooms(args: RoomsArgs) -> servers::Ended<()> {
    let mut servers = Servers::new(&args.asked)?;
    let pages = Pages::named(format!("/api/v1/users/{}/rooms", encoded(&args.user)), "rooms", args.after.as_deref());
    let heads = [Column::Text("ROOM"), Column::Text("LAST")];
    let fields = ["roomId", "lastActivity"];
    pages.show(&mut servers, &args.amount, args.asked.json, heads, |room| fields.map(|name| cell(room, name))).await
}
