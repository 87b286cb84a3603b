//! A history as JSON lines: taken out of one store, and put into another or the same.
//!
//! The first line says what it is, and then, log by log and in the order of their positions, there is a line for each message with
//! everything that the store keeps of it. A log's history begins at `begins`, and ends at `through`, which may be past its last message.
//!
//! ```json
//! {"type":"archive","version":1,"logs":16,"at":"2026-11-20T11:02:10.123Z"}
//! {"type":"begin","log":3,"begins":"1763636530123:0"}
//! {"type":"message","log":3,"position":"1763636530123:1","messageId":"018f2f6e-7c1b-7c5e-9b0e-3a4d5c6b7a89","roomId":"lobby","sender":"42","kind":"TEXT","at":1763636530123,"node":"node-1","session":"1a1f8f4a7cb0000","origin":"127.0.0.1","digest":"00f3a1b2c3d4e5f6","body":"…"}
//! {"type":"end","log":3,"through":"1763636530123:1"}
//! ```
//!
//! A body that is not Unicode stands in `bodyHex` instead of `body`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use chatflow_core::archive::{Export, Import};
//! use chatflow_core::store::MemoryStore;
//!
//! # async fn run() -> chatflow_core::Result<()> {
//! let (from, to) = (Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()));
//! let mut export = Export::begin(from, 16).await?;
//! let mut import = Import::new(to, 16, "the-importer");
//! while let Some(lines) = export.next().await? {
//!     for line in lines.lines() {
//!         import.line(line).await?;
//!     }
//! }
//! assert_eq!(import.finish().await?.messages, 0);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```

mod export;
mod import;
mod line;

pub use export::Export;
pub use import::{Import, Imported};

/// The longest line that is taken, in bytes: a message of the largest size, escaped.
pub const LONGEST_LINE: usize = 64 << 20;

const ORIGIN: &str = "archive";
