//! Lists that come in pages: as many of them as it takes.

use serde_json::Value;

use crate::servers::{self, Ended, Missing, Servers, query};
use crate::table::{Column, tabbed, table};
use crate::terminal::print;

/// The largest page that a server gives.
const LARGEST_PAGE: u64 = 1_000;
/// The most that is kept in memory to be shown as one table.
const LARGEST_TABLE: u64 = 100_000;

/// How much of a list.
#[derive(Debug, clap::Args)]
pub(crate) struct Amount {
    /// How many at most; a server gives 1,000 at a time, and is asked as often as it takes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=LARGEST_TABLE))]
    limit: u64,
    /// Everything, oldest or first by name first: a line each as it comes, with tabs between the columns.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// A list on a server.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    /// Its path.
    pub(crate) path: String,
    /// The name of the list in an answer.
    pub(crate) list: &'static str,
    /// Where to begin and go forward from.
    pub(crate) after: Option<&'a str>,
    /// Where to end, or to go back from.
    pub(crate) before: Option<&'a str>,
    /// The other parameters.
    pub(crate) others: Vec<(&'static str, Option<&'a str>)>,
    /// What is before everything, for a list that is given from its newest end unless it is asked to go forward.
    pub(crate) origin: Option<&'a str>,
}

impl<'a> Pages<'a> {
    /// A list by name, which is read forward only.
    pub(crate) fn named(path: String, list: &'static str, after: Option<&'a str>) -> Self {
        Self { path, list, after, before: None, others: Vec::new(), origin: None }
    }

    /// Shows as much of it as is wanted: a table, lines, or JSON, an object a line.
    pub(crate) async fn show<const N: usize>(
        &self,
        servers: &mut Servers,
        amount: &Amount,
        json: bool,
        columns: [Column; N],
        row: impl Fn(&Value) -> [String; N],
    ) -> Ended<()> {
        if amount.all {
            return self.stream(servers, |one| if json { one.to_string() } else { tabbed(&row(one)) }).await;
        }
        let mut missing = Missing::default();
        let items = self.collect(servers, amount.limit, &mut missing).await?;
        if json {
            servers::print_all(&items.iter().map(Value::to_string).collect::<Vec<_>>());
        } else {
            servers::print_all(&table(columns, items.iter().map(row)));
        }
        missing.done()
    }

    /// Everything, from the beginning on, until there is no more or nobody reads it.
    async fn stream(&self, servers: &mut Servers, line: impl Fn(&Value) -> String) -> Ended<()> {
        let mut after = self.after.or(self.origin).map(str::to_owned);
        let mut missing = Missing::default();
        loop {
            let page = self.page(servers, after.as_deref(), self.before, LARGEST_PAGE).await?;
            missing.note(&page);
            for item in servers::list(&page, self.list)? {
                if !print(&line(item)) {
                    return Ok(());
                }
            }
            after = cursor(&page, "next");
            if after.is_none() {
                return missing.done();
            }
        }
    }

    /// At most `limit`: from `after` on, or else the newest where the list has such an end. In the order of the list.
    async fn collect(&self, servers: &mut Servers, limit: u64, missing: &mut Missing) -> Ended<Vec<Value>> {
        let is_forward = self.after.is_some() || self.origin.is_none();
        let (mut after, mut before) = (self.after.map(str::to_owned), self.before.map(str::to_owned));
        let mut pages: Vec<Vec<Value>> = Vec::new();
        let mut left = limit;
        loop {
            let page = self.page(servers, after.as_deref(), before.as_deref(), left.min(LARGEST_PAGE)).await?;
            missing.note(&page);
            let items = servers::list(&page, self.list)?;
            left = left.saturating_sub(items.len() as u64);
            pages.push(items.to_vec());
            let more = cursor(&page, if is_forward { "next" } else { "previous" });
            let Some(more) = more else { break };
            if left == 0 {
                let option = if is_forward { "--after" } else { "--before" };
                eprintln!("more: {option} {}", crate::terminal::harmless(&more));
                break;
            }
            *(if is_forward { &mut after } else { &mut before }) = Some(more);
        }
        if !is_forward {
            pages.reverse();
        }
        Ok(pages.into_iter().flatten().collect())
    }

    async fn page(&self, servers: &mut Servers, after: Option<&str>, before: Option<&str>, limit: u64) -> Ended<Value> {
        let limit = limit.to_string();
        let mut parameters = vec![("after", after), ("before", before), ("limit", Some(limit.as_str()))];
        parameters.extend(&self.others);
        servers.get(&format!("{}{}", self.path, query(&parameters))).await
    }
}

fn cursor(page: &Value, name: &str) -> Option<String> {
    page.get(name)?.as_str().map(str::to_owned)
}
