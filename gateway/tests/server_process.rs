//! The binary as a process: signals, exit codes, reload, what it prints where.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail by panicking")]

#[path = "server/capped.rs"]
mod capped;
#[path = "server/crowd.rs"]
mod crowd;
#[path = "server/pinned.rs"]
mod pinned;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A directory of its own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-process-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        // As the kubelet and editors do it: never half a file.
        let new = self.0.join(format!("{name}.new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, &path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A port that is free and stays so: it is on an address of the loopback network that nobody else uses.
fn free_port() -> SocketAddr {
    static NUMBER: AtomicU8 = AtomicU8::new(1);
    let process = u8::try_from(std::process::id() % 250).unwrap() + 1;
    let address = Ipv4Addr::new(127, process, NUMBER.fetch_add(1, Ordering::Relaxed), 1);
    TcpListener::bind((address, 0)).unwrap().local_addr().unwrap()
}

struct Ports {
    public: SocketAddr,
    metrics: SocketAddr,
    status: SocketAddr,
}

impl Ports {
    fn new() -> Self {
        Self {
            public: free_port(),
            metrics: free_port(),
            status: free_port(),
        }
    }

    fn config(&self, transport: &str, shutdown: &str) -> String {
        let Self {
            public,
            metrics,
            status,
        } = self;
        format!(
            "formatVersion: 1\n\
             gateway: {{name: main, namespace: default, publicHost: '{public}', profile: Development}}\n\
             listen:\n  public: {{address: '{public}', {transport}}}\n  metrics: '{metrics}'\n  \
             status: {{address: '{status}'}}\n\
             auth: {{anonymous: {{reason: a test}}}}\n\
             shutdown: {shutdown}\n"
        )
    }
}

const PLAIN: &str = "plaintext: {reason: a test}";

/// The running binary. Killed when the test ends.
struct Gateway {
    child: Child,
    log: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Gateway {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-gateway"))
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tx, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if tx.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            log,
            seen: Vec::new(),
        }
    }

    /// Waits for a log line that holds this text.
    fn says(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(err) => panic!("no line with {text:?} ({err}):\n{}", self.seen.join("\n")),
            }
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status();
        assert!(sent.unwrap().success());
    }

    fn exit(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < until,
                "it does not end:\n{}",
                self.seen.join("\n")
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn wait_for(what: &str, test: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !test() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ready(ports: &Ports) -> bool {
    get(ports.metrics, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

#[test]
fn it_serves_drains_and_ends_with_zero() {
    let scratch = Scratch::new("drain");
    let ports = Ports::new();
    let config = scratch.write(
        "gateway.yaml",
        &ports.config(PLAIN, "{grace: 500ms, deadline: 20s}"),
    );
    let mut gateway = Gateway::start(&config);
    gateway.says("started");
    wait_for("readiness", || ready(&ports));
    assert!(
        get(ports.public, "/no-such-path")
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
    assert!(get(ports.metrics, "/livez").unwrap().starts_with("HTTP/1.1 200"));
    let metrics = get(ports.metrics, "/metrics").unwrap();
    assert!(
        metrics.contains("portcullis_gateway_config_synchronized 1"),
        "{metrics}"
    );
    gateway.signal("TERM");
    gateway.says("Grace");
    // Not ready, still serving.
    assert!(
        get(ports.metrics, "/readyz")
            .unwrap()
            .contains("serving: shutting down")
    );
    assert!(
        get(ports.public, "/no-such-path")
            .unwrap()
            .starts_with("HTTP/1.1 404")
    );
    assert_eq!(gateway.exit().code(), Some(0));
    gateway.says("\"clean\":true");
    assert!(TcpStream::connect(ports.public).is_err());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let scratch = Scratch::new("hurry");
    let ports = Ports::new();
    let config = scratch.write("gateway.yaml", &ports.config(PLAIN, "{grace: 1h, deadline: 2h}"));
    let mut gateway = Gateway::start(&config);
    gateway.says("started");
    gateway.signal("INT");
    gateway.says("Grace");
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
    gateway.says("\"clean\":false");
}

#[test]
fn a_configuration_that_is_refused_at_the_start_ends_it_with_one() {
    let scratch = Scratch::new("refused");
    let ports = Ports::new();
    let good = ports.config(PLAIN, "{grace: 1s, deadline: 20s}");
    for (text, reason) in [
        (
            good.replace("formatVersion: 1", "formatVersion: 2"),
            "formatVersion 2",
        ),
        (
            good.replace("plaintext: {reason: a test}", ""),
            "exactly one of tls and plaintext",
        ),
        (good.replace("shutdown", "shutdowns"), "shutdowns"),
        ("{".to_owned(), ""),
    ] {
        let config = scratch.write("gateway.yaml", &text);
        let mut gateway = Gateway::start(&config);
        assert_eq!(gateway.exit().code(), Some(1));
        gateway.says(reason);
    }
    let mut gateway = Gateway::start(&scratch.0.join("nowhere.yaml"));
    assert_eq!(gateway.exit().code(), Some(1));
    gateway.says("is missing");
}

#[test]
fn a_port_that_is_taken_ends_it_with_one() {
    let scratch = Scratch::new("taken");
    let ports = Ports::new();
    let config = scratch.write("gateway.yaml", &ports.config(PLAIN, "{grace: 1s, deadline: 20s}"));
    let _taken = TcpListener::bind(ports.public).unwrap();
    let mut gateway = Gateway::start(&config);
    assert_eq!(gateway.exit().code(), Some(1));
    gateway.says("cannot be bound");
}

#[test]
fn a_change_is_taken_and_a_mistake_is_refused_while_it_runs() {
    let scratch = Scratch::new("reload");
    let ports = Ports::new();
    let good = ports.config(PLAIN, "{grace: 1s, deadline: 20s}");
    let config = scratch.write("gateway.yaml", &good);
    let mut gateway = Gateway::start(&config);
    gateway.says("started");
    let status = || {
        let answer = get(ports.status, "/status").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str::<serde_json::Value>(body).unwrap()
    };
    let first = status()["config"]["hash"].as_str().unwrap().to_owned();
    scratch.write("gateway.yaml", &good.replace("deadline: 20s", "deadline: 21s"));
    gateway.says("configuration taken");
    wait_for("the new hash", || status()["config"]["hash"] != first.as_str());
    let second = status()["config"]["hash"].as_str().unwrap().to_owned();
    scratch.write("gateway.yaml", &good.replace("deadline: 20s", "deadline: 1ms"));
    gateway.says("configuration refused");
    let now = status();
    assert_eq!(now["config"]["hash"], second.as_str());
    assert!(
        now["config"]["rejectedReason"]
            .as_str()
            .unwrap()
            .contains("shutdown.deadline"),
        "{now}"
    );
    assert!(
        get(ports.metrics, "/metrics")
            .unwrap()
            .contains("portcullis_gateway_config_synchronized 0")
    );
    assert!(ready(&ports), "what is in force serves on");
    // The log level is part of what is taken.
    scratch.write("gateway.yaml", &format!("{good}telemetry: {{logLevel: error}}\n"));
    wait_for("the third hash", || status()["config"]["hash"] != second.as_str());
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
    assert!(gateway.log.try_iter().all(|line| !line.contains("shutting down")));
}

#[test]
fn without_its_certificate_it_waits_with_the_port_closed() {
    let scratch = Scratch::new("certificate");
    let ports = Ports::new();
    let transport = "tls: {certFile: tls.crt, keyFile: tls.key}";
    let config = scratch.write(
        "gateway.yaml",
        &ports.config(transport, "{grace: 100ms, deadline: 20s}"),
    );
    let mut gateway = Gateway::start(&config);
    gateway.says("stays closed");
    assert!(get(ports.metrics, "/livez").unwrap().starts_with("HTTP/1.1 200"));
    assert!(
        get(ports.metrics, "/readyz")
            .unwrap()
            .contains("tls: no certificate")
    );
    assert!(TcpStream::connect(ports.public).is_err());
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    scratch.write("tls.key", &certified.signing_key.serialize_pem());
    scratch.write("tls.crt", &certified.cert.pem());
    wait_for("readiness", || ready(&ports));
    wait_for("the port", || TcpStream::connect(ports.public).is_ok());
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
}

/// A key of the cluster that signs ServiceAccount tokens, and its key set.
struct Cluster {
    key: rcgen::KeyPair,
}

impl Cluster {
    fn jwks(&self) -> String {
        use base64::Engine as _;
        let b64 = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let point = self.key.public_key_raw();
        let (x, y) = (b64(&point[1..33]), b64(&point[33..]));
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","x":"{x}","y":"{y}"}}]}}"#)
    }

    fn token(&self, subject: &str) -> String {
        use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
        let now = portcullis_gateway::clock::now_unix();
        let claims = serde_json::json!({
            "iss": "https://kubernetes.default.svc", "aud": ["portcullis-status"], "sub": subject, "exp": now + 600,
        });
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes()).unwrap();
        let header = Header {
            kid: Some("k".into()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, &claims, &key).unwrap()
    }
}

#[test]
fn in_a_cluster_the_status_port_shows_its_derived_key_and_lets_in_one_account() {
    use portcullis_config::keys::{Purpose, derive, ed25519_spki};
    let scratch = Scratch::new("status");
    let ports = Ports::new();
    let cluster = Cluster {
        key: rcgen::KeyPair::generate().unwrap(),
    };
    let operator = "system:serviceaccount:portcullis-system:portcullis";
    let token = format!(
        "token: {{issuer: 'https://kubernetes.default.svc', audience: portcullis-status, subject: '{operator}', jwks: '{}'}}",
        cluster.jwks()
    );
    let text = ports
        .config(PLAIN, "{grace: 10ms, deadline: 20s}")
        .replace("}\nauth:", &format!(", {token}}}\nauth:"))
        + "sessionKeys: {sealWith: new, keys: [{id: new, file: new}, {id: old, file: old}]}\n";
    let (old, new) = ([1; 32], [2; 32]);
    std::fs::write(scratch.0.join("old"), old).unwrap();
    let config = scratch.write("gateway.yaml", &text);
    let mut gateway = Gateway::start(&config);
    gateway.says("started");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ask = |session_key: &[u8], subject: &str| {
        let spki = ed25519_spki(&derive(session_key, Purpose::Status).unwrap());
        let request = format!(
            "GET /status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            cluster.token(subject)
        );
        runtime.block_on(pinned::ask(ports.status, &spki, &request))
    };
    // The sealing key is not mounted yet: another one that is lends its identity, so that the operator can be told.
    let answer = ask(&old, operator).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.contains("\"ready\":false"),
        "a gateway without its sealing key is not ready: {answer}"
    );
    let stranger = ask(&old, "system:serviceaccount:default:default").unwrap();
    assert!(
        stranger.starts_with("HTTP/1.1 401") && !stranger.contains("ready"),
        "{stranger}"
    );
    std::fs::write(scratch.0.join("new"), new).unwrap();
    wait_for("the sealing key's identity", || {
        ask(&new, operator).is_ok_and(|answer| answer.contains("\"ready\":true"))
    });
    assert!(ask(&old, operator).is_err(), "the identity is the sealing key's");
}

#[test]
fn log_lines_are_json_and_standard_output_is_left_to_the_audit_log() {
    let scratch = Scratch::new("output");
    let ports = Ports::new();
    let config = scratch.write(
        "gateway.yaml",
        &ports.config(PLAIN, "{grace: 10ms, deadline: 20s}"),
    );
    let mut gateway = Gateway::start(&config);
    gateway.says("started");
    wait_for("the port", || TcpStream::connect(ports.public).is_ok());
    get(ports.public, "/no-such-path").unwrap();
    gateway.signal("TERM");
    assert_eq!(gateway.exit().code(), Some(0));
    gateway.says("\"clean\":true");
    for line in &gateway.seen {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string());
    }
    let mut output = String::new();
    gateway
        .child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut output)
        .unwrap();
    for line in output.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["log"], &line["v"]), (&"audit".into(), &1.into()));
    }
}

fn run(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis-gateway"))
        .args(args)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn it_tells_its_version_and_how_to_use_it() {
    let (code, text) = run(&["version"]);
    assert_eq!(code, Some(0));
    assert_eq!(
        text,
        format!("portcullis-gateway {}\n", env!("CARGO_PKG_VERSION"))
    );
    let (code, text) = run(&["--help"]);
    assert_eq!(code, Some(0));
    assert!(text.contains("serve") && text.contains("docs/examples/local.yaml"));
    assert_eq!(run(&["frobnicate"]).0, Some(2));
}

#[test]
fn probes_report_as_json_and_by_exit_code() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let open = listener.local_addr().unwrap().to_string();
    let (code, text) = run(&["probe", "connect", &open]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()), "{text}");
    let (code, text) = run(&["probe", "connect", &open, "--expect", "blocked"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"]), (Some(1), &false.into()), "{text}");
    // Wherever this test runs, it is not the hardened container: the probe has to see at least one reason.
    let (code, text) = run(&["probe", "self"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"]), (Some(1), &false.into()), "{text}");
    assert_eq!(report["checks"].as_array().unwrap().len(), 10);
}
