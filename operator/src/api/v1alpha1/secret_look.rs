//! What looks like a secret and therefore must not stand in an object: objects are read by many, kept in Git, and
//! copied into audit logs. Every message names the way that is meant instead.

use kube::core::{Reason, Rule};

use super::cel::rule;

/// Well-known forms of credentials, wherever they stand in a text: private keys, tokens of common providers, signed
/// tokens, our own API keys, and a password in a URL.
const CREDENTIAL: &str = concat!(
    "-----BEGIN [A-Z ]*PRIVATE KEY",
    "|eyJ[A-Za-z0-9_-]{8,}[.]eyJ[A-Za-z0-9_-]{8,}[.]",
    "|gh[pousr]_[A-Za-z0-9]{20,}",
    "|github_pat_[A-Za-z0-9_]{20,}",
    "|glpat-[A-Za-z0-9_-]{16,}",
    "|xox[abeprs]-[A-Za-z0-9-]{10,}",
    "|(AKIA|ASIA)[0-9A-Z]{16}",
    "|AIza[0-9A-Za-z_-]{35}",
    "|ya29[.][0-9A-Za-z_-]{20,}",
    "|sk-[A-Za-z0-9_-]{20,}",
    "|(sk|rk)_live_[0-9A-Za-z]{16,}",
    "|hf_[A-Za-z0-9]{30,}",
    "|npm_[A-Za-z0-9]{36}",
    "|hvs[.][A-Za-z0-9_-]{20,}",
    "|pcl_[A-Za-z0-9_-]{43}",
    "|://[^/?#@ ]*:[^/?#@ ]+@",
);

/// Words that announce a secret anywhere in the name of a variable or a flag.
const ANYWHERE: &str = "passw(or)?d|passphrase|secret|credential|api[-_]?key|access[-_]?key|private[-_]?key|signing[-_]?key|encryption[-_]?key|token_";

/// Words that do at the end of such a name only: a `TOKENIZER` is none.
const AT_THE_END: &str = "pwd|tokens?_?[0-9]*";

/// Endings with which such a name announces something about a secret, not the secret.
const ABOUT: &str = "[-_](file|path|dir|url|uri|endpoint|issuer|name|id|type|limits?|count|budget|size|length|ttl|timeout|expiry|header|enabled)";

/// Names that count tokens of text.
const COUNTS: &str = "(max|min|num|total)[-_]?([a-z]+[-_])*tokens?";

fn forbidden(expression: String, message: &str) -> Rule {
    rule(expression, message).reason(Reason::FieldValueForbidden)
}

/// No password in a URL.
pub(super) fn no_userinfo(remedy: &str) -> Rule {
    forbidden(
        "!self.matches('^[a-z]+://[^/?#]*@')".to_owned(),
        &format!("the URL must not carry a user or a password: {remedy}"),
    )
}

/// No password in the URL of a key set.
pub(super) fn no_userinfo_in_jwks_uri() -> Rule {
    no_userinfo("a key set is public")
}

/// No parameter of a URL that looks like a secret.
pub(super) fn no_secret_in_query(remedy: &str) -> Rule {
    forbidden(
        "!self.matches('(?i)[?&][a-z0-9_.-]*(token|secret|passw(or)?d|pwd|api[-_]?key|access[-_]?key|signature|credential|auth)[a-z0-9_.-]*=|[?&](key|sig|pass)=')".to_owned(),
        &format!("the URL's query looks like it carries a secret: {remedy}"),
    )
}

/// No variable whose name says that its value is a secret.
pub(super) fn no_secret_name() -> Rule {
    forbidden(
        format!(
            "!self.matches('(?i)({ANYWHERE})|({AT_THE_END})$') || self.matches('(?i)({ABOUT}|{COUNTS})$')"
        ),
        "the variable's name says that it holds a secret: mount it with secretFiles, and pass the file's path (as NAME_FILE, for instance)",
    )
}

/// No text that holds a credential of a well-known form.
pub(super) fn no_credential_in_value() -> Rule {
    forbidden(
        format!("!self.matches('{CREDENTIAL}')"),
        "the value holds what looks like a credential: mount it with secretFiles, and pass the file's path",
    )
}

/// No URL that holds a credential of a well-known form, in its path for instance.
pub(super) fn no_credential_in_url(remedy: &str) -> Rule {
    forbidden(
        format!("!self.matches('{CREDENTIAL}') || self.matches('^[a-z]+://[^/?#]*@')"),
        &format!("the URL holds what looks like a credential: {remedy}"),
    )
}

/// No argument that holds a credential of a well-known form.
pub(super) fn no_credential_in_args() -> Rule {
    forbidden(
        format!("!self.exists(a, a.matches('{CREDENTIAL}'))"),
        "an argument holds what looks like a credential: mount it with secretFiles, and pass the file's path",
    )
}

/// No argument that is a flag whose name says that its value is a secret.
pub(super) fn no_secret_flag_in_args() -> Rule {
    const NAME: &str = "^-[-a-z0-9_.]*";
    forbidden(
        format!(
            "!self.exists(a, a.matches('(?i){NAME}(({ANYWHERE})[-a-z0-9_.]*|{AT_THE_END})(=|$)') && !a.matches('(?i){NAME}({ABOUT}|{COUNTS})(=|$)'))"
        ),
        "a flag's name says that it passes a secret: mount it with secretFiles, and pass the file's path",
    )
}
