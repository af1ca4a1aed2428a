//! `portcullis credential`: mints what a client presents. The credential is shown once and stored nowhere; the Secret
//! holds its digest, which verifies it and from which nobody can make it.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context as _;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use clap::Args;
use portcullis_config::api_key;
use serde_json::json;

use crate::api::names::{DataKey, DnsLabel, DnsSubdomain};

/// Mints an API key for one client of a gateway (McpGateway spec.auth.apiKeys).
///
/// The Secret manifest with the key's digest goes to standard output, the key itself to standard error, where a pipe does
/// not take it:
///
///   portcullis credential api-key ci-bot -n agents | kubectl apply --server-side --field-manager=ci-bot -f -
///
/// With a field manager of its own, each client's entry is applied without touching the others in the same Secret. To
/// replace a key without a gap, write the old and the new digest on two lines of the entry, and remove the old one when
/// the client has changed over. A running gateway takes the Secret's change within about a minute, or within seconds after
/// kubectl annotate mcpgateways.portcullis.dev NAME portcullis.dev/refresh="$(date)" --overwrite
#[derive(Debug, Args)]
pub struct ApiKeyArgs {
    /// Name of the client: the Secret's entry, and the subject by which rules and audit records know it.
    #[arg(value_name = "NAME")]
    pub client: DataKey,
    /// Name of the Secret, as in spec.auth.apiKeys.secretName.
    #[arg(long, value_name = "NAME", default_value = "agent-keys")]
    pub secret_name: DnsSubdomain,
    /// Namespace of the gateway. Without it the manifest names none.
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<DnsLabel>,
    /// Write the key to this new file, readable by you alone, instead of standard error.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// Runs the command: the manifest goes to `out`, the key to `err` or to a file.
pub fn api_key(args: &ApiKeyArgs, out: &mut impl Write, err: &mut impl Write) -> anyhow::Result<()> {
    let mut random = [0; api_key::RANDOM_BYTES];
    SystemRandom::new()
        .fill(&mut random)
        .ok()
        .context("the system gives no randomness")?;
    let key = api_key::mint(&random);
    // Where the key cannot be handed over, no digest must get into use either.
    match &args.key_file {
        Some(path) => {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("{} cannot be made", path.display()))?;
            writeln!(file, "{key}")?;
            file.sync_all()?;
            writeln!(err, "The key of {} is in {}.", args.client, path.display())?;
        }
        None => writeln!(
            err,
            "The key of {}, shown this once (send it as Authorization: Bearer):\n{key}",
            args.client
        )?,
    }
    out.write_all(manifest(args, &key)?.as_bytes())?;
    Ok(())
}

fn manifest(args: &ApiKeyArgs, key: &str) -> anyhow::Result<String> {
    let mut metadata = json!({"name": args.secret_name});
    if let Some(namespace) = &args.namespace {
        metadata["namespace"] = json!(namespace);
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": {args.client.as_str(): format!("{}\n", api_key::digest_line(key))},
    });
    Ok(format!("---\n{}", serde_yaml::to_string(&secret)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;

    fn args(key_file: Option<PathBuf>) -> ApiKeyArgs {
        ApiKeyArgs {
            client: "ci-bot".parse().unwrap(),
            secret_name: "agent-keys".parse().unwrap(),
            namespace: Some("agents".parse().unwrap()),
            key_file,
        }
    }

    #[test]
    fn the_manifest_verifies_the_key_and_does_not_hold_it() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        api_key(&args(None), &mut out, &mut err).unwrap();
        let shown = String::from_utf8(err).unwrap();
        let key = shown.lines().last().unwrap();
        assert!(api_key::is_well_formed(key), "{shown}");

        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(key));
        let secret: Secret = serde_yaml::from_str(text.trim_start_matches("---\n")).unwrap();
        assert_eq!(secret.metadata.namespace.as_deref(), Some("agents"));
        let line = &secret.string_data.unwrap()["ci-bot"];
        assert_eq!(api_key::parse_line(line).unwrap(), Some(api_key::digest(key)));
    }

    #[test]
    fn a_key_file_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("portcullis-key-{}", std::process::id()));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        api_key(&args(Some(path.clone())), &mut out, &mut err).unwrap();
        let key = std::fs::read_to_string(&path).unwrap();
        assert!(api_key::is_well_formed(key.trim_end()));
        assert!(!String::from_utf8(err.clone()).unwrap().contains(key.trim_end()));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );

        out.clear();
        assert!(api_key(&args(Some(path.clone())), &mut out, &mut err).is_err());
        assert!(out.is_empty(), "no digest without a key");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), key);
        std::fs::remove_file(&path).unwrap();
    }
}
