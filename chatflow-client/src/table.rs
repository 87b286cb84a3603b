//! Tables for people.

use serde_json::Value;

use crate::terminal::{harmless, width};

/// A column, by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    /// Texts begin under one another.
    Text(&'static str),
    /// Figures end under one another.
    Figure(&'static str),
}

/// The lines of a table, its head first. Cells may hold anything: they are made harmless here.
pub(crate) fn table<const N: usize>(columns: [Column; N], rows: impl IntoIterator<Item = [String; N]>) -> Vec<String> {
    let heads = columns.map(|column| match column {
        Column::Text(head) | Column::Figure(head) => head.to_owned(),
    });
    let rows: Vec<_> = std::iter::once(heads).chain(rows).map(|row| row.map(|cell| harmless(&cell))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| width(&row[column])).max().unwrap_or_default());
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).zip(&columns).map(|((cell, most), column)| {
            let blanks = " ".repeat(most - width(cell));
            match column {
                Column::Figure(_) => blanks + cell,
                Column::Text(_) => cell.clone() + &blanks,
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The same row for a pipe that does not wait for the widest: cells with a tab between, harmless.
pub(crate) fn tabbed(row: &[String]) -> String {
    row.iter().map(|cell| harmless(cell)).collect::<Vec<_>>().join("\t")
}

/// The field `name` of an answer as a cell: a text as it is, nothing as `-`.
pub(crate) fn cell(of: &Value, name: &str) -> String {
    match of.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_stand_under_one_another_and_nothing_is_obeyed() {
        let rows = [["a", "7", "x"], ["b\x1b[2J", "12345", ""], ["日本", "1", "y"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            table([Column::Text("NAME"), Column::Figure("N"), Column::Text("LAST")], rows),
            ["NAME            N  LAST", "a               7  x", r"b\u{1b}[2J  12345", "日本            1  y",]
        );
    }

    #[test]
    fn cells_are_texts_and_tabs_only_between_them() {
        let row = json!({"a": "x\ty", "b": 7, "c": null});
        let row = ["a", "b", "c", "d"].map(|name| cell(&row, name));
        assert_eq!(tabbed(&row), "x y\t7\t-\t-");
    }
}
