//! Tables for people: columns as wide as what is in them, within bounds, and nothing in them that drives a terminal.

use std::io::{self, Write};

use super::pretty::escape_line;

/// A column's head, and the most characters that one of its cells takes.
pub type Column = (&'static str, usize);

/// A table, printed as a whole.
#[derive(Debug)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: &[Column]) -> Table {
        Table {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, with a cell for each column.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let cells = cells.iter().zip(&self.columns);
        let cells = cells.map(|(cell, (_, most))| cut(&escape_line(cell), *most));
        self.rows.push(cells.collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Prints head and rows; nothing if there are no rows.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.columns[at].0.len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let heads = self.columns.iter().map(|(head, _)| *head).collect();
        let rows = self.rows.iter();
        let rows = rows.map(|row| row.iter().map(String::as_str).collect::<Vec<_>>());
        for row in std::iter::once(heads).chain(rows) {
            let cells = row.iter().zip(&widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            writeln!(out, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// At most `most` characters, the last of which says that there are more.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => {
            let kept = text.chars().take(most.saturating_sub(1));
            kept.chain(['…']).collect()
        }
    }
}

/// Prints a name and a value as a line of what is shown of one thing.
///
/// # Errors
///
/// `out` cannot be written to.
pub fn field(out: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{name:<17}{}", escape_line(value).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_long_cells_are_cut() {
        let mut table = Table::new(&[("ID", 10), ("NAME", 6), ("URL", 9)]);
        table.row([
            "w1".into(),
            "João e Maria".into(),
            "https://x.example".into(),
        ]);
        table.row(["webhook-2".into(), "é\u{1b}[2J".into(), String::new()]);
        let mut out = Vec::new();
        table.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "ID         NAME    URL\n\
             w1         João …  https://…\n\
             webhook-2  é\\u{1…\n"
        );
    }

    #[test]
    fn an_empty_table_has_no_head() {
        let mut out = Vec::new();
        Table::new(&[("ID", 10)]).print(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
