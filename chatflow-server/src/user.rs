//! `chatflow-server user`: accounts by hand.

use std::io::{BufRead, IsTerminal, Read};
use std::path::{Path, PathBuf};

use chatflow_core::Account;
use chatflow_core::accounts::{Accounts, Added};
use chatflow_core::auth::Passwords;
use clap::Subcommand;
use uuid::Uuid;

use crate::config::{Config, ConfigError};
use crate::failed::Failed;
use crate::wiring;

/// Ids that are tried for a user who is given none.
const TRIES: usize = 200;

/// Accounts that are read at a time.
const PAGE: usize = 1_000;

/// More than the longest password; what is longer is refused, not read.
const LONGEST_INPUT: u64 = 4_096;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UserCommand {
    /// Make an account. The password is asked for at a terminal, else it is the first line of the input.
    Add {
        /// The name to log in with: 3 to 20 of A-Z a-z 0-9.
        name: String,
        /// The userId; a random one that is free unless given.
        #[arg(long)]
        id: Option<String>,
        /// The password is the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Set another password. Whoever is logged in under the name is logged out.
    Passwd {
        /// The name.
        name: String,
        /// The password is the first line of this file.
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Remove an account. Whoever is logged in under the name is logged out.
    Remove {
        /// The name.
        name: String,
    },
    /// List the accounts by name.
    List,
}

/// Does it; what to tell.
///
/// # Errors
/// It could not be done, or not with this configuration.
pub(crate) async fn run(config: &Config, command: UserCommand) -> Result<String, Failed> {
    // Before the store is opened: what is typed may take a while.
    let password = match &command {
        UserCommand::Add { password_file, .. } | UserCommand::Passwd { password_file, .. } => Some(password(password_file.as_deref())?),
        UserCommand::Remove { .. } | UserCommand::List => None,
    };
    if let UserCommand::Add { id: Some(id), .. } = &command {
        check_id(config, id)?;
    }
    let accounts = wiring::lasting_accounts(&config.store).await?;
    let password = password.as_deref().unwrap_or_default();
    match &command {
        UserCommand::Add { name, id, .. } => add(config, &*accounts, name, id.as_deref(), password).await,
        UserCommand::Passwd { name, .. } => set_password(&*accounts, name, password).await,
        UserCommand::Remove { name } => match accounts.remove(name).await {
            Ok(true) => Ok(format!("{name} is removed\n")),
            Ok(false) => Err(unknown(name)),
            Err(error) => Err(error.into()),
        },
        UserCommand::List => list(&*accounts).await,
    }
}

async fn add(config: &Config, accounts: &dyn Accounts, name: &str, id: Option<&str>, password: &str) -> Result<String, Failed> {
    // The name first: hashing takes a while.
    Account::new(name, id.unwrap_or("1").to_owned(), "")?;
    let hash = Passwords::default().hash(password).await?;
    for _ in 0..TRIES {
        let user = id.map_or_else(|| any_id(config), str::to_owned);
        let account = Account::new(name, user, hash.clone())?;
        match accounts.add(&account).await? {
            Added::Done => return Ok(format!("{} is made, with the userId {}\n", account.name, account.user)),
            Added::NameTaken => {
                return Err(format!(
                    "there is an account called {name} already: `user passwd` sets its password, `user remove` removes it"
                )
                .into());
            }
            Added::UserTaken if id.is_some() => return Err(format!("the userId {} is another account's", account.user).into()),
            Added::UserTaken => {}
        }
    }
    Err("no free userId was found: give one with --id".into())
}

async fn set_password(accounts: &dyn Accounts, name: &str, password: &str) -> Result<String, Failed> {
    let hash = Passwords::default().hash(password).await?;
    loop {
        let account = accounts.find(name).await?.ok_or_else(|| unknown(name))?;
        if accounts.replace(account.edition, &account.with_password(hash.clone())).await? {
            return Ok(format!("{} has another password\n", account.name));
        }
    }
}

async fn list(accounts: &dyn Accounts) -> Result<String, Failed> {
    let mut out = format!("{:<20}  {:<10}  {:<24}  PASSWORD SET\n", "NAME", "USERID", "MADE");
    let mut after: Option<String> = None;
    loop {
        let page = accounts.list(after.as_deref(), PAGE).await?;
        for account in &page {
            out += &format!("{:<20}  {:<10}  {}  {}\n", account.name, account.user, account.created, account.changed);
        }
        match page.last() {
            Some(last) => after = Some(last.key()),
            None => return Ok(out),
        }
    }
}

fn unknown(name: &str) -> Failed {
    format!("there is no account called {name:?}").into()
}

/// An id that messages may carry.
fn check_id(config: &Config, id: &str) -> Result<(), ConfigError> {
    let Some(range) = &config.validator.user_id.0 else { return Ok(()) };
    let is_number = id.parse().is_ok_and(|number: u64| range.contains(&number) && number.to_string() == id);
    let wrong = || {
        let (least, most) = (range.start(), range.end());
        ConfigError::line(format!("--id {id:?}: must be a whole number from {least} to {most}, as validator.user_id says"))
    };
    if is_number { Ok(()) } else { Err(wrong()) }
}

/// Any of them. At random, so that an id that was somebody's is seldom given again.
fn any_id(config: &Config) -> String {
    let (least, most) = config.validator.user_id.0.as_ref().map_or((1, u64::from(u32::MAX)), |range| (*range.start(), *range.end()));
    let span = u128::from(most.saturating_sub(least)) + 1;
    (u128::from(least) + Uuid::new_v4().as_u128() % span).to_string()
}

/// The password that somebody types, or the first line of a file or of the input.
fn password(file: Option<&Path>) -> Result<String, Failed> {
    if let Some(path) = file {
        let file = std::fs::File::open(path).map_err(|error| ConfigError::line(format!("--password-file {}: {error}", path.display())))?;
        return first_line(file);
    }
    if !std::io::stdin().is_terminal() {
        return first_line(std::io::stdin());
    }
    let ask = |prompt| rpassword::prompt_password(prompt).map_err(|error| Failed::from(format!("the password can't be read: {error}")));
    let password = ask("Password: ")?;
    if ask("Again: ")? == password { Ok(password) } else { Err("these are two passwords: nothing was changed".into()) }
}

fn first_line(from: impl Read) -> Result<String, Failed> {
    let mut line = String::new();
    let read = std::io::BufReader::new(from.take(LONGEST_INPUT)).read_line(&mut line);
    read.map_err(|error| Failed::from(format!("the password can't be read: {error}")))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}
