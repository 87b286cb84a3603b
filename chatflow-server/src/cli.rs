//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Flags;
use crate::user::UserCommand;

/// Room broadcast over WebSockets: one process, a chat page, a history.
#[derive(Debug, Parser)]
#[command(name = "chatflow-server", version, about, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    settings: SettingArgs,
}

const AFTER: &str = "Every setting can stand in a TOML file (--config), in the environment (CHATFLOW_SECTION__KEY) and on the command line
(--set section.key=value); the later wins. `chatflow-server default-config` lists them all.

Exit codes: 0 done; 1 the work failed; 2 usage or configuration.";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Serve until SIGTERM or SIGINT (what happens without a command).
    Run,
    /// Check the configuration and print what is in force, without secrets.
    CheckConfig,
    /// Print every setting with its meaning and default, as TOML.
    DefaultConfig,
    /// Print the description of the HTTP API, OpenAPI 3.1.
    Openapi,
    /// Make and update the tables of the history, and end.
    Migrate {
        /// Have the summaries counted anew: they are emptied here, and counted by the node that writes. With SQLite, while no server runs.
        #[arg(long)]
        rebuild_summaries: bool,
    },
    /// Write the history as JSON lines, each message with all that is kept of it. Servers may run meanwhile, but not on an SQLite file.
    Export {
        /// Only this room.
        #[arg(long)]
        room: Option<String>,
        /// The file to make; - is the standard output.
        #[arg(long, value_name = "FILE", default_value = "-")]
        out: PathBuf,
    },
    /// Put exported lines into a history that no server writes. What is there already stays as it is.
    Import {
        /// The file to read; - is the standard input.
        file: PathBuf,
    },
    /// Make, change, remove and list the accounts that may log in.
    User {
        #[command(subcommand)]
        command: UserCommand,
    },
}

#[derive(Debug, Args)]
struct SettingArgs {
    /// The configuration, TOML.
    #[arg(long, global = true, value_name = "FILE", env = "CHATFLOW_CONFIG")]
    config: Option<PathBuf>,
    /// Where clients connect [default: 127.0.0.1:8080].
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    /// A second address, for admin calls.
    #[arg(long, global = true, value_name = "ADDR")]
    admin_listen: Option<String>,
    /// This node's name.
    #[arg(long, global = true, value_name = "ID")]
    node_id: Option<String>,
    /// How clients reach this server, through a proxy or from elsewhere.
    #[arg(long, global = true, value_name = "URL")]
    public_url: Option<String>,
    /// The broker: memory: | redis://HOST | redis-cluster://HOST,HOST | amqp://HOST | sqs://REGION, and rediss, amqps with TLS
    /// [default: memory:].
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// The history: none | memory: | sqlite:FILE | postgres://HOST/DATABASE | mysql://HOST/DATABASE [default: sqlite:chatflow.db].
    #[arg(long, global = true, value_name = "URL")]
    store: Option<String>,
    /// The cache in front of the history: none | memory: | redis://HOST [default: memory:].
    #[arg(long, global = true, value_name = "URL")]
    cache: Option<String>,
    /// Where nodes find each other: none | broker: | redis://HOST [default: through a broker that nodes share].
    #[arg(long, global = true, value_name = "URL")]
    directory: Option<String>,
    /// Any setting; may be given several times.
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Cli {
    /// The settings among the arguments.
    pub(crate) fn flags(self) -> Flags {
        let args = self.settings;
        let named = [
            ("--listen", "server.listen", args.listen),
            ("--admin-listen", "server.admin_listen", args.admin_listen),
            ("--node-id", "node.id", args.node_id),
            ("--public-url", "server.public_url", args.public_url),
            ("--broker", "broker.url", args.broker),
            ("--store", "store.url", args.store),
            ("--cache", "cache.url", args.cache),
            ("--directory", "cluster.directory", args.directory),
        ];
        let named = named.into_iter().filter_map(|(flag, key, value)| Some((flag, key, value?))).collect();
        Flags { file: args.config, named, set: args.set }
    }
}
