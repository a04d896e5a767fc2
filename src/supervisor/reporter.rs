//! Writes messages about workers to rinit's own log, after the workers' last lines.

use super::message::Message;
use crate::control::Journal;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Writes messages one after the other. One about an exit waits, not for long, until the worker's own last lines are
/// written: they come first, and then the reason.
pub(super) struct Reporter {
    journal: Arc<Journal>,
    queue: Option<mpsc::Sender<Item>>,
    items: Option<mpsc::Receiver<Item>>,
    task: Option<JoinHandle<()>>,
    /// The number of messages that wait, or are being written.
    waiting: Rc<Cell<usize>>,
    /// The time for which the next message waits for a worker's last lines.
    patience: Rc<Cell<Duration>>,
    lost: u64,
}

struct Item {
    message: Message,
    /// The first event that it is not about.
    before: u64,
    lines: Option<oneshot::Receiver<Vec<String>>>,
}

/// The number of messages that wait behind one about an exit; more are counted and left out.
const MAX_QUEUED_MESSAGES: usize = 8192;
/// The time for which a worker's last lines are waited for when stdout is not read.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(1);
/// The time for which the last messages wait for lines, all together.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

impl Reporter {
    /// A reporter that writes what it is told, once it is started.
    pub(super) fn new(journal: Arc<Journal>) -> Reporter {
        let (queue, items) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let patience = Rc::new(Cell::new(LAST_LINES_TIMEOUT));
        Reporter {
            journal,
            queue: Some(queue),
            items: Some(items),
            task: None,
            waiting: Rc::default(),
            patience,
            lost: 0,
        }
    }

    /// Starts the task that writes messages which wait for a worker's last lines.
    pub(super) fn start(&mut self) {
        let Some(mut items) = self.items.take() else { return };
        let (journal, waiting, patience) = (self.journal.clone(), self.waiting.clone(), self.patience.clone());
        self.task = Some(tokio::task::spawn_local(async move {
            let mut has_waited_in_vain = false;
            while let Some(Item { message, before, lines }) = items.recv().await {
                let lines = match lines {
                    Some(lines) => {
                        // After one wait in vain there is none for each of many.
                        let patience = if has_waited_in_vain { Duration::ZERO } else { patience.get() };
                        let written = timeout(patience, lines).await;
                        has_waited_in_vain = written.is_err();
                        written.ok().and_then(Result::ok).unwrap_or_default()
                    }
                    None => Vec::new(),
                };
                message.write(&lines);
                journal.mark_logged(before);
                waiting.set(waiting.get().saturating_sub(1));
            }
        }));
    }

    /// Takes a message; with `lines`, once the worker's lines are written.
    pub(super) fn tell(&mut self, message: Message, lines: Option<oneshot::Receiver<Vec<String>>>) {
        let before = self.journal.lock().next_seq();
        if self.waiting.get() == 0 && lines.is_none() {
            message.write(&[]);
            self.journal.mark_logged(before);
            return;
        }
        let item = Item { message, before, lines };
        match self.queue.as_ref().is_some_and(|queue| queue.try_send(item).is_ok()) {
            true => self.waiting.set(self.waiting.get() + 1),
            false => self.lost += 1,
        }
    }

    /// Waits until all is told: for workers' last lines not for ever, but no message is left out.
    pub(super) async fn finish(&mut self) {
        self.queue = None;
        if let Some(task) = &mut self.task
            && timeout(FINISH_TIMEOUT, &mut *task).await.is_err()
        {
            self.patience.set(Duration::ZERO);
            let _ = task.await;
        }
        if self.lost > 0 {
            tracing::warn!("{} messages of rinit are left out: too many came at once", self.lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{ContainerEnd, EndReason};
    use crate::supervisor::message::end;

    #[test]
    fn at_the_end_every_message_is_written_also_without_the_lines_that_it_waits_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let mut reporter = Reporter::new(Arc::default());
            reporter.start();
            let message = || end(ContainerEnd { code: 3, reason: EndReason::Failed { status: 3 } }).unwrap();
            // The log does not answer in time.
            let (log, lines) = oneshot::channel();
            reporter.tell(message(), Some(lines));
            reporter.tell(message(), None);
            reporter.finish().await;
            assert_eq!((reporter.waiting.get(), reporter.lost), (0, 0));
            drop(log);
        });
    }
}
