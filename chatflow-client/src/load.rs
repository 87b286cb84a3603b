//! `chatflow-client load`: a load generator that is an oracle as well.
//!
//! It shares no code with the client library's reconnecting, resuming and deduplication: it is there to find their
//! faults and the server's. Everything that is sent follows from a seed ([`plan`]), so the [`ledger`] knows what every
//! broadcast has to say; every member's view of a room is held against every other's, against the answers, and at the
//! end against the [`history`]. It needs about 200 bytes of memory for each message.

mod args;
mod clock;
mod csv;
mod flight;
mod frame;
mod history;
mod ledger;
mod listener;
mod picture;
mod plan;
mod progress;
mod reads;
mod reconnect;
mod report;
mod run;
mod sender;
mod sent;
mod stage;
mod stats;
mod texts;
mod violation;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(crate) use args::Args;
use args::Setup;
use csv::CsvFile;
use report::Report;
use run::{Phase, Run};

/// 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Does what `args` ask for, and prints what came of it.
///
/// Exit code 0: every message was accepted, shown to everybody once and in order, and is in the history; 1: not so;
/// 2: `args` make no sense; 130: interrupted.
pub(crate) async fn run(args: Args) -> ExitCode {
    let setup = match Setup::of(args) {
        Ok(setup) => setup,
        Err(why) => return usage(&why),
    };
    let csv = match setup.out.as_deref().map(prepare).transpose() {
        Ok(csv) => csv,
        Err(why) => return usage(&why),
    };
    let run = Arc::new(Run::new(setup));
    let interrupt = tokio::spawn(interrupt(Arc::clone(&run)));
    let progress = tokio::spawn(progress::tell(Arc::clone(&run)));
    let times = stage::perform(&run, csv.as_ref()).await;
    progress.abort();
    progress::clear();
    let times = match times {
        Ok(times) => times,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::FAILURE;
        }
    };
    let written = csv.map_or(Ok(()), CsvFile::finish);
    let interrupted = run.interrupted.load(Ordering::Relaxed);
    let observed = run.setup.senders == args::Senders::Members || run.setup.listeners > 0;
    run.ledger.conclude(run.truth(), observed);
    let history = match (run.setup.history, interrupted) {
        (true, false) => history::check(&run).await,
        (true, true) => history::Verdict::Skipped("not compared, interrupted".into()),
        (false, _) => history::Verdict::Skipped("not compared".into()),
    };
    interrupt.abort();
    let report = Report::of(&run, times, history, interrupted);
    print(&report);
    let kept = run.setup.out.as_deref().map_or(Ok(()), |dir| keep(&report, dir));
    if let Err(why) = written.map_err(|e| e.to_string()).and(kept) {
        eprintln!("error: the results could not be written: {why}");
        return ExitCode::FAILURE;
    }
    match (interrupted, report.passed()) {
        (true, _) => ExitCode::from(INTERRUPTED),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

fn usage(why: &str) -> ExitCode {
    eprintln!("error: {why}");
    ExitCode::from(2)
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(report: &Report) {
    print!("{report}");
}

fn prepare(dir: &Path) -> Result<CsvFile, String> {
    let file = dir.join("messages.csv");
    let created = std::fs::create_dir_all(dir).and_then(|()| CsvFile::create(&file));
    created.map_err(|e| format!("--out {}: {e}", dir.display()))
}

fn keep(report: &Report, dir: &Path) -> Result<(), String> {
    let json = serde_json::to_vec_pretty(report).map_err(|e| e.to_string())?;
    std::fs::write(dir.join("summary.json"), json).map_err(|e| e.to_string())?;
    report.throughput.draw(&dir.join("throughput.svg")).map_err(|e| e.to_string())
}

/// The first Ctrl-C ends the run in order, the second at once.
async fn interrupt(run: Arc<Run>) {
    if tokio::signal::ctrl_c().await.is_ok() {
        run.interrupted.store(true, Ordering::Relaxed);
        run.phase.send_replace(Phase::Stop);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(INTERRUPTED.into());
        }
    }
}
