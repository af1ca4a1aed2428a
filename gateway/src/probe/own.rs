//! `probe self`: the controls of the container this process runs in.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use crate::args::ProbeSelf;
use crate::probe::Check;

/// Where Kubernetes mounts a ServiceAccount's token.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Variables that are expected: ours, and those that the container runtime sets itself.
const EXPECTED: [&str; 5] = ["PORTCULLIS_CONFIG", "POD_IP", "PATH", "HOSTNAME", "HOME"];

/// The kubelet sets these for every pod, with or without service links.
const KUBELET: [&str; 6] = [
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "KUBERNETES_SERVICE_PORT_HTTPS",
    "KUBERNETES_PORT",
    "KUBERNETES_PORT_443_TCP",
    "KUBERNETES_PORT_443_TCP_",
];

/// Looks at everything.
pub(crate) fn checks(args: &ProbeSelf) -> Vec<Check> {
    let mut checks = match fs::read_to_string("/proc/self/status") {
        Ok(status) => of_status(&status),
        Err(err) => vec![Check {
            name: "status",
            ok: false,
            found: format!("/proc/self/status cannot be read: {err}"),
        }],
    };
    checks.push(read_only_root());
    checks.push(no_token(Path::new(TOKEN)));
    checks.push(environment(
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()),
        &args.allow_env,
    ));
    checks
}

/// The controls that the kernel states in `/proc/self/status`.
fn of_status(status: &str) -> Vec<Check> {
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    let check = |name: &'static str, label: &str, holds: &dyn Fn(&str) -> bool| {
        let value = field(label);
        Check {
            name,
            ok: value.is_some_and(holds),
            found: format!("{label}: {}", value.unwrap_or("absent")),
        }
    };
    // Real, effective, saved and file-system ids.
    let not_root = |ids: &str| {
        let mut ids = ids.split_whitespace().peekable();
        ids.peek().is_some() && ids.all(|id| id.parse::<u32>().is_ok_and(|id| id != 0))
    };
    let none = |mask: &str| u64::from_str_radix(mask, 16) == Ok(0);
    vec![
        check("user", "Uid", &not_root),
        check("group", "Gid", &not_root),
        check("no effective capabilities", "CapEff", &none),
        check("no permitted capabilities", "CapPrm", &none),
        check("no bounding capabilities", "CapBnd", &none),
        check("no new privileges", "NoNewPrivs", &|value| value == "1"),
        check("seccomp filter", "Seccomp", &|value| value == "2"),
    ]
}

/// A write to the root directory must fail because of the file system, not only because of whose it is.
fn read_only_root() -> Check {
    let path = Path::new("/.portcullis-probe");
    let (ok, found) = match fs::File::create_new(path) {
        Ok(_) => {
            let removed = fs::remove_file(path).is_ok();
            (false, format!("a file could be made (removed again: {removed})"))
        }
        Err(err) if err.kind() == ErrorKind::ReadOnlyFilesystem => (true, "read-only".into()),
        // Another reason hides the answer: the mount table has it.
        Err(err) => match fs::read_to_string("/proc/self/mounts")
            .ok()
            .as_deref()
            .and_then(root_is_read_only)
        {
            Some(true) => (true, format!("mounted read-only ({err})")),
            Some(false) => (false, format!("mounted writable ({err})")),
            None => (false, format!("unknown ({err})")),
        },
    };
    Check {
        name: "read-only root",
        ok,
        found,
    }
}

fn root_is_read_only(mounts: &str) -> Option<bool> {
    // Later mounts cover earlier ones.
    let line = mounts
        .lines()
        .rfind(|line| line.split_whitespace().nth(1) == Some("/"))?;
    let options = line.split_whitespace().nth(3)?;
    Some(options.split(',').any(|option| option == "ro"))
}

fn no_token(path: &Path) -> Check {
    let (ok, found) = match fs::symlink_metadata(path) {
        Err(err) if matches!(err.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            (true, "absent".to_owned())
        }
        Err(err) => (false, format!("unknown: {err}")),
        Ok(_) => (false, "mounted".to_owned()),
    };
    Check {
        name: "no ServiceAccount token",
        ok,
        found,
    }
}

fn environment(names: impl Iterator<Item = String>, allowed: &[String]) -> Check {
    let expected = |name: &str| {
        EXPECTED.contains(&name)
            || allowed.iter().any(|allowed| allowed == name)
            || KUBELET
                .iter()
                .any(|kubelet| name == *kubelet || (kubelet.ends_with('_') && name.starts_with(kubelet)))
    };
    let mut strangers: Vec<String> = names.filter(|name| !expected(name)).collect();
    strangers.sort();
    Check {
        name: "environment",
        ok: strangers.is_empty(),
        // Names only: a value may be what should not be there.
        found: if strangers.is_empty() {
            "as expected".into()
        } else {
            format!("unexpected: {}", strangers.join(", "))
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HARDENED: &str = "Name:\tportcullis\nUid:\t65532\t65532\t65532\t65532\nGid:\t65532\t65532\t65532\t65532\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_hardened_container_passes() {
        for check in of_status(HARDENED) {
            assert!(check.ok, "{check:?}");
        }
    }

    #[rstest]
    #[case("Uid:\t65532\t65532\t65532\t65532", "Uid:\t65532\t0\t65532\t65532", "user")]
    #[case("Gid:\t65532\t65532\t65532\t65532", "Gid:\t0\t0\t0\t0", "group")]
    #[case(
        "CapEff:\t0000000000000000",
        "CapEff:\t00000000a80425fb",
        "no effective capabilities"
    )]
    #[case(
        "CapPrm:\t0000000000000000",
        "CapPrm:\t0000000000000001",
        "no permitted capabilities"
    )]
    #[case(
        "CapBnd:\t0000000000000000",
        "CapBnd:\t000001ffffffffff",
        "no bounding capabilities"
    )]
    #[case("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no new privileges")]
    #[case("Seccomp:\t2", "Seccomp:\t0", "seccomp filter")]
    #[case("Seccomp:\t2\n", "", "seccomp filter")]
    #[case("Uid:\t65532\t65532\t65532\t65532", "Uid:", "user")]
    fn each_weakening_fails_its_check_only(#[case] from: &str, #[case] to: &str, #[case] name: &str) {
        let weakened = HARDENED.replace(from, to);
        assert_ne!(weakened, HARDENED);
        let failed: Vec<_> = of_status(&weakened)
            .into_iter()
            .filter(|check| !check.ok)
            .collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].name, name);
    }

    #[test]
    fn mounts_tell_whether_the_root_can_be_written() {
        assert_eq!(
            root_is_read_only("overlay / overlay ro,relatime 0 0\n"),
            Some(true)
        );
        assert_eq!(
            root_is_read_only("overlay / overlay rw,relatime,errors=ro 0 0\n"),
            Some(false)
        );
        assert_eq!(root_is_read_only("a / b ro 0 0\nc / d rw 0 0\n"), Some(false));
        assert_eq!(root_is_read_only("tmpfs /tmp tmpfs ro 0 0\n"), None);
    }

    #[test]
    fn a_token_is_found_even_as_a_dangling_link() {
        let missing = Path::new("/nonexistent/portcullis/token");
        assert!(no_token(missing).ok);
        assert!(!no_token(Path::new("/proc/self/exe")).ok);
    }

    #[test]
    fn only_names_that_are_known_are_expected() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let known = names(&[
            "PATH",
            "KUBERNETES_SERVICE_HOST",
            "KUBERNETES_PORT_443_TCP_ADDR",
            "EXTRA",
        ]);
        assert!(environment(known.into_iter(), &names(&["EXTRA"])).ok);
        let check = environment(names(&["MY_SVC_PORT", "AWS_SECRET", "PATH"]).into_iter(), &[]);
        assert!(!check.ok);
        assert_eq!(check.found, "unexpected: AWS_SECRET, MY_SVC_PORT");
    }
}
