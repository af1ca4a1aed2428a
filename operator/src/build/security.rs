//! The hardening every pod gets, whoever's program runs in it. There is no way to ask for less: what differs is only
//! who picks the user.

use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SeccompProfile, SecurityContext};

/// User, group and volume group of our own programs.
pub const NOBODY: i64 = 65_532;

/// Who picks the user a pod runs as. Never root, either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// This user, with the group and the volume group of the same number.
    Id(i64),
    /// The platform, from a range it assigns to the namespace (OpenShift).
    Platform,
}

impl RunAs {
    const fn id(self) -> Option<i64> {
        match self {
            Self::Id(id) => Some(id),
            Self::Platform => None,
        }
    }
}

/// What holds for a whole pod.
pub fn pod(run_as: RunAs) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: run_as.id(),
        run_as_group: run_as.id(),
        fs_group: run_as.id(),
        // A large claim is not walked at each start.
        fs_group_change_policy: run_as.id().map(|_| "OnRootMismatch".to_owned()),
        seccomp_profile: Some(seccomp()),
        ..PodSecurityContext::default()
    }
}

/// What holds for each container, said again there so that no reader of a single container has to look elsewhere.
pub fn container(run_as: RunAs) -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_non_root: Some(true),
        run_as_user: run_as.id(),
        run_as_group: run_as.id(),
        capabilities: Some(Capabilities {
            add: None,
            drop: Some(vec!["ALL".to_owned()]),
        }),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

fn seccomp() -> SeccompProfile {
    SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        localhost_profile: None,
    }
}
