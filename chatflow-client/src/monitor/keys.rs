//! What keys do.

use std::process::ExitCode;

use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};

use super::view::View;

/// Does what an event asks for; the exit code, if that is to end.
pub(super) fn obey(event: &Event, view: &mut View) -> Option<ExitCode> {
    let Event::Key(key) = event else { return None };
    if key.kind == KeyEventKind::Release {
        return None;
    }
    match key.code {
        // On a terminal of which every key is read, this is one, and no signal.
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(ExitCode::from(130)),
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Some(ExitCode::SUCCESS),
        KeyCode::Up | KeyCode::Char('k') | KeyCode::BackTab => view.choose(-1),
        KeyCode::Down | KeyCode::Char('j') | KeyCode::Tab => view.choose(1),
        _ => {}
    }
    None
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crossterm::event::KeyEvent;

    use super::*;
    use crate::monitor::invented::server;

    #[test]
    fn keys_choose_and_leave() {
        let now = Instant::now();
        let mut view = View::new(vec![server(now), server(now), server(now)], Duration::from_secs(1));
        let mut press = |code, modifiers| (obey(&Event::Key(KeyEvent::new(code, modifiers)), &mut view), view.chosen());
        let none = KeyModifiers::NONE;
        assert_eq!(press(KeyCode::Down, none), (None, 1));
        assert_eq!(press(KeyCode::Tab, none), (None, 2));
        assert_eq!(press(KeyCode::Char('j'), none), (None, 0), "round and round");
        assert_eq!(press(KeyCode::Up, none), (None, 2));
        assert_eq!(press(KeyCode::Char('c'), none), (None, 2));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), (Some(ExitCode::from(130)), 2));
        assert_eq!(press(KeyCode::Char('q'), none), (Some(ExitCode::SUCCESS), 2));
        assert_eq!(obey(&Event::Resize(1, 1), &mut view), None);
    }
}
