//! Lines that come one after the other, of which the last are kept and some are looked at.

use std::collections::VecDeque;

/// The last so many, and where one looks.
#[derive(Debug)]
pub struct Lines<T> {
    kept: VecDeque<T>,
    most: usize,
    /// So many of the lines that are shown come after the one at the bottom. None: what comes is shown as it comes.
    below: usize,
    /// The first column that is shown.
    column: u16,
}

/// What there is to see.
#[derive(Debug)]
pub struct Shown<'a, T> {
    /// Oldest first.
    pub rows: Vec<&'a T>,
    /// Of so many in all.
    pub of: usize,
    /// How many come after.
    pub below: usize,
    /// The first column.
    pub column: u16,
}

/// How far one step to the right goes.
const COLUMNS: u16 = 16;
/// And all of them.
const FARTHEST: u16 = 2048;

impl<T> Lines<T> {
    /// None yet, and at most so many.
    pub fn new(most: usize) -> Lines<T> {
        Lines { kept: VecDeque::new(), most, below: 0, column: 0 }
    }

    /// The newest.
    pub fn last(&self) -> Option<&T> {
        self.kept.back()
    }

    /// Adds one. Who looks at older ones goes on seeing the same.
    pub fn push(&mut self, line: T, shows: impl Fn(&T) -> bool) {
        if self.below > 0 && shows(&line) {
            self.below += 1;
        }
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(line);
        self.below = self.below.min(self.kept.len());
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.below = 0;
        self.column = 0;
    }

    /// Back to the newest.
    pub fn follow(&mut self) {
        self.below = 0;
    }

    /// Looks at older ones, or at newer ones; so many rows are seen at once.
    pub fn scroll(&mut self, back: bool, by: usize, rows: usize, shows: impl Fn(&T) -> bool) {
        let count = self.kept.iter().filter(|line| shows(line)).count();
        let below = if back { self.below.saturating_add(by) } else { self.below.saturating_sub(by) };
        self.below = below.min(count.saturating_sub(rows));
    }

    /// Looks at what is right of it, or left.
    pub fn pan(&mut self, right: bool) {
        let column = if right { self.column.saturating_add(COLUMNS) } else { self.column.saturating_sub(COLUMNS) };
        self.column = column.min(FARTHEST);
    }

    /// What fits into so many rows. At the top end the rows stay full.
    pub fn shown(&self, rows: usize, shows: impl Fn(&T) -> bool) -> Shown<'_, T> {
        let lines: Vec<&T> = self.kept.iter().filter(|line| shows(line)).collect();
        let of = lines.len();
        let below = self.below.min(of.saturating_sub(rows));
        let rows = lines.into_iter().skip(of.saturating_sub(below + rows)).take(rows).collect();
        Shown { rows, of, below, column: self.column }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u32, most: usize) -> Lines<u32> {
        let mut lines = Lines::new(most);
        (0..count).for_each(|line| lines.push(line, |_| true));
        lines
    }

    #[test]
    fn the_newest_are_shown_as_they_come() {
        let lines = lines(10, 5);
        assert_eq!(lines.shown(3, |_| true).rows, [&7, &8, &9]);
        assert_eq!(lines.shown(30, |_| true).rows, [&5, &6, &7, &8, &9]);
        assert_eq!(lines.shown(2, |line| line % 2 == 0).rows, [&6, &8]);
    }

    #[test]
    fn who_looks_back_goes_on_seeing_the_same_while_it_is_kept() {
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
    fn one_can_look_back_as_far_as_there_is_something() {
        let mut lines = lines(4, 20);
        lines.scroll(true, usize::MAX, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&0, &1, &2]);
        lines.scroll(false, 1, 3, |_| true);
        assert_eq!(lines.shown(3, |_| true).rows, [&1, &2, &3]);
    }
}
