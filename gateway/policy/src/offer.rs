//! What of a server exists for whom, before any rule is asked.

use portcullis_config::server::Server;

use crate::glob::Globs;
use crate::identity::Identity;

/// Which of a server's tools exist for anybody, and for whom the server exists.
#[derive(Clone, Debug)]
pub struct Offer {
    allow: Globs,
    deny: Globs,
    /// The only principals it is there for, by method and subject. None: it is there for everybody.
    testers: Option<Vec<(Box<str>, Box<str>)>>,
}

impl Offer {
    /// As the server's configuration has it.
    pub fn new(server: &Server) -> Self {
        Self {
            allow: Globs::new(&server.tools.allow),
            deny: Globs::new(&server.tools.deny),
            testers: server.quarantine.as_ref().map(|quarantine| {
                quarantine
                    .except_for
                    .iter()
                    .map(|who| (who.method.clone().into(), who.subject.clone().into()))
                    .collect()
            }),
        }
    }

    /// Does this tool exist for anybody?
    pub fn has_tool(&self, name: &str) -> bool {
        self.allow.matches(name) && !self.deny.matches(name)
    }

    /// Is it there for its testers only?
    pub const fn is_quarantined(&self) -> bool {
        self.testers.is_some()
    }

    /// Is the server there for this principal? A quarantined one is there for its testers only.
    pub fn is_visible_to(&self, who: &Identity) -> bool {
        self.testers.as_ref().is_none_or(|testers| {
            testers
                .iter()
                .any(|(method, subject)| **method == *who.method && **subject == *who.subject)
        })
    }
}
