//! A node, pods and an outside host as network namespaces, wired as the test cluster is: one
//! point-to-point link to each pod, and the node routes between them.
//!
//! Sockets are opened by this very test binary, started again inside a namespace with a role in
//! its environment: entering a namespace from within a process needs `unsafe`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_netpol::render::NAME;

use super::fixtures::network;

const ROLE: &str = "NETPOL_LAB_ROLE";
/// Ports that every host listens on, TCP and UDP.
pub(crate) const PORTS: [u16; 2] = [80, 81];
/// A packet on a virtual link takes microseconds, its receiver on a busy machine far longer: what
/// is not there by then was dropped.
const PATIENCE: Duration = Duration::from_secs(1);

/// The address inside each pod's namespace, by the pod's letter; as in the fixtures.
pub(crate) const A: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 5);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 6);
pub(crate) const C: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 7);
/// Host end of the link that joins the node to the machine.
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Owns the namespaces and what runs in them.
pub(crate) struct Lab {
    prefix: String,
    listeners: Vec<Child>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut lab = Self {
            prefix: format!("npt{}-{number}", std::process::id()),
            listeners: Vec::new(),
        };
        let node_ip = network().node_ip;
        lab.add_host("node");
        lab.node("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        for (name, address) in [("a", A), ("b", B), ("c", C)] {
            lab.link(name, &format!("{GATEWAY}/32"));
            lab.node(&format!("ip route add {address} dev to-{name}"));
            lab.address(name, address);
        }
        lab.link("out", &format!("{node_ip}/30"));
        lab.shell("out", &format!("ip addr add {OUTSIDE}/30 dev eth0"));
        lab.shell("out", &format!("ip route add default via {node_ip}"));
        for name in ["node", "a", "b", "c", "out"] {
            lab.listen(name);
        }
        lab
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn add_host(&self, name: &str) {
        let namespace = self.namespace(name);
        run(Command::new("ip").args(["netns", "add", &namespace]), "");
        self.shell(name, "ip link set lo up");
    }

    /// A host whose `eth0` is joined to an interface of the node.
    fn link(&self, name: &str, node_address: &str) {
        self.add_host(name);
        let peer = self.namespace(name);
        self.node(&format!(
            "ip link add name to-{name} type veth peer name eth0 netns {peer}"
        ));
        self.node(&format!("ip addr add {node_address} dev to-{name}"));
        self.node(&format!("ip link set to-{name} up"));
        self.shell(name, "ip link set eth0 up");
    }

    /// Gives a pod's namespace its address and the routes that come with it.
    fn address(&self, name: &str, address: Ipv4Addr) {
        self.shell(name, &format!("ip addr add {address}/32 dev eth0"));
        self.shell(name, &format!("ip route add {GATEWAY} dev eth0"));
        self.shell(name, &format!("ip route add default via {GATEWAY}"));
    }

    /// Lets a pod use another address than the one the node routes to it.
    pub(crate) fn change_address(&self, name: &str, from: Ipv4Addr, to: Ipv4Addr) {
        // The routes go with the last address.
        self.shell(name, &format!("ip addr del {from}/32 dev eth0"));
        self.address(name, to);
    }

    fn inside(&self, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name)]);
        command
    }

    /// Runs a shell line on a host.
    pub(crate) fn shell(&self, name: &str, line: &str) {
        run(self.inside(name).args(["sh", "-c", line]), "");
    }

    /// Runs a shell line on the node.
    pub(crate) fn node(&self, line: &str) {
        self.shell("node", line);
    }

    /// Runs a script of nftables on the node.
    pub(crate) fn nft(&self, script: &str) -> String {
        run(self.inside("node").args(["nft", "-f", "-"]), script);
        let list = format!("nft list table ip {NAME}");
        run(self.inside("node").args(["sh", "-c", &list]), "")
    }

    fn helper(&self, name: &str, role: &str) -> Child {
        self.inside(name)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "lab::helper", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap()
    }

    fn listen(&mut self, name: &str) {
        let mut child = self.helper(name, "listen");
        let told = told(&mut child, 1);
        self.listeners.push(child);
        assert_eq!(told, ["ready"], "{name} does not listen");
    }

    fn ask(&self, name: &str, role: &str) -> bool {
        let mut child = self.helper(name, role);
        let told = told(&mut child, 1);
        child.wait().unwrap();
        match told.first().map(String::as_str) {
            Some("yes") => true,
            Some("no") => false,
            other => panic!("{role} on {name} says {other:?}"),
        }
    }

    /// Whether a TCP connection is accepted and answered.
    pub(crate) fn tcp(&self, from: &str, to: Ipv4Addr, port: u16) -> bool {
        self.ask(from, &format!("tcp {to}:{port}"))
    }

    /// Whether a datagram is answered.
    pub(crate) fn udp(&self, from: &str, to: Ipv4Addr, port: u16) -> bool {
        self.ask(from, &format!("udp {to}:{port}"))
    }

    /// Opens a connection that asks anew for each line it is given.
    pub(crate) fn hold(&self, from: &str, to: Ipv4Addr, port: u16) -> Held {
        Held(self.helper(from, &format!("hold {to}:{port}")))
    }

    /// How many packets the first rule that contains `part` has counted.
    pub(crate) fn counted(&self, part: &str) -> u64 {
        let listed = self.nft("");
        let rule = listed.lines().find(|line| line.contains(part)).unwrap();
        let mut words = rule.split(' ').skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for listener in &mut self.listeners {
            listener.kill().unwrap();
            listener.wait().unwrap();
        }
        for name in ["a", "b", "c", "out", "node"] {
            let namespace = self.namespace(name);
            // It may not exist when the lab could not be built.
            let delete = Command::new("ip").args(["netns", "del", &namespace]).status();
            assert!(delete.is_ok());
        }
    }
}

/// A connection that stays open.
pub(crate) struct Held(Child);

impl Held {
    /// Whether it still carries a question and its answer.
    pub(crate) fn answers(&mut self) -> bool {
        self.0.stdin.as_mut().unwrap().write_all(b"again\n").unwrap();
        told(&mut self.0, 1) == ["yes"]
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn run(command: &mut Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} failed");
    written.unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The next lines a helper says; the test harness's own output is left out. Read byte by byte,
/// so that nothing is swallowed that a later call waits for.
fn told(child: &mut Child, count: usize) -> Vec<String> {
    let stdout = child.stdout.as_mut().unwrap();
    let mut lines = Vec::new();
    let mut line = Vec::new();
    let mut byte = [0];
    while lines.len() < count && stdout.read(&mut byte).unwrap() == 1 {
        if byte != *b"\n" {
            line.extend(byte);
            continue;
        }
        let text = String::from_utf8(std::mem::take(&mut line)).unwrap();
        if let Some((_, word)) = text.split_once("lab: ") {
            lines.push(word.to_owned());
        }
    }
    lines
}

fn tell(word: &str) {
    // Not `println!`: what this process says is its whole purpose, and it must leave at once.
    let mut out = std::io::stdout();
    out.write_all(format!("lab: {word}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The process inside a namespace.
#[test]
#[ignore = "started by the tests of packets, inside a namespace"]
fn helper() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let mut words = role.split(' ');
    let (role, to) = (words.next().unwrap(), words.next());
    let to = to.map(|text| text.parse::<SocketAddrV4>().unwrap());
    let yes_or_no = |yes| tell(if yes { "yes" } else { "no" });
    match (role, to) {
        ("listen", None) => listen(),
        ("tcp", Some(to)) => yes_or_no(connect(to).is_some_and(|mut s| echo(&mut s))),
        ("udp", Some(to)) => yes_or_no(datagram(to)),
        ("hold", Some(to)) => {
            let mut stream = connect(to).unwrap();
            for _ in BufReader::new(std::io::stdin()).lines() {
                yes_or_no(echo(&mut stream));
            }
        }
        other => panic!("{other:?} is no role"),
    }
}

fn listen() {
    for port in PORTS {
        let any = (Ipv4Addr::UNSPECIFIED, port);
        let (tcp, udp) = (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap());
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
        std::thread::spawn(move || {
            let mut byte = [0];
            while let Ok((_, from)) = udp.recv_from(&mut byte) {
                // The sender may be forged: then there is nobody to tell.
                drop(udp.send_to(&byte, from));
            }
        });
    }
    tell("ready");
    loop {
        std::thread::park();
    }
}

fn connect(to: SocketAddrV4) -> Option<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE).ok()
}

fn echo(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok()
}

fn datagram(to: SocketAddrV4) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    socket.send_to(b"x", to).is_ok() && socket.recv(&mut byte).is_ok()
}
