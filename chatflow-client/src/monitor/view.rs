//! What is to be seen: all servers in a line each, and one of them in detail.

mod detail;
mod overview;

use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::columns::{cut, fit};
use super::figures::span;
use super::server::{Observation, Server, State};
use crate::terminal::width;

const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const QUIET: Style = Style::new().add_modifier(Modifier::DIM);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const GOOD: Style = Style::new().fg(Color::Green);
const DOUBTFUL: Style = Style::new().fg(Color::Yellow);

/// The servers that are watched, and the one that is chosen.
#[derive(Debug)]
pub(super) struct View {
    servers: Vec<Server>,
    chosen: usize,
    every: Duration,
}

impl View {
    /// Of servers, at least one, that are asked so often.
    pub(super) fn new(servers: Vec<Server>, every: Duration) -> Self {
        Self { servers, chosen: 0, every }
    }

    /// Takes in how a round of questions to one of them went.
    pub(super) fn observe(&mut self, place: usize, observation: Observation) {
        self.servers[place].observe(observation);
    }

    /// Chooses one so many places further down, round and round.
    pub(super) fn choose(&mut self, further: isize) {
        let all = self.servers.len();
        self.chosen = (self.chosen + all).saturating_add_signed(further) % all;
    }

    #[cfg(test)]
    pub(super) fn chosen(&self) -> usize {
        self.chosen
    }

    /// Draws all of it, in whatever room there is.
    pub(super) fn draw(&self, frame: &mut Frame<'_>, clock: &str, now: Instant) {
        let area = frame.area();
        let most = (usize::from(area.height) / 3).max(2);
        let lines = self.servers.len().min(most.saturating_sub(1)).max(1) + 1;
        let rows = [Constraint::Length(1), Constraint::Length(lines as u16), Constraint::Min(0)];
        let [title, overview, detail] = Layout::vertical(rows).areas(area);
        frame.render_widget(self.title(clock, title.width.into()), title);
        overview::draw(frame, overview, &self.servers, self.chosen, now);
        detail::draw(frame, detail, &self.servers[self.chosen], now);
    }

    fn title(&self, clock: &str, room: usize) -> Line<'static> {
        let ready = self.servers.iter().filter(|server| server.state() == State::Ready).count();
        let all = self.servers.len();
        let left = format!("ChatFlow  {ready} of {all} ready");
        let keys = if all > 1 { "↑↓ choose  q leave" } else { "q leave" };
        let right = format!("every {}  {clock}  {keys}", interval(self.every));
        let line = match room.checked_sub(width(&left) + width(&right)) {
            Some(blanks) if blanks >= 2 => format!("{left}{}{right}", " ".repeat(blanks)),
            _ => fit(&format!("{left}  {keys}"), room, false),
        };
        Line::styled(line, Style::new().add_modifier(Modifier::REVERSED))
    }
}

fn interval(every: Duration) -> String {
    if every < Duration::from_secs(1) { format!("{} ms", every.as_millis()) } else { span(every) }
}

/// How a state is shown.
fn style(state: State) -> Style {
    match state {
        State::Ready => GOOD,
        State::NotReady | State::Down => BAD,
        State::Draining | State::Up => DOUBTFUL,
        State::Asked => QUIET,
    }
}

/// A headline across the room.
fn headline(text: &str, room: usize) -> Line<'static> {
    let text = cut(text, room.saturating_sub(4));
    let rest = "─".repeat(room.saturating_sub(width(&text) + 4));
    Line::from_iter([Span::styled("── ", QUIET), Span::styled(text, HEAD), Span::styled(format!(" {rest}"), QUIET)])
}

/// Draws lines, those that there is room for.
fn draw_lines(frame: &mut Frame<'_>, area: Rect, lines: Vec<Line<'_>>) {
    frame.render_widget(Paragraph::new(lines), area);
}

#[cfg(test)]
mod tests;
