//! One server: its figures, its parts, its rooms, its nodes.

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{RenderDirection, Sparkline};

use super::{BAD, DOUBTFUL, GOOD, HEAD, QUIET, draw_lines, headline};
use crate::monitor::columns::{Column, Columns, cut, figure, fit, text};
use crate::monitor::figures::{NONE, bytes, count, known, latency, rate, span};
use crate::monitor::rates::Counter;
use crate::monitor::sample::{Node, Part, Queues, Sample};
use crate::monitor::server::Server;
use crate::terminal::width;

/// The narrowest room for a figure and its name.
const FIGURE: usize = 26;
/// From this on rooms and nodes stand side by side.
const WIDE: u16 = 100;
/// Below this the nodes are one line under the rooms.
const LOW: u16 = 10;

const ROOM_COLUMNS: [Column; 4] = [text("ROOM", 12, 0), figure("WAITING", 8, 1), figure("WRITING", 8, 3), figure("LOG", 8, 2)];
const NODE_COLUMNS: [Column; 6] =
    [text("NODE", 12, 0), text("STATE", 8, 1), figure("CONNS", 7, 2), figure("MSG/S", 7, 3), text("VERSION", 7, 5), text("ROLES", 19, 4)];

/// Draws it, the most important first: what there is no room for is left out.
pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, server: &Server, now: Instant) {
    let room = usize::from(area.width);
    let Some(sample) = server.sample() else {
        let mut lines = vec![headline(&server.url, room)];
        if !server.reason().is_empty() {
            lines.push(Line::styled(format!("{} for {}: {}", server.state().word(), span(server.since(now)), server.reason()), BAD));
        }
        return draw_lines(frame, area, lines);
    };
    let mut figures = figures(server, sample, room);
    // Rooms and nodes are to have their room too.
    figures.truncate(usize::from(area.height) * 2 / 5);
    let parts = parts(server, sample, room);
    let trend = match area.height {
        ..16 => 0,
        16..26 => 1,
        _ => 3,
    };
    let rows = [
        Constraint::Length(1),
        Constraint::Length(figures.len() as u16),
        Constraint::Length(parts.len() as u16),
        Constraint::Length(trend),
        Constraint::Min(0),
    ];
    let [head, place, beside, below, rest] = Layout::vertical(rows).areas(area);
    draw_lines(frame, head, vec![headline(&name(server, sample), room)]);
    draw_lines(frame, place, figures);
    draw_lines(frame, beside, parts);
    draw_trend(frame, below, server);
    if area.width >= WIDE {
        let [left, right] = Layout::horizontal([Constraint::Fill(2), Constraint::Fill(3)]).spacing(2).areas(rest);
        draw_rooms(frame, left, sample);
        draw_nodes(frame, right, sample);
    } else if rest.height < LOW {
        let [above, under] = Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(rest);
        draw_rooms(frame, above, sample);
        draw_lines(frame, under, vec![nodes_line(sample, room)]);
    } else {
        let wanted = sample.nodes.as_ref().map_or(1, Vec::len).saturating_add(2).min(usize::from(rest.height) / 2);
        let [above, under] = Layout::vertical([Constraint::Min(0), Constraint::Length(wanted as u16)]).areas(rest);
        draw_rooms(frame, above, sample);
        draw_nodes(frame, under, sample);
    }
}

fn name(server: &Server, sample: &Sample) -> String {
    let figures = &sample.figures;
    let node = if figures.node.is_empty() { NONE } else { &figures.node };
    let memory = bytes(figures.resident_bytes.map(|n| n as f64));
    format!("{node}  {}  {}  up {}  {memory}", server.url, figures.version, span(figures.uptime))
}

/// Names and figures, four beside one another where there is room: what comes in, what goes out, the history, what goes wrong.
fn figures(server: &Server, sample: &Sample, room: usize) -> Vec<Line<'static>> {
    let a_second = |figure: String| if figure == NONE { figure } else { figure + "/s" };
    let per_second = |counter| a_second(rate(server.rate(counter)));
    let bytes_per_second = |counter| a_second(bytes(server.rate(counter)));
    let figures = &sample.figures;
    let queues = server.queues();
    let plain = |name: &'static str, value: String| (name, value, Style::new());
    // How often it happened, and, while it does, how often a second.
    let wrong = |name: &'static str, counter: Counter, bad: Style| {
        let all = known(figures.counters.of(counter));
        match server.rate(counter).filter(|rate| *rate > 0.0) {
            Some(now) => (name, format!("{}/s {all}", rate(Some(now))), bad),
            None => (name, all, Style::new()),
        }
    };
    let waiting = queues.map(|queues| queues.waiting);
    let cells = [
        plain("in", per_second(Counter::Accepted)),
        plain("out", per_second(Counter::Deliveries)),
        plain("saved", per_second(Counter::Persisted)),
        wrong("refused", Counter::Refused, DOUBTFUL),
        plain("connections", known(figures.connections)),
        plain("members", known(figures.members)),
        plain("waiting", known(waiting)),
        wrong("rejected", Counter::Rejected, DOUBTFUL),
        plain("received", bytes_per_second(Counter::ReceivedBytes)),
        plain("sent", bytes_per_second(Counter::SentBytes)),
        plain("lag", latency(server.lag_seconds())),
        wrong("commit failures", Counter::CommitFailures, BAD),
        plain("opened", per_second(Counter::Opened)),
        plain("rooms", known(figures.rooms)),
        plain("commit takes", latency(server.commit_seconds())),
        wrong("dead letters", Counter::DeadLetters, BAD),
        plain("acknowledged", per_second(Counter::Acknowledged)),
        plain("caught up", per_second(Counter::CaughtUp)),
        plain("rows a commit", rate(server.each(Counter::Persisted, Counter::Commits))),
        wrong("slow members", Counter::SlowMembers, DOUBTFUL),
        plain("broadcasts", per_second(Counter::Broadcasts)),
        plain("recent", bytes(figures.recent_bytes.map(|n| n as f64))),
        plain("commits", per_second(Counter::Commits)),
        wrong("repeats", Counter::Repeated, Style::new()),
    ];
    // Three would tear apart what belongs together.
    let beside = [4, 2].into_iter().find(|beside| room / beside >= FIGURE).unwrap_or(1);
    let wide = (room / beside).saturating_sub(2);
    let cell = |(name, value, style): &(&'static str, String, Style)| {
        let value = cut(value, wide.saturating_sub(width(name) + 1));
        let blanks = " ".repeat(wide.saturating_sub(width(name) + width(&value)));
        [Span::styled(format!("{name}{blanks}"), QUIET), Span::styled(value, *style), Span::raw("  ")]
    };
    cells.chunks(beside).map(|row| Line::from_iter(row.iter().flat_map(cell))).collect()
}

/// The parts on one line while all of them work, else what is wrong on a line each.
fn parts(server: &Server, sample: &Sample, room: usize) -> Vec<Line<'static>> {
    let Ok(readiness) = &sample.readiness else { return vec![Line::styled(cut(server.reason(), room), DOUBTFUL)] };
    let [well, ill]: [Vec<&Part>; 2] = [true, false].map(|healthy| readiness.parts.iter().filter(|part| part.healthy == healthy).collect());
    let tell = |part: &Part| if part.detail.is_empty() { part.name.clone() } else { format!("{}: {}", part.name, part.detail) };
    let mut lines: Vec<_> = ill.iter().map(|part| Line::styled(cut(&format!("✗ {}", tell(part)), room), BAD)).collect();
    if !well.is_empty() {
        let all: Vec<_> = well.iter().map(|part| tell(part)).collect();
        lines.push(Line::from_iter([Span::styled("✓ ", GOOD), Span::raw(cut(&all.join("; "), room.saturating_sub(2)))]));
    }
    lines
}

/// What came in of late, the newest on the right.
fn draw_trend(frame: &mut Frame<'_>, area: Rect, server: &Server) {
    let room = usize::from(area.width);
    let most = server.trend().rev().take(room).flatten().max().unwrap_or_default();
    let label = format!("in/s, most {}", count(most));
    let [beside, bars] = Layout::horizontal([Constraint::Length(width(&label) as u16 + 2), Constraint::Min(0)]).areas(area);
    draw_lines(frame, beside, vec![Line::styled(label, QUIET)]);
    let bar = Sparkline::default().data(server.trend().rev().take(room)).max(most.max(1));
    frame.render_widget(bar.direction(RenderDirection::RightToLeft).absent_value_symbol(" ").style(GOOD), bars);
}

fn draw_rooms(frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
    let room = usize::from(area.width);
    let (all, rows): (String, Vec<[String; 4]>) = match &sample.queues {
        Err(why) => return draw_lines(frame, area, vec![headline("rooms", room), Line::styled(cut(why, room), DOUBTFUL)]),
        Ok(Queues { rooms, fullest, .. }) => {
            let row =
                |queue: &crate::monitor::sample::Queue| [queue.room.clone(), count(queue.waiting), count(queue.writing), count(queue.log)];
            (format!("rooms  {}, the fullest first", count(*rooms as u64)), fullest.iter().map(row).collect())
        }
    };
    let styles = |_: usize| Style::new();
    draw_table(frame, area, all, ROOM_COLUMNS, &rows, styles);
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, sample: &Sample) {
    let room = usize::from(area.width);
    let nodes = match &sample.nodes {
        Err(why) => return draw_lines(frame, area, vec![headline("nodes", room), Line::styled(cut(why, room), DOUBTFUL)]),
        Ok(nodes) => nodes,
    };
    let row = |node: &Node| {
        let state = if node.asked { format!("{}, here", node.state()) } else { node.state().to_owned() };
        [node.name.clone(), state, known(node.connections), known(node.rate), node.version.clone(), node.roles.clone()]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    let style = |place: usize| if nodes[place].draining { DOUBTFUL } else { Style::new() };
    draw_table(frame, area, format!("nodes  {}", nodes.len()), NODE_COLUMNS, &rows, style);
}

/// The nodes where there is no room for a table.
fn nodes_line(sample: &Sample, room: usize) -> Line<'static> {
    let told = match &sample.nodes {
        Err(why) => why.clone(),
        Ok(nodes) => {
            let one = |node: &Node| if node.draining { format!("{} draining", node.name) } else { node.name.clone() };
            format!("{}: {}", nodes.len(), nodes.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    };
    Line::from_iter([Span::styled("nodes  ", HEAD), Span::raw(cut(&told, room.saturating_sub(7)))])
}

/// A headline, heads, and the rows that there is room for; the last line says how many there is none for.
fn draw_table<const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    title: String,
    columns: [Column; N],
    rows: &[[String; N]],
    style: impl Fn(usize) -> Style,
) {
    let room = usize::from(area.width);
    let widest = rows.iter().map(|row| width(&row[0])).max().unwrap_or_default();
    let columns = Columns::fit(columns, room, widest);
    let mut lines = vec![headline(&title, room), Line::styled(columns.head(), HEAD)];
    let most = usize::from(area.height).saturating_sub(lines.len());
    let shown = if rows.len() > most { most.saturating_sub(1) } else { rows.len() };
    lines.extend(rows.iter().take(shown).enumerate().map(|(place, row)| Line::styled(columns.row(row), style(place))));
    if shown < rows.len() {
        lines.push(Line::styled(fit(&format!("and {} more", rows.len() - shown), room, false), QUIET));
    }
    draw_lines(frame, area, lines);
}
