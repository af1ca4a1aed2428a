//! The program itself, while there is no API server to be found: what it leaves in the kernel.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use portcullis_netpol::render::NAME;

use super::loads::unavailable;

/// A namespace to run it in, removed at the end.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Self {
        let name = format!("npt{}-{name}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).status();
        assert!(made.unwrap().success());
        let namespace = Self(name);
        assert!(namespace.run(&["ip", "link", "set", "lo", "up"]).0);
        namespace
    }

    fn run(&self, command: &[&str]) -> (bool, String) {
        let inside = ["netns", "exec", &self.0];
        let output = Command::new("ip").args(inside).args(command).output().unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    }

    fn has_table(&self) -> bool {
        let (listed, tables) = self.run(&["nft", "list", "tables"]);
        assert!(listed);
        tables.lines().any(|line| line == format!("table ip {NAME}"))
    }

    /// The enforcer, told to look for the API server where nobody listens; it runs outside the
    /// namespace and reaches into it, so that its health can be asked for.
    fn start(&self, health_port: u16) -> Enforcer {
        let kubeconfig = std::env::temp_dir().join(&self.0);
        let text = r#"{"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
            "users": [{"name": "u", "user": {}}]}"#;
        std::fs::write(&kubeconfig, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_portcullis-netpol"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(["--pod-cidr=198.18.0.0/24", "--node-ip=198.18.255.2"])
            .arg(format!("--netns=/run/netns/{}", self.0))
            .arg(format!("--health-addr=127.0.0.1:{health_port}"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Enforcer { child, log }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let deleted = Command::new("ip").args(["netns", "del", &self.0]).status();
        assert!(deleted.is_ok());
        drop(std::fs::remove_file(std::env::temp_dir().join(&self.0)));
    }
}

struct Enforcer {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Enforcer {
    /// Reads the log until a line holds the words.
    fn says(&mut self, words: &str) {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = self.log.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended without saying {words:?}");
        }
    }

    fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(self.child.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn health(port: u16) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.lines().next().unwrap().to_owned()
}

#[test]
fn the_fence_is_up_before_the_api_server_and_goes_when_asked() {
    if let Some(reason) = unavailable() {
        eprintln!("SKIPPED: needs root, ip and nft: {reason}");
        return;
    }
    let namespace = Namespace::new("ends");
    let port = free_port();
    let mut enforcer = namespace.start(port);
    enforcer.says("all are cut off");
    assert!(namespace.has_table());
    enforcer.says("watch failed");
    assert_eq!(health(port), "HTTP/1.1 503 Service Unavailable");
    enforcer.terminate();
    assert!(!namespace.has_table());
}

#[test]
fn a_kill_leaves_the_table_and_the_next_start_takes_it_over() {
    if let Some(reason) = unavailable() {
        eprintln!("SKIPPED: needs root, ip and nft: {reason}");
        return;
    }
    let namespace = Namespace::new("killed");
    let mut first = namespace.start(free_port());
    first.says("all are cut off");
    first.kill();
    assert!(namespace.has_table());
    let mut second = namespace.start(free_port());
    second.says("taking over");
    second.terminate();
    assert!(!namespace.has_table());
}
