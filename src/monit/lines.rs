//! Keeps the last lines of a log in a scrollable buffer.

use std::collections::VecDeque;

/// The last lines, and the position of the view.
#[derive(Debug)]
pub struct Lines<T> {
    lines: VecDeque<T>,
    max_lines: usize,
    /// The number of lines below the view; 0: new lines are shown as they come.
    below: usize,
    /// The first column that is shown.
    column: u16,
}

/// The visible part.
#[derive(Debug)]
pub struct Shown<'a, T> {
    /// Oldest first.
    pub rows: Vec<&'a T>,
    /// The number of lines that pass the filter.
    pub of: usize,
    /// The number of lines below.
    pub below: usize,
    /// The first column.
    pub column: u16,
}

/// The number of columns of one step to the right.
const PAN_COLUMNS: u16 = 16;
const MAX_COLUMN: u16 = 2048;

impl<T> Lines<T> {
    /// An empty buffer for at most that many lines.
    pub fn new(max_lines: usize) -> Lines<T> {
        Lines { lines: VecDeque::new(), max_lines, below: 0, column: 0 }
    }

    /// The newest line.
    pub fn last(&self) -> Option<&T> {
        self.lines.back()
    }

    /// Adds a line. A view of older lines stays where it is.
    pub fn push(&mut self, line: T, shows: impl Fn(&T) -> bool) {
        if self.below > 0 && shows(&line) {
            self.below += 1;
        }
        if self.lines.len() == self.max_lines {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
        self.below = self.below.min(self.lines.len());
    }

    /// Removes all lines.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.below = 0;
        self.column = 0;
    }

    /// Scrolls to the newest line.
    pub fn follow(&mut self) {
        self.below = 0;
    }

    /// Scrolls by a number of lines; `rows` are visible at once.
    pub fn scroll(&mut self, back: bool, by: usize, rows: usize, shows: impl Fn(&T) -> bool) {
        let count = self.lines.iter().filter(|line| shows(line)).count();
        let below = if back { self.below.saturating_add(by) } else { self.below.saturating_sub(by) };
        self.below = below.min(count.saturating_sub(rows));
    }

    /// Moves the view to the right, or to the left.
    pub fn pan(&mut self, right: bool) {
        let column =
            if right { self.column.saturating_add(PAN_COLUMNS) } else { self.column.saturating_sub(PAN_COLUMNS) };
        self.column = column.min(MAX_COLUMN);
    }

    /// The lines that fit into a number of rows. Scrolled to the oldest line, the rows stay full.
    pub fn shown(&self, rows: usize, shows: impl Fn(&T) -> bool) -> Shown<'_, T> {
        let lines: Vec<&T> = self.lines.iter().filter(|line| shows(line)).collect();
        let of = lines.len();
        let below = self.below.min(of.saturating_sub(rows));
        let rows = lines.into_iter().skip(of.saturating_sub(below + rows)).take(rows).collect();
        Shown { rows, of, below, column: self.column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u32, max_lines: usize) -> Lines<u32> {
        let mut lines = Lines::new(max_lines);
        (0..count).for_each(|line| lines.push(line, |_| true));
        lines
    }

    #[test]
    fn new_lines_are_shown_as_they_come() {
        let lines = lines(10, 5);
        assert_eq!(lines.shown(3, |_| true).rows, [&7, &8, &9]);
        assert_eq!(lines.shown(30, |_| true).rows, [&5, &6, &7, &8, &9]);
        assert_eq!(lines.shown(2, |line| line % 2 == 0).rows, [&6, &8]);
    }

    #[test]
    fn a_view_of_older_lines_stays_while_they_are_kept() {
        let mut lines = lines(10, 20);
        lines.scroll(true, 4, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&3, &4, &5]);
        (10..14).for_each(|line| lines.push(line, |_| true));
        assert_eq!(lines.shown(3, |_| true).rows, [&3, &4, &5]);
        (14..40).for_each(|line| lines.push(line, |_| true));
        assert_eq!(lines.shown(3, |_| true).rows, [&20, &21, &22]);
        lines.scroll(false, usize::MAX, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&37, &38, &39]);
    }

    #[test]
    fn scrolling_ends_at_the_oldest_line() {
        let mut lines = lines(4, 20);
        lines.scroll(true, usize::MAX, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&0, &1, &2]);
        lines.scroll(false, 1, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&1, &2, &3]);
    }
}
