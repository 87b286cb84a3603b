//! What a machine may lack.

use std::io::Write;
use std::path::PathBuf;

/// Says that a test is skipped and why, where it is seen even though the test passes.
///
/// # Panics
/// In CI, where nothing may be missing.
pub fn skip(missing: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let ci = std::env::var("CI").is_ok_and(|ci| !matches!(ci.as_str(), "" | "0" | "false"));
    assert!(!ci, "{missing}");
    // Past the capture of `println`.
    let _ = writeln!(std::io::stderr(), "{test}: SKIPPED, {missing}");
}

/// Where `scripts/test` installs a program in Python.
pub fn packages(name: &str) -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("chatflow").join(name)
}
