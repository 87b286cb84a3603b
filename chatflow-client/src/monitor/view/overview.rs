//! All servers, in a line each.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{DOUBTFUL, HEAD, draw_lines, style};
use crate::monitor::columns::{Column, Columns, cut, figure, text};
use crate::monitor::figures::{NONE, known, latency, rate, span};
use crate::monitor::rates::Counter;
use crate::monitor::server::{Server, State};
use crate::terminal::width;

const COLUMNS: [Column; 12] = [
    text("SERVER", 16, 0),
    text("NODE", 10, 8),
    text("STATE", 9, 1),
    figure("IN/S", 8, 2),
    figure("OUT/S", 9, 3),
    figure("SAVED/S", 8, 5),
    figure("WAITING", 8, 4),
    figure("LAG", 8, 6),
    figure("COMMIT", 8, 7),
    figure("REFUSED/S", 9, 9),
    figure("CONNS", 7, 10),
    figure("MEMBERS", 9, 11),
];
const STATE: usize = 2;
const REFUSED: usize = 9;

/// Draws them, scrolled so that the chosen one is seen.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, servers: &[Server], chosen: usize, now: Instant) {
    // Two are for the sign before the chosen one.
    let room = usize::from(area.width).saturating_sub(2);
    let widest = servers.iter().map(|server| width(address(server))).max().unwrap_or_default();
    let columns = Columns::fit(COLUMNS, room, widest);
    let most = usize::from(area.height).saturating_sub(1);
    let first = (chosen + 1).saturating_sub(most);
    let mut lines = vec![Line::styled(format!("  {}", columns.head()), HEAD)];
    for (place, server) in servers.iter().enumerate().skip(first).take(most) {
        let sign = if place == chosen && servers.len() > 1 { "▸ " } else { "  " };
        lines.push(line(sign, &columns, room, server, now));
    }
    draw_lines(frame, area, lines);
}

fn line(sign: &'static str, columns: &Columns<12>, room: usize, server: &Server, now: Instant) -> Line<'static> {
    let cells = cells(server);
    let tells = server.sample().is_some() && server.state() != State::NotReady;
    // What is wrong takes the room of the figures.
    let shown = columns.cells(&cells).take_while(|(place, _)| tells || *place <= STATE);
    let mut spans = vec![Span::raw(sign)];
    spans.extend(shown.map(|(place, cell)| Span::styled(cell, cell_style(place, server))));
    if !tells && server.state() != State::Asked {
        let mut why = format!("  for {}", span(server.since(now)));
        if !server.reason().is_empty() {
            why += &format!(": {}", server.reason());
        }
        let taken: usize = spans.iter().skip(1).map(|span| width(&span.content)).sum();
        spans.push(Span::styled(cut(&why, room.saturating_sub(taken)), style(server.state())));
    }
    Line::from(spans)
}

fn cell_style(place: usize, server: &Server) -> Style {
    match place {
        STATE => style(server.state()),
        REFUSED if server.rate(Counter::Refused).is_some_and(|rate| rate > 0.0) => DOUBTFUL,
        _ => Style::new(),
    }
}

fn cells(server: &Server) -> [String; 12] {
    let per_second = |counter| rate(server.rate(counter));
    let figures = server.sample().map(|sample| &sample.figures);
    let node = figures.map_or(NONE, |figures| figures.node.as_str());
    [
        address(server).to_owned(),
        if node.is_empty() { NONE.to_owned() } else { node.to_owned() },
        server.state().word().to_owned(),
        per_second(Counter::Accepted),
        per_second(Counter::Deliveries),
        per_second(Counter::Persisted),
        known(server.queues().map(|queues| queues.waiting)),
        latency(server.lag_seconds()),
        latency(server.commit_seconds()),
        per_second(Counter::Refused),
        known(figures.and_then(|figures| figures.connections)),
        known(figures.and_then(|figures| figures.members)),
    ]
}

/// An address without the scheme that nearly all have.
fn address(server: &Server) -> &str {
    server.url.strip_prefix("ws://").unwrap_or(&server.url)
}
