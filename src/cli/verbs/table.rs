//! Lays out a table: whole when piped, cut to the width of a terminal.

use super::output::{BOLD, Colour, PLAIN, harmless, paint};
use unicode_width::UnicodeWidthChar;

/// A column.
pub struct Column {
    /// Its title.
    pub head: &'static str,
    /// True if its cells are numbers, which are aligned to the right.
    pub is_right: bool,
    /// Its place in the order in which columns are left out on a narrow terminal, the highest first; 0: never.
    pub rank: u8,
    /// True if its text may be cut instead.
    pub is_cut: bool,
}

/// A cell.
pub struct Cell {
    text: String,
    colour: Colour,
}

/// Returns `-` for an unknown value, so that a column always holds a word.
pub fn or_dash<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "-".into(), text)
}

impl Cell {
    pub fn coloured(text: impl Into<String>, colour: Colour) -> Cell {
        let text: String = text.into();
        Cell { text: if text.is_empty() { "-".into() } else { harmless(&text).into_owned() }, colour }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Cell {
        Cell::coloured(text, PLAIN)
    }
}

/// The width below which a column is left out rather than cut.
const MIN_CUT_WIDTH: usize = 8;

/// Returns the table's text, for a terminal of a width in columns, or whole.
pub fn render(columns: &[Column], rows: &[Vec<Cell>], width: Option<usize>, colours: bool) -> String {
    let mut shown: Vec<Shown> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = || rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.as_str());
            let width = cells().map(display_width).chain([column.head.len()]).max().unwrap_or_default();
            // A column without a value in any row is left out first.
            let rank = if column.rank > 0 && cells().all(|text| text == "-") { u8::MAX } else { column.rank };
            Shown { index, column, width, rank }
        })
        .collect();
    if let Some(width) = width {
        fit(&mut shown, width);
    }
    let line = |cell_of: &dyn Fn(usize, &Column) -> (String, Colour)| {
        let mut line = String::new();
        let mut gap = 0;
        for Shown { index, column, width, .. } in &shown {
            let (text, colour) = cell_of(*index, column);
            let text = shortened(&text, *width);
            let missing = width - display_width(&text);
            let (before, after) = if column.is_right { (missing, 0) } else { (0, missing) };
            line.push_str(&" ".repeat(gap + before));
            line.push_str(&paint(colours, colour, &text));
            gap = after + 2;
        }
        line + "\n"
    };
    let head = line(&|_, column| (column.head.into(), BOLD));
    let body = rows.iter().map(|row| {
        line(&|index, _| row.get(index).map_or((String::new(), PLAIN), |cell| (cell.text.clone(), cell.colour)))
    });
    std::iter::once(head).chain(body).collect()
}

/// A column with the width that it will have.
struct Shown<'a> {
    index: usize,
    column: &'a Column,
    width: usize,
    rank: u8,
}

/// Cuts and leaves out columns until the table fits, or nothing more may be left out.
fn fit(shown: &mut Vec<Shown>, width: usize) {
    loop {
        let total: usize = shown.iter().map(|one| one.width + 2).sum::<usize>().saturating_sub(2);
        let Some(excess) = total.checked_sub(width).filter(|excess| *excess > 0) else { return };
        let cut = shown.iter_mut().rev().find(|one| {
            let left = one.width.checked_sub(excess);
            one.column.is_cut && left.is_some_and(|left| left >= MIN_CUT_WIDTH.max(one.column.head.len()))
        });
        if let Some(one) = cut {
            one.width -= excess;
            return;
        }
        match shown.iter().enumerate().max_by_key(|(_, one)| one.rank) {
            None => return,
            Some((_, Shown { rank: 0, .. })) => return,
            Some((place, _)) => shown.remove(place),
        };
    }
}

/// Returns the number of terminal columns: East Asian letters take two.
fn display_width(text: &str) -> usize {
    text.chars().filter_map(UnicodeWidthChar::width).sum()
}

fn shortened(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |letter: &char| {
        let fits = left.checked_sub(letter.width().unwrap_or_default());
        left = fits.unwrap_or(0);
        fits.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] = [
        Column { head: "ID", is_right: false, rank: 0, is_cut: false },
        Column { head: "CPU", is_right: true, rank: 1, is_cut: false },
        Column { head: "NOTE", is_right: false, rank: 2, is_cut: true },
    ];

    fn table(width: Option<usize>) -> String {
        let row = |id: &str, note: &str| vec![id.into(), "1.5%".into(), note.into()];
        render(&COLUMNS, &[row("web-0", "exit code 3 after 2s"), row("web-10", "")], width, false)
    }

    #[test]
    fn a_piped_table_is_whole_and_each_column_holds_a_word() {
        assert_eq!(table(None), "ID       CPU  NOTE\nweb-0   1.5%  exit code 3 after 2s\nweb-10  1.5%  -\n");
    }

    #[test]
    fn on_a_terminal_text_is_cut_and_then_columns_are_left_out() {
        for width in 6..60 {
            let table = table(Some(width));
            assert!(table.lines().all(|line| display_width(line) <= width), "{width}:\n{table}");
        }
        assert!(table(Some(24)).contains("exit code…"), "{}", table(Some(24)));
        assert_eq!(table(Some(20)), "ID       CPU\nweb-0   1.5%\nweb-10  1.5%\n");
        assert_eq!(table(Some(3)), "ID\nweb-0\nweb-10\n", "the ID is never cut");
    }

    #[test]
    fn a_cell_stays_on_its_line() {
        let text = render(&COLUMNS, &[vec!["a\nb\x1b[2J".into(), "x".into(), "y".into()]], None, false);
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\x1b'));
    }
}
