//! Tables that stay where they are: columns are as wide whatever is in them, and those that do not fit are left out.

use unicode_width::UnicodeWidthChar;

use crate::terminal::width;

/// Blanks between two columns.
const GAP: usize = 2;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) head: &'static str,
    pub(super) width: usize,
    /// Figures end under one another, texts begin under one another.
    pub(super) figure: bool,
    /// The higher, the sooner it is left out. The first column never is.
    pub(super) rank: u8,
}

/// Texts begin under one another.
pub(super) const fn text(head: &'static str, width: usize, rank: u8) -> Column {
    Column { head, width, figure: false, rank }
}

/// Figures end under one another.
pub(super) const fn figure(head: &'static str, width: usize, rank: u8) -> Column {
    Column { head, width, figure: true, rank }
}

/// The columns that there is room for.
#[derive(Debug)]
pub(super) struct Columns<const N: usize> {
    columns: [Column; N],
    /// 0 for one that is left out.
    widths: [usize; N],
}

impl<const N: usize> Columns<N> {
    /// Those that fit into `room`. The first takes what is left, up to `widest`.
    pub(super) fn fit(columns: [Column; N], room: usize, widest: usize) -> Self {
        let mut widths = [0; N];
        let mut left = room;
        let mut by_rank: [usize; N] = std::array::from_fn(|place| place);
        by_rank.sort_by_key(|&place| if place == 0 { 0 } else { columns[place].rank });
        for place in by_rank {
            let gap = if place == 0 { 0 } else { GAP };
            let wanted = columns[place].width;
            if gap + wanted > left && place > 0 {
                break;
            }
            widths[place] = wanted.min(left);
            left -= gap.min(left) + widths[place].min(left);
        }
        widths[0] += left.min(widest.saturating_sub(widths[0]));
        Self { columns, widths }
    }

    /// The line of heads.
    pub(super) fn head(&self) -> String {
        self.row(&self.columns.map(|column| column.head.to_owned()))
    }

    /// A line of cells, which are harmless already.
    pub(super) fn row(&self, cells: &[String; N]) -> String {
        self.cells(cells).map(|(_, cell)| cell).collect()
    }

    /// The cells of a line by their places, each with the blanks before it; without those that are left out.
    pub(super) fn cells<'a>(&'a self, cells: &'a [String; N]) -> impl Iterator<Item = (usize, String)> + 'a {
        let shown = cells.iter().enumerate().filter(|(place, _)| self.widths[*place] > 0);
        shown.map(|(place, cell)| {
            let gap = if place == 0 { "" } else { "  " };
            (place, format!("{gap}{}", fit(cell, self.widths[place], self.columns[place].figure)))
        })
    }
}

/// A text in exactly so many columns: cut, with a sign that it is, or filled with blanks.
pub(super) fn fit(text: &str, columns: usize, right: bool) -> String {
    let cut = cut(text, columns);
    let blanks = " ".repeat(columns.saturating_sub(width(&cut)));
    if right { blanks + &cut } else { cut + &blanks }
}

/// A text in so many columns at the most.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut taken = 0;
    for c in text.chars() {
        taken += c.width().unwrap_or_default();
        // One is for the sign.
        if taken + 1 > columns {
            break;
        }
        out.push(c);
    }
    if columns > 0 {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [text("NAME", 6, 0), text("STATE", 5, 1), figure("IN/S", 6, 3), figure("LAG", 5, 2)];

    fn lines(room: usize) -> [String; 2] {
        let columns = Columns::fit(COLUMNS, room, 10);
        [columns.head(), columns.row(&["abcdefgh", "ready", "12,310", "7"].map(str::to_owned))]
    }

    #[test]
    fn the_least_of_the_columns_is_left_out_first() {
        assert_eq!(lines(40), ["NAME        STATE    IN/S    LAG", "abcdefgh    ready  12,310      7"]);
        assert_eq!(lines(28), ["NAME    STATE    IN/S    LAG", "abcde…  ready  12,310      7"]);
        assert_eq!(lines(27), ["NAME        STATE    LAG", "abcdefgh    ready      7"]);
        assert_eq!(lines(14), ["NAME     STATE", "abcdef…  ready"]);
        assert_eq!(lines(4), ["NAME", "abc…"]);
        assert_eq!(lines(0), ["", ""]);
    }

    #[test]
    fn cutting_counts_columns_not_characters() {
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!((cut("日本語", 6), cut("ab", 1), cut("ab", 0)), ("日本語".to_owned(), "…".to_owned(), String::new()));
        assert_eq!((fit("日本語", 4, false), fit("7", 3, true)), ("日… ".to_owned(), "  7".to_owned()));
    }
}
