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
/// The time that the last messages may take.
const FINISH_TIMEOUT: Duration = Duration::from_millis(500);

impl Reporter {
    /// A reporter that writes what it is told, once it is started.
    pub(super) fn new(journal: Arc<Journal>) -> Reporter {
        let (queue, items) = mpsc::channel(MAX_QUEUED_MESSAGES);
        Reporter { journal, queue: Some(queue), items: Some(items), task: None, waiting: Rc::default(), lost: 0 }
    }

    /// Starts the task that writes messages which wait for a worker's last lines.
    pub(super) fn start(&mut self) {
        let Some(mut items) = self.items.take() else { return };
        let (journal, waiting) = (self.journal.clone(), self.waiting.clone());
        self.task = Some(tokio::task::spawn_local(async move {
            let mut patience = LAST_LINES_TIMEOUT;
            while let Some(Item { message, before, lines }) = items.recv().await {
                let lines = match lines {
                    Some(lines) => {
                        let written = timeout(patience, lines).await;
                        // After one wait in vain there is none for each of many.
                        patience = if written.is_ok() { LAST_LINES_TIMEOUT } else { Duration::ZERO };
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

    /// Waits until all is told, but not for ever.
    pub(super) async fn finish(&mut self) {
        self.queue = None;
        if let Some(task) = &mut self.task {
            let _ = timeout(FINISH_TIMEOUT, task).await;
        }
        if self.lost > 0 {
            tracing::warn!("{} messages of rinit are left out: too many came at once", self.lost);
        }
    }
}
