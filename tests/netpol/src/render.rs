//! The table as text for `nft -f`. Pure.
//!
//! How a packet goes through it:
//!
//! ```text
//! forward: forged or unknown address -> drop; established, or a pod to itself -> accept
//!          sender isolated -> its egress group  (a policy that allows goes on to `receive`)
//!          otherwise       -> receive
//! receive: receiver isolated -> its ingress group  (a policy that allows accepts)
//!          otherwise         -> accept
//! input:   as forward; the receiver is the node, which is never isolated
//! ```
//!
//! A group is a combination of policies that selects some pod: one jump for each, then drop.
//! An egress policy must not accept, since the receiver has a say as well, so it goes to
//! `receive`. Nothing is hooked into output: what the node sends always arrives.

use std::net::Ipv4Addr;

use crate::table::{Chain, Direction, Match, Ports, Table};

/// Name of the table in family `ip`.
pub const NAME: &str = "portcullis_netpol";

/// Kernel's limit for a comment is 128 bytes with its end.
const MAX_COMMENT: usize = 120;

/// A script that replaces whatever table is there by this one, in one transaction.
pub fn render(table: &Table) -> String {
    let pod_cidr = table.network.pod_cidr;
    let node_ip = table.network.node_ip;
    let mut out = Lines::new();
    out.removal();
    out.open(&format!("table ip {NAME}"));
    out.add("comment \"NetworkPolicy of a test cluster\"");

    out.set("pods", "ipv4_addr", "", addresses(table.pods.iter().copied()));
    let selves = table.isolated().into_iter().map(|a| format!("{a} . {a}"));
    out.set("selves", "ipv4_addr . ipv4_addr", "", selves);
    for (index, peers) in table.peers.iter().enumerate() {
        let flags = "flags interval";
        out.set(&format!("peers_{index}"), "ipv4_addr", flags, peers.addresses());
    }
    for (index, endpoints) in table.endpoints.iter().enumerate() {
        let key = "ipv4_addr . inet_proto . inet_service";
        let elements = endpoints
            .iter()
            .map(|(address, protocol, port)| format!("{address} . {} . {port}", protocol.keyword()));
        out.set(&format!("endpoints_{index}"), key, "", elements);
    }
    out.members("egress", &table.egress);
    out.members("ingress", &table.ingress);

    // A packet whose source is not routed back to where it came from has a forged one.
    let forged = format!("ip saddr {{ {pod_cidr}, {node_ip} }} fib saddr . iif oif missing counter drop");
    let unknown_sender = format!("ip saddr {pod_cidr} ip saddr != @pods counter drop");
    out.open("chain forward");
    out.add("type filter hook forward priority filter; policy accept;");
    out.add(&forged);
    out.add(&unknown_sender);
    out.add(&format!("ip daddr {pod_cidr} ip daddr != @pods counter drop"));
    out.add("ct state established,related accept");
    out.add("ip saddr . ip daddr @selves accept");
    out.add("ip saddr vmap @egress");
    out.add("goto receive");
    out.close();

    out.open("chain input");
    out.add("type filter hook input priority filter; policy accept;");
    out.add("iif lo accept");
    // Answers to the node: a probe may be the first that talks to a pod not known yet.
    out.add("ct state established,related ct direction reply accept");
    out.add(&forged);
    out.add(&unknown_sender);
    out.add("ct state established,related accept");
    out.add("ip saddr vmap @egress");
    out.close();

    out.open("chain receive");
    out.add("ip daddr vmap @ingress");
    out.add("accept");
    out.close();

    out.policies("egress", &table.egress, "ip daddr", "goto receive");
    out.policies("ingress", &table.ingress, "ip saddr", "accept");
    out.close();
    out.finish()
}

/// A script that takes the table away, whether it is there or not.
pub fn removal() -> String {
    let mut out = Lines::new();
    out.removal();
    out.finish()
}

fn addresses(list: impl Iterator<Item = Ipv4Addr>) -> impl Iterator<Item = String> {
    list.map(|address| address.to_string())
}

/// Lines of a script, indented by the blocks that are open.
struct Lines {
    text: String,
    depth: usize,
}

impl Lines {
    fn new() -> Self {
        let (text, depth) = (String::new(), 0);
        Self { text, depth }
    }

    fn add(&mut self, line: &str) {
        self.text.extend(std::iter::repeat_n('\t', self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn open(&mut self, head: &str) {
        self.add(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.add("}");
    }

    fn finish(self) -> String {
        self.text
    }

    fn removal(&mut self) {
        // The first line makes sure that there is something to delete.
        self.add(&format!("table ip {NAME}"));
        self.add(&format!("delete table ip {NAME}"));
    }

    fn set(&mut self, name: &str, key: &str, flags: &str, elements: impl Iterator<Item = String>) {
        self.open(&format!("set {name}"));
        self.add(&format!("type {key}"));
        if !flags.is_empty() {
            self.add(flags);
        }
        self.elements(elements);
        self.close();
    }

    fn elements(&mut self, elements: impl Iterator<Item = String>) {
        let list: Vec<_> = elements.collect();
        // An empty list is a syntax error; leaving it out makes an empty set.
        if !list.is_empty() {
            self.add(&format!("elements = {{ {} }}", list.join(", ")));
        }
    }

    fn members(&mut self, name: &str, direction: &Direction) {
        self.open(&format!("map {name}"));
        self.add("type ipv4_addr : verdict");
        let members = direction.members.iter();
        self.elements(members.map(|(address, group)| format!("{address} : goto {name}_{group}")));
        self.close();
    }

    fn policies(&mut self, name: &str, direction: &Direction, peer: &str, allowed: &str) {
        for (index, chain) in direction.policies.iter().enumerate() {
            self.policy(&format!("{name}_policy_{index}"), chain, peer, allowed);
        }
        for (index, policies) in direction.groups.iter().enumerate() {
            self.open(&format!("chain {name}_{index}"));
            for policy in policies {
                self.add(&format!("jump {name}_policy_{policy}"));
            }
            self.add("counter drop");
            self.close();
        }
    }

    fn policy(&mut self, name: &str, chain: &Chain, peer: &str, allowed: &str) {
        self.open(&format!("chain {name}"));
        self.add(&format!("comment \"{}\"", comment(&chain.label)));
        for one in &chain.matches {
            self.add(&format!("{}{allowed}", condition(one, peer)));
        }
        self.close();
    }
}

/// The condition with a blank behind it, or nothing.
fn condition(one: &Match, peer: &str) -> String {
    let mut parts = Vec::new();
    if let Some(set) = one.peers {
        parts.push(format!("{peer} @peers_{set} "));
    }
    match &one.ports {
        Ports::Any => {}
        Ports::All(protocol) => parts.push(format!("meta l4proto {} ", protocol.keyword())),
        Ports::Numbers(protocol, ranges) => {
            let list: Vec<_> = ranges.numbers().collect();
            let keyword = protocol.keyword();
            parts.push(format!("{keyword} dport {{ {} }} ", list.join(", ")));
        }
        Ports::Endpoints(set) => {
            parts.push(format!("ip daddr . meta l4proto . th dport @endpoints_{set} "));
        }
    }
    parts.concat()
}

/// Text that can stand between quotes. Names in Kubernetes have no other characters, but what
/// they may hold is not for this program to trust.
fn comment(label: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "/-._".contains(c) {
            c
        } else {
            '?'
        }
    };
    label.chars().map(safe).take(MAX_COMMENT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_cannot_end_its_quotes() {
        assert_eq!(comment("ns/a\"; flush ruleset\n"), "ns/a???flush?ruleset?");
        assert_eq!(comment(&"x".repeat(400)).len(), MAX_COMMENT);
    }

    #[test]
    fn removal_works_without_a_table() {
        assert_eq!(
            removal(),
            "table ip portcullis_netpol\ndelete table ip portcullis_netpol\n"
        );
    }
}
