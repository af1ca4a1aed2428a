//! The news of all servers that one principal may hear at one endpoint.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;

use super::{Lists, News};
use crate::app::context::OwnedEndpoint;
use crate::app::state::App;
use crate::auth::identity::Identity;
use crate::clock;
use crate::config::snapshot::Snapshot;
use crate::proxy::offered::View;
use crate::proxy::primitive::Primitive;

/// What changes from the moment it was made. It follows the configuration: what is no longer there, or no longer this
/// principal's to see, is not heard of, and where names or rules changed all lists did.
pub struct Heard {
    app: Arc<App>,
    endpoint: OwnedEndpoint,
    who: Arc<Identity>,
    news: broadcast::Receiver<News>,
    changes: watch::Receiver<()>,
    snapshot: Option<Arc<Snapshot>>,
    waiting: Lists,
}

impl Heard {
    /// For `who`, at `endpoint`.
    pub fn new(app: &Arc<App>, endpoint: &OwnedEndpoint, who: &Arc<Identity>) -> Self {
        let mut changes = app.changes();
        changes.mark_unchanged();
        Self {
            app: Arc::clone(app),
            endpoint: endpoint.clone(),
            who: Arc::clone(who),
            news: app.news(),
            changes,
            snapshot: app.snapshot(),
            waiting: Lists::NONE,
        }
    }

    /// The next list that changed: tools, prompts or resources. What is dropped while it waits loses nothing.
    pub async fn next(&mut self) -> Primitive {
        loop {
            if let Some(list) = self.waiting.pop() {
                return list;
            }
            tokio::select! {
                biased;
                // Its sender lives in the application, and that here.
                changed = self.changes.changed() => match changed {
                    Ok(()) => self.follow(),
                    Err(_) => pending().await,
                },
                news = self.news.recv() => {
                    let lists = match news {
                        Ok(news) => self.may_hear(&news),
                        // What was missed is not known.
                        Err(RecvError::Lagged(_)) => self.heard(),
                        Err(RecvError::Closed) => pending().await,
                    };
                    self.waiting = self.waiting.and(lists);
                    // All that is there already is told together, and once.
                    while let Ok(news) = self.news.try_recv() {
                        let lists = self.may_hear(&news);
                        self.waiting = self.waiting.and(lists);
                    }
                }
            }
        }
    }

    fn view(&self) -> Option<View<'_>> {
        Some(View {
            snapshot: self.snapshot.as_deref()?,
            who: &self.who,
            endpoint: &self.endpoint,
            now: clock::now_unix(),
        })
    }

    fn may_hear(&self, news: &News) -> Lists {
        let heard = self.view().is_some_and(|view| {
            let mut upstreams = view.snapshot.upstreams.iter();
            let upstream = upstreams.find(|upstream| upstream.full_name == news.server);
            upstream.is_some_and(|upstream| view.hears(upstream, news.list))
        });
        if heard { Lists::of(news.list) } else { Lists::NONE }
    }

    fn heard(&self) -> Lists {
        self.view().map_or(Lists::NONE, |view| view.heard())
    }

    /// Another configuration may be in force.
    fn follow(&mut self) {
        let before = self.heard();
        let now = self.app.snapshot();
        let same = match (&self.snapshot, &now) {
            (Some(old), Some(new)) => old.id == new.id || lists_alike(old, new),
            _ => false,
        };
        self.snapshot = now;
        if !same {
            // Of what it no longer hears at all, the list is empty now: that is news as well.
            self.waiting = self.waiting.and(before).and(self.heard());
        }
    }
}

/// Are the lists of both configurations certainly the same for everybody?
fn lists_alike(old: &Snapshot, new: &Snapshot) -> bool {
    let (old, new) = (&old.config, &new.config);
    old.servers == new.servers
        && old.rules == new.rules
        && old.tool_sets == new.tool_sets
        && old.tool_names == new.tool_names
        && old.features == new.features
}
