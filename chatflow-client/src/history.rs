//! `history`: what was said in a room.

use std::process::ExitCode;

use crate::pages::{Amount, Pages};
use crate::servers::{self, Asked, Servers, encoded};
use crate::table::{Column, cell};

/// What `history` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes: 0 done; 1 no server answers, or it refuses; 2 usage; 130 interrupted.")]
pub(crate) struct Args {
    #[command(flatten)]
    asked: Asked,
    /// The room.
    #[arg(long)]
    room: String,
    #[command(flatten)]
    range: Range,
    #[command(flatten)]
    amount: Amount,
}

/// Which messages.
#[derive(Debug, clap::Args)]
pub(crate) struct Range {
    /// Only later than this place, from there on: a position, or a cursor from an earlier answer.
    #[arg(long, allow_hyphen_values = true)]
    after: Option<String>,
    /// Only earlier than this place.
    #[arg(long, allow_hyphen_values = true)]
    before: Option<String>,
    /// Only accepted at this time or later, such as 2026-11-20T11:02:10Z.
    #[arg(long, allow_hyphen_values = true)]
    start: Option<String>,
    /// Only accepted earlier than this time.
    #[arg(long, allow_hyphen_values = true)]
    end: Option<String>,
}

impl Range {
    /// Its messages at `path`, a list whose every place is after `origin`.
    pub(crate) fn messages<'a>(&'a self, path: String, origin: &'a str) -> Pages<'a> {
        Pages {
            before: self.before.as_deref(),
            others: vec![("start", self.start.as_deref()), ("end", self.end.as_deref())],
            origin: Some(origin),
            ..Pages::named(path, "messages", self.after.as_deref())
        }
    }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    servers::run(async {
        let mut servers = Servers::new(&args.asked)?;
        let pages = args.range.messages(format!("/api/v1/rooms/{}/messages", encoded(&args.room)), "0:0");
        let heads = ["POSITION", "TIME", "USER", "NAME", "TYPE", "MESSAGE"].map(Column::Text);
        let fields = ["position", "serverTimestamp", "userId", "username", "messageType", "message"];
        pages.show(&mut servers, &args.amount, args.asked.json, heads, |message| fields.map(|name| cell(message, name))).await
    })
    .await
}
