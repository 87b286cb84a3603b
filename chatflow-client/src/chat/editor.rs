//! The input line: edited on a thread of its own, intact while lines arrive above it.

use std::io::Write;
use std::sync::mpsc as blocking;
use std::time::Duration;

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor, ExternalPrinter};
use tokio::sync::mpsc;

use crate::terminal::width;

/// How long the editor waits for a new prompt before it goes on under the old one. Bounded, because the other side may be
/// waiting to print, which needs the editor.
const PROMPT_WAIT: Duration = Duration::from_millis(200);

/// What a person did.
#[derive(Debug)]
pub(super) enum Key {
    /// Entered a line; it is erased from the screen.
    Line(String),
    /// Pressed Ctrl-C.
    Interrupt,
    /// Pressed Ctrl-D, or the terminal is gone.
    End,
}

/// The input line.
pub(super) struct Editor {
    keys: mpsc::Receiver<Key>,
    prompts: blocking::Sender<String>,
    printer: Box<dyn ExternalPrinter + Send>,
    _terminal: SavedTerminal,
}

impl Editor {
    /// Opens it with this prompt.
    ///
    /// # Errors
    /// The terminal can't be used for editing.
    pub(super) fn open(prompt: String) -> Result<Self, ReadlineError> {
        let terminal = SavedTerminal::save();
        let mut editor = DefaultEditor::with_config(Config::builder().auto_add_history(true).build())?;
        let printer = Box::new(editor.create_external_printer()?);
        let (key_sender, keys) = mpsc::channel(16);
        let (prompts, prompt_receiver) = blocking::channel();
        std::thread::spawn(move || edit(&mut editor, prompt, &key_sender, &prompt_receiver));
        Ok(Self { keys, prompts, printer, _terminal: terminal })
    }

    /// The next thing that the person does.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub(super) async fn key(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::End)
    }

    /// Opens the line again after a [`Key::Line`].
    pub(super) fn again(&self, prompt: String) {
        // Nobody listens once the editor has ended.
        let _ = self.prompts.send(prompt);
    }

    /// Prints a line above the input.
    pub(super) fn print(&mut self, line: &str) {
        // A terminal that is gone shows itself as the end of the keys.
        let _ = self.printer.print(format!("{line}\n"));
    }
}

fn edit(editor: &mut DefaultEditor, mut prompt: String, keys: &mpsc::Sender<Key>, prompts: &blocking::Receiver<String>) {
    loop {
        let key = match editor.readline(&prompt) {
            Ok(line) => {
                if let Some((columns, _)) = editor.dimensions() {
                    erase(&prompt, &line, usize::from(columns));
                }
                Key::Line(line)
            }
            Err(ReadlineError::Interrupted) => Key::Interrupt,
            Err(_) => Key::End,
        };
        let last = !matches!(key, Key::Line(_));
        if keys.blocking_send(key).is_err() || last {
            return;
        }
        match prompts.recv_timeout(PROMPT_WAIT) {
            Ok(new) => prompt = new,
            Err(blocking::RecvTimeoutError::Timeout) => {}
            Err(blocking::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Takes a line that was entered off the screen: what was said is shown like everybody's.
fn erase(prompt: &str, line: &str, columns: usize) {
    let rows = rows(prompt, line, columns.max(1));
    let mut out = std::io::stdout();
    let _ = write!(out, "\x1b[{rows}A\r\x1b[J");
    let _ = out.flush();
}

fn rows(prompt: &str, line: &str, columns: usize) -> usize {
    let row = |text: &str, before: usize| (width(text) + before).saturating_sub(1) / columns + 1;
    line.split('\n').enumerate().map(|(n, text)| row(text, if n == 0 { width(prompt) } else { 0 })).sum()
}

/// The terminal as it was: given back on the way out, even while the editor has it in its own mode.
struct SavedTerminal {
    #[cfg(unix)]
    mode: Option<nix::sys::termios::Termios>,
}

impl SavedTerminal {
    fn save() -> Self {
        Self {
            #[cfg(unix)]
            mode: nix::sys::termios::tcgetattr(std::io::stdin()).ok(),
        }
    }
}

impl Drop for SavedTerminal {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(mode) = &self.mode {
            use nix::sys::termios::{SetArg, tcsetattr};
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, mode);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_that_a_line_takes_are_counted_in_columns() {
        assert_eq!(rows("7 ada> ", "", 20), 1);
        assert_eq!(rows("7 ada> ", &"x".repeat(13), 20), 1);
        assert_eq!(rows("7 ada> ", &"x".repeat(14), 20), 2);
        assert_eq!(rows("7 ada> ", &"日".repeat(7), 20), 2);
        assert_eq!(rows("7 ada> ", "a\nb", 20), 2);
        assert_eq!(rows("", "", 1), 1);
    }
}
