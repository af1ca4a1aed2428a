//! Updates of resources on their way to one client's stream. A reader that is slow hears of each resource once, however
//! often it changed, and a server that tells of ever more resources fills no memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Updates that wait beside those of the resources subscribed to themselves.
const MOST: usize = 192;

/// The longest URI that is told: a server chooses it.
const MAX_URI: usize = 2048;

/// An update: of which server, and of which of its resources.
pub type Update = (Arc<str>, Box<str>);

/// The updates of one stream.
#[derive(Default)]
pub struct Mailbox {
    inner: Mutex<Inner>,
    there: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Update>,
    closed: bool,
}

impl Mailbox {
    /// The resource `uri` of a server changed, which is `subscribed` or a part of it. Where there is no more room, only
    /// that the whole changed is told.
    pub fn push(&self, server: &Arc<str>, uri: &str, subscribed: &str) {
        let mut inner = self.lock();
        let waits = |inner: &Inner, uri: &str| {
            let mut waiting = inner.waiting.iter();
            waiting.any(|(of, known)| of == server && **known == *uri)
        };
        if waits(&inner, uri) {
            return;
        }
        let room = inner.waiting.len() < MOST && uri.len() <= MAX_URI;
        let told = if room { uri } else { subscribed };
        if !waits(&inner, told) {
            inner.waiting.push_back((Arc::clone(server), told.into()));
            self.there.notify_one();
        }
    }

    /// Nothing more comes of one of the servers: the client has to listen anew.
    pub fn close(&self) {
        self.lock().closed = true;
        self.there.notify_one();
    }

    /// The next one, `None` once it is closed. What is dropped while it waits loses nothing.
    pub async fn next(&self) -> Option<Update> {
        loop {
            {
                let mut inner = self.lock();
                if let Some(update) = inner.waiting.pop_front() {
                    return Some(update);
                }
                if inner.closed {
                    return None;
                }
            }
            self.there.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which of the resources subscribed to an update is about: itself, or what it is a part of.
pub fn about<'s>(subscribed: impl Iterator<Item = &'s str>, uri: &str) -> Option<&'s str> {
    let mut whole = None;
    for one in subscribed {
        if one == uri {
            return Some(one);
        }
        if uri.starts_with(one) && whole.is_none_or(|known: &str| known.len() < one.len()) {
            whole = Some(one);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_hears_of_each_resource_once() {
        let mailbox = Mailbox::default();
        let server: Arc<str> = "a/s".into();
        for round in 0..10_000 {
            mailbox.push(&server, "a:", "a:");
            mailbox.push(&server, &format!("a:{round}"), "a:");
            mailbox.push(&"a/t".into(), "a:", "a:");
        }
        let waiting = mailbox.lock().waiting.len();
        assert!(waiting <= MOST + 2, "{waiting}");
        assert_eq!(&*mailbox.next().await.unwrap().1, "a:");
        assert_eq!(&*mailbox.next().await.unwrap().1, "a:0");
        assert_eq!(&*mailbox.next().await.unwrap().0, "a/t");
        mailbox.close();
        let mut rest = 0;
        while mailbox.next().await.is_some() {
            rest += 1;
        }
        assert_eq!(rest, waiting - 3, "what had come is told first");
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_part_with_an_endless_name_the_whole_is_told() {
        let mailbox = Mailbox::default();
        mailbox.push(&"a/s".into(), &format!("a:{}", "x".repeat(MAX_URI)), "a:");
        assert_eq!(&*mailbox.next().await.unwrap().1, "a:");
    }

    #[test]
    fn an_update_is_about_itself_or_the_longest_whole() {
        let subscribed = ["x:/", "x:/a/", "x:/a/b"];
        let about = |uri| about(subscribed.into_iter(), uri);
        assert_eq!(about("x:/a/"), Some("x:/a/"));
        assert_eq!(about("x:/a/c"), Some("x:/a/"));
        assert_eq!(about("x:/a/b"), Some("x:/a/b"));
        assert_eq!(about("y:/"), None);
    }
}
