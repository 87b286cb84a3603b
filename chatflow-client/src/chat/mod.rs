//! `chat`: a person at a terminal, or a script in a pipe.

mod advice;
mod command;
mod editor;
mod interactive;
mod piped;
mod view;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use chatflow_client::{Client, Error, JoinOptions};

/// What `chat` is told on the command line.
#[derive(Debug, clap::Args)]
#[command(after_help = "At a terminal: what you type is said in the room; /help lists the commands; Ctrl-D or /quit leaves, Ctrl-C \
                        too, with exit code 130.\nIn a pipe: each line of standard input is said; messages come out as lines \
                        `TIME NAME: TEXT`; it ends when the input has ended and everything was acknowledged.\n\nExit codes: 0 done; \
                        1 unreachable, refused, or (in a pipe) a line was not taken; 2 usage; 130 interrupted.\nNO_COLOR turns colours off.")]
pub(crate) struct Args {
    /// The server, such as ws://127.0.0.1:8080, or several, separated by commas: it goes to the one that is
    /// best, and to another when that fails.
    url: String,
    /// The room.
    #[arg(long)]
    room: String,
    /// Your name there: 3 to 20 of A-Z a-z 0-9, unless the server has other rules.
    #[arg(long)]
    username: String,
    /// Your number there: 1 to 100000, unless the server has other rules [default: made of the name]
    #[arg(long)]
    user_id: Option<String>,
    /// A bearer token, for servers that want one.
    #[arg(long, env = "CHATFLOW_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Asks the servers which of them is best (/api/v1/assign), as it does anyway when several are given.
    #[arg(long)]
    assign: bool,
    /// How many of the last messages to show first, messages.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=1_000))]
    history: u16,
}

impl Args {
    /// The same name is the same number, on every machine.
    fn user_id(&self) -> String {
        let hash = self.username.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        self.user_id.clone().unwrap_or_else(|| (hash % 100_000 + 1).to_string())
    }

    fn options(&self) -> JoinOptions {
        JoinOptions { after: None, history: (self.history > 0).then_some(self.history.into()) }
    }
}

/// Runs it.
pub(crate) async fn run(args: Args) -> ExitCode {
    let assign = args.assign || args.url.contains(',');
    let builder = Client::builder(&args.url).assign(assign).user(args.user_id(), &args.username).room_with(&args.room, args.options());
    let builder = match &args.token {
        Some(token) => builder.token(token),
        None => builder,
    };
    let connected = tokio::select! {
        connected = builder.connect() => connected,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
    };
    match connected {
        Ok((client, events)) if io::stdin().is_terminal() && io::stdout().is_terminal() => interactive::run(&args, client, events).await,
        Ok((client, events)) => piped::run(&args, client, events).await,
        Err(error @ (Error::BadUrl { .. } | Error::BadRoom(_) | Error::BadToken)) => crate::usage(&error),
        Err(error) => {
            eprintln!("error: {}", advice::explain(&error));
            ExitCode::FAILURE
        }
    }
}
