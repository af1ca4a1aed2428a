//! What can go wrong in a pass, and what each case calls for.
//!
//! Every error has a class; the match that assigns it has no catch-all, so a new error cannot be left unclassified.

use std::fmt;

use kube::core::Status;

/// What an error calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Only a change of the object, or of what stands in its way, helps: no retry.
    Terminal,
    /// Something else has to happen first, and we watch it: no retry.
    Waiting,
    /// Somebody was faster: again at once, from what is true now.
    Conflict,
    /// The API server or the way to it: again after a growing delay.
    Transient,
    /// A right or a quota is missing: again, slowly.
    Forbidden,
    /// Somebody undoes what we do: again, slowly.
    Contested,
    /// Our own mistake: told loudly, again slowly.
    Bug,
    /// This process does not lead: nothing is to be done by it.
    NotLeading,
}

impl Class {
    /// The class as metrics label it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminal => "terminal",
            Self::Waiting => "waiting",
            Self::Conflict => "conflict",
            Self::Transient => "transient",
            Self::Forbidden => "forbidden",
            Self::Contested => "contested",
            Self::Bug => "bug",
            Self::NotLeading => "not_leading",
        }
    }
}

/// Errors that know what they call for.
pub trait Classify {
    /// What the error calls for.
    fn class(&self) -> Class;
    /// One word for a condition's reason and a metric's label.
    fn reason(&self) -> &'static str;
}

/// What a request was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The verb, as RBAC names it.
    pub verb: &'static str,
    /// The resource, as RBAC names it, subresource included.
    pub resource: String,
    /// `namespace/name`.
    pub object: String,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            resource,
            object,
        } = self;
        write!(f, "{verb} {resource} {object}")
    }
}

/// Why a request to the API server brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The API server answered no.
    #[error("{request}: {} ({})", status.message, status.code)]
    Refused {
        /// What was asked.
        request: Request,
        /// What it said.
        status: Box<Status>,
    },
    /// No answer in time.
    #[error("{request}: no answer within {seconds} s")]
    TimedOut {
        /// What was asked.
        request: Request,
        /// For how long an answer was waited for.
        seconds: u64,
    },
    /// The API server was not reached, or its answer was no answer.
    #[error("{request}: {source}")]
    Transport {
        /// What was asked.
        request: Request,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// What was to be sent cannot be sent.
    #[error("{request}: {message}")]
    Unsendable {
        /// What was to be asked.
        request: Request,
        /// Why not.
        message: String,
    },
    /// The lease is not ours, or too old to start a write under it.
    #[error("{0}: not sent, since this process does not hold the lease")]
    NotLeading(Request),
}

impl ApiError {
    /// Sorts an error of the client library.
    pub fn from_kube(request: Request, error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused { request, status },
            kube::Error::BuildRequest(error) => Self::Unsendable {
                request,
                message: error.to_string(),
            },
            other => Self::Transport {
                request,
                source: Box::new(other),
            },
        }
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_not_found())
    }

    /// Whether an object of that name is there already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_already_exists())
    }

    /// Whether the object was changed or replaced meanwhile.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.is_conflict() && !status.is_already_exists())
    }
}

/// Whether nothing can be made because the namespace is being removed.
fn is_terminating(status: &Status) -> bool {
    let causes = status
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    status.code == 403 && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

impl Classify for ApiError {
    fn class(&self) -> Class {
        match self {
            Self::Refused { status, .. } => match status.code {
                403 if is_terminating(status) => Class::Waiting,
                403 => Class::Forbidden,
                // 404, 410: the object, or the namespace it is in, went away, and the watch tells.
                404 | 409 | 410 => Class::Conflict,
                // 401: our own token is being renewed, or the API server has not all of its keys yet.
                401 | 429 | 500..=599 => Class::Transient,
                // 400, 415, 422: we built something that the API server does not take.
                _ => Class::Bug,
            },
            Self::TimedOut { .. } | Self::Transport { .. } => Class::Transient,
            Self::Unsendable { .. } => Class::Bug,
            Self::NotLeading(_) => Class::NotLeading,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Refused { status, .. } if is_terminating(status) => "NamespaceTerminating",
            Self::Refused { status, .. } if status.code == 403 => "Forbidden",
            Self::Refused { status, .. } if matches!(status.code, 400 | 413 | 415 | 422) => "Rejected",
            Self::Refused { .. }
            | Self::TimedOut { .. }
            | Self::Transport { .. }
            | Self::Unsendable { .. }
            | Self::NotLeading(_) => "ApiError",
        }
    }
}

/// Why a pass ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A request failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// A child's name is taken by an object that is not ours.
    #[error(
        "{kind} {name} exists and is {owner}, so it is left alone: delete or rename it, or choose another name for this object"
    )]
    NameConflict {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is, in words.
        owner: String,
    },
    /// Somebody changes a child of ours again and again.
    #[error(
        "{kind} {name} is changed back and forth: {rivals} keeps setting what Portcullis sets otherwise; have it leave \
         the object alone"
    )]
    Contested {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
        /// Who else writes it, by field manager.
        rivals: String,
    },
    /// A child of a former object of the same name is still being removed.
    #[error("{kind} {name} of the former object of this name is still being removed")]
    Leftover {
        /// Kind of the child.
        kind: String,
        /// Its name.
        name: String,
    },
    /// Something that bears on this object cannot be read, and what it last was is not known.
    #[error(
        "{kind} {name} does not match its schema, so everything that hangs on it stays as it is: mend it, or install the \
         definitions (portcullis-crds) of the operator's own version: {error}"
    )]
    Unreadable {
        /// Its kind.
        kind: &'static str,
        /// `namespace/name`.
        name: String,
        /// What is wrong with it.
        error: String,
    },
    /// An invariant of ours does not hold.
    #[error("broken invariant: {0}")]
    Invariant(String),
    /// The whole pass took too long.
    #[error("the pass did not end within {0} s")]
    PassTimedOut(u64),
}

impl Classify for Error {
    fn class(&self) -> Class {
        match self {
            Self::Api(error) => error.class(),
            Self::NameConflict { .. } => Class::Terminal,
            Self::Contested { .. } => Class::Contested,
            Self::Leftover { .. } | Self::Unreadable { .. } => Class::Waiting,
            Self::Invariant(_) => Class::Bug,
            Self::PassTimedOut(_) => Class::Transient,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Api(error) => error.reason(),
            Self::NameConflict { .. } => "NameConflict",
            Self::Contested { .. } => "ContestedField",
            Self::Leftover { .. } => "WaitingForRemoval",
            Self::Unreadable { .. } => "Unreadable",
            Self::Invariant(_) => "InternalError",
            Self::PassTimedOut(_) => "ApiError",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn refused(code: u16) -> ApiError {
        ApiError::Refused {
            request: Request {
                verb: "patch",
                resource: "deployments".into(),
                object: "a/b".into(),
            },
            status: Status::failure("no", "because").with_code(code).boxed(),
        }
    }

    #[rstest]
    #[case(403, Class::Forbidden)]
    #[case(404, Class::Conflict)]
    #[case(409, Class::Conflict)]
    #[case(422, Class::Bug)]
    #[case(429, Class::Transient)]
    #[case(500, Class::Transient)]
    #[case(503, Class::Transient)]
    fn answers_have_classes(#[case] code: u16, #[case] class: Class) {
        assert_eq!(refused(code).class(), class);
    }

    #[test]
    fn a_namespace_that_goes_away_is_waited_for() {
        let status = serde_json::from_value(serde_json::json!({
            "code": 403, "message": "no", "reason": "Forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": "metadata.namespace"}]},
        }));
        let ApiError::Refused { request, .. } = refused(403) else {
            panic!("another error");
        };
        let error = ApiError::Refused {
            request,
            status: status.unwrap(),
        };
        assert_eq!(
            (error.class(), error.reason()),
            (Class::Waiting, "NamespaceTerminating")
        );
    }

    #[test]
    fn a_forbidden_request_names_verb_and_resource() {
        let error = refused(403);
        assert_eq!(error.reason(), "Forbidden");
        assert!(error.to_string().starts_with("patch deployments a/b"));
    }
}
