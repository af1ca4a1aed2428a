//! Replicas of one gateway that a test can lose in every way: killed, paused, drained; and to which it can add more.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::replicas::address;
use crate::support::{Client, Gateway, config};

/// What replicas have in common, with everything on that servers may ask and tell.
const COMMON: &str = "
sessionKeys: {sealWith: k1, keys: [{id: k1, file: session-key}]}
gateway: {id: one, name: g, namespace: a, profile: Development, publicHost: gateway.test}
features: {prompts: true, resources: true, elicitation: true, sampling: true, roots: true, logging: true, subscriptions: true}
rules: [{name: r, action: Allow, principals: {anyAuthenticated: true}, servers: ['*'], tools: ['*'], prompts: ['*'], resources: ['note:*']}]
";

/// The longest that anything may take once a replica is lost: two seconds without a sign of life, five for the proof, and
/// what a busy machine needs.
pub(crate) const BOUND: Duration = Duration::from_secs(15);

/// How a replica is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its connections break, and nobody listens there any more.
    Killed,
    /// It takes connections, as the kernel does for a process that stands still, and says nothing.
    Paused,
}

/// The way to a replica's peer port.
struct Way(watch::Sender<Option<Loss>>);

impl Way {
    async fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let (state, mut seen) = watch::channel(None);
        let listener = TcpListener::bind(at).await.unwrap();
        tokio::spawn(async move {
            loop {
                let from = tokio::select! {
                    _ = seen.wait_for(|loss| *loss == Some(Loss::Killed)) => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                tokio::spawn(pass(from, to, seen.clone()));
            }
        });
        Self(state)
    }
}

async fn pass(mut from: TcpStream, to: SocketAddr, mut seen: watch::Receiver<Option<Loss>>) {
    let paused = *seen.borrow() == Some(Loss::Paused);
    if !paused {
        let Ok(mut there) = TcpStream::connect(to).await else {
            return;
        };
        let lost = tokio::select! {
            _ = copy_bidirectional(&mut from, &mut there) => return,
            lost = seen.wait_for(Option::is_some) => lost.map(|loss| *loss),
        };
        if !matches!(lost, Ok(Some(Loss::Paused))) {
            return;
        }
        // What it held open stays open.
        seen.wait_for(|loss| *loss == Some(Loss::Killed)).await.ok();
        drop(there);
        return;
    }
    seen.wait_for(|loss| *loss == Some(Loss::Killed)).await.ok();
}

/// Replicas with the addresses 1, 2, 3 and so on.
pub(crate) struct Cluster {
    text: String,
    port: u16,
    pub(crate) all: Vec<Gateway>,
    ways: Vec<Way>,
}

impl Cluster {
    /// `count` replicas before one server, `s`.
    pub(crate) async fn start(server: SocketAddr, count: usize) -> Self {
        let own = TcpListener::bind((address(1), 0)).await.unwrap();
        let mut cluster = Self {
            text: config(&[("s", server)], COMMON),
            port: own.local_addr().unwrap().port(),
            all: Vec::new(),
            ways: Vec::new(),
        };
        drop(own);
        for _ in 0..count {
            cluster.begin().await;
        }
        let everybody: Vec<usize> = (0..count).collect();
        cluster.list(&everybody);
        cluster
    }

    /// One more, which nobody knows yet.
    pub(crate) async fn begin(&mut self) -> usize {
        let number = u8::try_from(self.all.len()).unwrap() + 1;
        let gateway = Gateway::start(&self.text).await;
        let limits = gateway.app.snapshot().unwrap().config.limits.clone();
        // The process listens elsewhere, and the way leads from its address there.
        let inside = SocketAddr::new(address(number + 100), self.port);
        gateway.app.join(address(number), inside, &limits).unwrap();
        let way = Way::start(SocketAddr::new(address(number), self.port), inside).await;
        self.all.push(gateway);
        self.ways.push(way);
        usize::from(number) - 1
    }

    /// The name lists these from now on.
    pub(crate) fn list(&self, ready: &[usize]) {
        let members = ready.iter().map(|at| address(u8::try_from(at + 1).unwrap()));
        let members: Vec<IpAddr> = members.collect();
        for gateway in &self.all {
            gateway.app.discovery.set(members.clone());
        }
    }

    /// A replica is lost; the name lists it still.
    pub(crate) fn lose(&self, at: usize, loss: Loss) {
        self.ways[at].0.send_replace(Some(loss));
    }

    /// The client at that replica.
    pub(crate) fn at(&self, client: &Client, replica: usize) -> Client {
        Client {
            address: self.all[replica].address,
            ..client.clone()
        }
    }
}

/// Ends the test if `what` takes longer than it may.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, work)
        .await
        .unwrap_or_else(|_| panic!("{what} hangs"))
}

/// What the server `Asker` says that it was answered.
pub(crate) fn answered(message: &Value) -> String {
    let text = message["result"]["content"][0]["text"].as_str();
    let answer: Value = serde_json::from_str(text.unwrap_or_else(|| panic!("{message}"))).unwrap();
    answer["result"]["content"]["x"].as_str().unwrap().to_owned()
}
