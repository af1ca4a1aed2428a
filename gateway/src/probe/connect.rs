//! `probe connect`.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::args::{Expect, ProbeConnect, Target};
use crate::net::Resolver;
use crate::probe::Check;

/// Tries the connection.
pub(crate) async fn check(args: &ProbeConnect) -> Check {
    let address = match &args.target {
        Target::Address(address) => Ok(*address),
        Target::Name(name, port) => resolve(name, *port, args.timeout).await,
    };
    let (ok, found) = match address {
        Ok(address) => {
            let result = timeout(args.timeout, TcpStream::connect(address)).await;
            let found = classify(result.map(|connected| connected.map(drop)));
            (
                found.matches(args.expect),
                format!("{address}: {}", found.in_words()),
            )
        }
        Err(reason) => (false, reason),
    };
    Check {
        name: "connect",
        ok,
        found,
    }
}

async fn resolve(name: &str, port: u16, limit: Duration) -> Result<SocketAddr, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{name} does not resolve: {why}");
    let addresses = timeout(limit, Resolver::system(limit).resolve(name))
        .await
        .map_err(|_| failed(&"no answer in time"))?
        .map_err(|err| failed(&err))?;
    addresses
        .first()
        .map(|ip| SocketAddr::new(*ip, port))
        .ok_or_else(|| failed(&"no address"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Open,
    Refused,
    /// No answer.
    Silence,
    /// The network says that there is no way.
    NoWay,
    /// Our own kernel does not let it out.
    NotPermitted,
    Other(ErrorKind),
}

impl Found {
    fn matches(self, expected: Expect) -> bool {
        match self {
            Self::Open => expected == Expect::Open,
            Self::Refused => expected == Expect::Refused,
            Self::Silence | Self::NoWay | Self::NotPermitted => expected == Expect::Blocked,
            Self::Other(_) => false,
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::Open => "open".into(),
            Self::Refused => "refused: the host answers, nobody listens".into(),
            Self::Silence => "blocked: no answer".into(),
            Self::NoWay => "blocked: the network answers that there is no way".into(),
            Self::NotPermitted => "blocked: not let out".into(),
            Self::Other(kind) => format!("unexpected error: {kind}"),
        }
    }
}

fn classify(result: Result<Result<(), Error>, tokio::time::error::Elapsed>) -> Found {
    match result {
        Err(_) => Found::Silence,
        Ok(Ok(())) => Found::Open,
        Ok(Err(err)) => match err.kind() {
            ErrorKind::ConnectionRefused => Found::Refused,
            ErrorKind::TimedOut => Found::Silence,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Found::NoWay,
            ErrorKind::PermissionDenied => Found::NotPermitted,
            kind => Found::Other(kind),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tokio::net::TcpListener;

    #[rstest]
    #[case(ErrorKind::ConnectionRefused, Expect::Refused)]
    #[case(ErrorKind::TimedOut, Expect::Blocked)]
    #[case(ErrorKind::HostUnreachable, Expect::Blocked)]
    #[case(ErrorKind::NetworkUnreachable, Expect::Blocked)]
    #[case(ErrorKind::PermissionDenied, Expect::Blocked)]
    fn each_failure_meets_one_expectation(#[case] kind: ErrorKind, #[case] expected: Expect) {
        let found = classify(Ok(Err(Error::from(kind))));
        for expect in [Expect::Open, Expect::Refused, Expect::Blocked] {
            assert_eq!(found.matches(expect), expect == expected);
        }
    }

    #[tokio::test]
    async fn open_and_refused_ports_are_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let probe = |expect| ProbeConnect {
            target: Target::Address(address),
            timeout: Duration::from_secs(5),
            expect,
        };
        assert!(check(&probe(Expect::Open)).await.ok);
        assert!(!check(&probe(Expect::Blocked)).await.ok);
        drop(listener);
        let refused = check(&probe(Expect::Refused)).await;
        assert!(refused.ok, "{refused:?}");
        // A refusal means that the packet arrived: a fence that lets it through must not pass for one that works.
        assert!(!check(&probe(Expect::Blocked)).await.ok);
    }

    #[tokio::test]
    async fn silence_counts_as_blocked() {
        let silent = timeout(
            Duration::from_millis(1),
            std::future::pending::<Result<(), Error>>(),
        )
        .await;
        let found = classify(silent);
        assert!(found.matches(Expect::Blocked) && !found.matches(Expect::Refused));
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_meets_no_expectation() {
        for expect in [Expect::Open, Expect::Refused, Expect::Blocked] {
            let args = ProbeConnect {
                target: Target::Name("no-such-name.invalid".into(), 1),
                timeout: Duration::from_millis(300),
                expect,
            };
            assert!(!check(&args).await.ok);
        }
    }
}
