//! The checker: what is wrong with a pod.

use std::collections::BTreeSet;

use portcullis_operator::settings::Settings;
use serde_json::{Value, json};

/// Everything a pod of ours may say. A field that is not here was never thought about.
const POD_FIELDS: [&str; 19] = [
    "affinity",
    "automountServiceAccountToken",
    "containers",
    "dnsConfig",
    "dnsPolicy",
    "enableServiceLinks",
    "hostUsers",
    "imagePullSecrets",
    "initContainers",
    "nodeSelector",
    "priorityClassName",
    "restartPolicy",
    "securityContext",
    "serviceAccountName",
    "terminationGracePeriodSeconds",
    "tolerations",
    "topologySpreadConstraints",
    "volumes",
    "runtimeClassName",
];

/// Everything a container of ours may say. Not `command` (our images and the spec's have entry points), `envFrom`,
/// `lifecycle`, `stdin`, `tty`, `volumeDevices`.
const CONTAINER_FIELDS: [&str; 13] = [
    "args",
    "env",
    "image",
    "imagePullPolicy",
    "livenessProbe",
    "name",
    "ports",
    "readinessProbe",
    "resources",
    "securityContext",
    "startupProbe",
    "terminationMessagePolicy",
    "volumeMounts",
];

/// What is wrong, in words.
#[derive(Default)]
struct Findings(Vec<String>);

impl Findings {
    fn check(&mut self, holds: bool, what: &str) {
        if !holds {
            self.0.push(what.to_owned());
        }
    }

    fn within(&mut self, place: &str, inner: Vec<String>) {
        self.0
            .extend(inner.into_iter().map(|what| format!("{place}: {what}")));
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What is wrong with a Deployment's pods. Nothing, or the test fails.
pub(crate) fn findings(deployment: &Value, settings: &Settings) -> Vec<String> {
    let mut found = Findings::default();
    let pod = &deployment["spec"]["template"]["spec"];
    let user = pod_findings(&mut found, deployment, settings);
    for container in [list(&pod["initContainers"]), list(&pod["containers"])].concat() {
        found.within(
            &format!("container {}", container["name"]),
            container_findings(&container, user),
        );
    }
    if deployment["metadata"]["labels"]["app.kubernetes.io/component"] == "server" {
        server_findings(&mut found, pod, settings);
    } else {
        gateway_findings(&mut found, deployment);
    }
    volumes_and_mounts(&mut found, pod);
    found.0
}

/// What holds for each pod. Returns the user it runs as.
fn pod_findings(found: &mut Findings, deployment: &Value, settings: &Settings) -> Option<i64> {
    let pod = &deployment["spec"]["template"]["spec"];
    found.check(
        pod["automountServiceAccountToken"] == false,
        "automountServiceAccountToken",
    );
    found.check(pod["enableServiceLinks"] == false, "enableServiceLinks");
    found.check(
        pod["serviceAccountName"] == deployment["metadata"]["name"],
        "serviceAccountName",
    );
    found.check(
        (pod["hostUsers"] == false) == settings.user_namespaces,
        "hostUsers",
    );
    for field in pod.as_object().unwrap().keys() {
        found.check(
            POD_FIELDS.contains(&field.as_str()),
            &format!("unexpected pod field {field}"),
        );
    }
    let context = &pod["securityContext"];
    found.check(context["runAsNonRoot"] == true, "pod runAsNonRoot");
    found.check(
        context["seccompProfile"] == json!({"type": "RuntimeDefault"}),
        "pod seccompProfile",
    );
    let ids = ["runAsUser", "runAsGroup", "fsGroup"].map(|field| context[field].as_i64());
    let from_platform = ids.iter().all(Option::is_none);
    let fixed = ids.iter().all(|id| *id == ids[0] && id.is_some_and(|id| id > 0));
    found.check(from_platform || fixed, "runAsUser, runAsGroup, fsGroup");
    found.check(list(&pod["containers"]).len() == 1, "one container");
    for spread in list(&pod["topologySpreadConstraints"]) {
        found.check(
            spread["whenUnsatisfiable"] == "ScheduleAnyway",
            "spreading is never a condition",
        );
    }
    ids[0]
}

/// What holds for a server's pods besides.
fn server_findings(found: &mut Findings, pod: &Value, settings: &Settings) {
    found.check(pod["dnsPolicy"] == "None", "dnsPolicy");
    found.check(
        pod["dnsConfig"] == json!({"nameservers": ["127.0.0.1"]}),
        "dnsConfig",
    );
    let proof = settings
        .fence_probe
        .map(|target| json!(["probe", "connect", target.to_string(), "--expect", "blocked"]));
    found.check(
        pod["initContainers"][0]["args"] == json!(proof),
        "the proof of the fence",
    );
    let proof_image = pod["initContainers"][0]["image"] == settings.gateway_image.as_str();
    found.check(proof_image || proof.is_none(), "the proof is ours");
}

/// What holds for a gateway's pods besides.
fn gateway_findings(found: &mut Findings, deployment: &Value) {
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    found.check(pod["initContainers"].is_null(), "no init container");
    let args = json!(["serve", "--config", "/etc/portcullis/config/gateway.yaml"]);
    found.check(container["args"] == args, "args");
    let pod_ip = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}});
    let env = json!([{"name": "POD_IP", "valueFrom": pod_ip}]);
    found.check(container["env"] == env, "POD_IP is the only variable");
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        found.check(container[probe]["httpGet"]["port"] == "metrics", probe);
    }
    found.check(
        deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0,
        "maxUnavailable",
    );
}

fn volumes_and_mounts(found: &mut Findings, pod: &Value) {
    let volumes = list(&pod["volumes"]);
    for volume in volumes {
        found.within(&format!("volume {}", volume["name"]), volume_findings(volume));
    }
    let tmp = volumes.iter().find(|volume| volume["name"] == "tmp");
    found.check(
        tmp.is_some_and(|tmp| tmp["emptyDir"]["medium"] == "Memory"),
        "/tmp in memory",
    );
    let containers = [list(&pod["initContainers"]), list(&pod["containers"])].concat();
    for mount in containers
        .iter()
        .flat_map(|container| list(&container["volumeMounts"]))
    {
        let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
        let writable = volume.is_some_and(|volume| {
            let claim = &volume["persistentVolumeClaim"];
            volume["emptyDir"].is_object() || (claim.is_object() && claim["readOnly"] != true)
        });
        found.check(
            (mount["readOnly"] == true) != writable,
            &format!("mount {}", mount["name"]),
        );
        let fields: BTreeSet<&str> = mount.as_object().unwrap().keys().map(String::as_str).collect();
        let known = BTreeSet::from(["name", "mountPath", "readOnly"]);
        found.check(fields.is_subset(&known), "mount with more than a path");
    }
}

fn container_findings(container: &Value, user: Option<i64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    for field in container.as_object().unwrap().keys() {
        check(
            CONTAINER_FIELDS.contains(&field.as_str()),
            &format!("unexpected field {field}"),
        );
    }
    let context = &container["securityContext"];
    check(
        context["allowPrivilegeEscalation"] == false,
        "allowPrivilegeEscalation",
    );
    check(context["privileged"] == false, "privileged");
    check(
        context["readOnlyRootFilesystem"] == true,
        "readOnlyRootFilesystem",
    );
    check(context["runAsNonRoot"] == true, "runAsNonRoot");
    check(
        context["capabilities"] == json!({"drop": ["ALL"]}),
        "capabilities",
    );
    check(
        context["seccompProfile"] == json!({"type": "RuntimeDefault"}),
        "seccompProfile",
    );
    check(
        context["runAsUser"].as_i64() == user && context["runAsGroup"].as_i64() == user,
        "user",
    );
    let known = [
        "allowPrivilegeEscalation",
        "privileged",
        "readOnlyRootFilesystem",
        "runAsNonRoot",
        "capabilities",
        "seccompProfile",
        "runAsUser",
        "runAsGroup",
    ];
    for field in context.as_object().into_iter().flatten().map(|(field, _)| field) {
        check(
            known.contains(&field.as_str()),
            &format!("unexpected securityContext.{field}"),
        );
    }
    for kind in ["requests", "limits"] {
        for resource in ["cpu", "memory", "ephemeral-storage"] {
            check(
                container["resources"][kind][resource].is_string(),
                &format!("resources.{kind}.{resource}"),
            );
        }
    }
    check(
        container["image"].as_str().is_some_and(|image| !image.is_empty()),
        "image",
    );
    check(container["imagePullPolicy"] == "IfNotPresent", "imagePullPolicy");
    for variable in container["env"].as_array().into_iter().flatten() {
        let from = &variable["valueFrom"];
        check(
            from.is_null() || from["fieldRef"].is_object(),
            "a variable out of a Secret or a ConfigMap",
        );
    }
    for port in container["ports"].as_array().into_iter().flatten() {
        check(
            port["hostPort"].is_null() && port["hostIP"].is_null(),
            "a port of the node",
        );
        check(
            port["containerPort"].as_u64().is_some_and(|port| port >= 1024),
            "a port that takes a capability",
        );
    }
    found
}

fn volume_findings(volume: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |holds: bool, what: &str| {
        if !holds {
            found.push(what.to_owned());
        }
    };
    let kinds: Vec<&str> = volume
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .filter(|key| *key != "name")
        .collect();
    let [kind] = kinds[..] else {
        return vec![format!("kinds {kinds:?}")];
    };
    let source = &volume[kind];
    match kind {
        "emptyDir" => check(source["sizeLimit"].is_string(), "no bound"),
        "secret" | "configMap" => check(source["defaultMode"] == 0o440, "mode"),
        "projected" => {
            check(source["defaultMode"] == 0o440, "mode");
            for one in source["sources"].as_array().into_iter().flatten() {
                for kind in one.as_object().unwrap().keys() {
                    check(
                        matches!(kind.as_str(), "secret" | "configMap"),
                        &format!("source {kind}"),
                    );
                }
                for item in ["secret", "configMap"]
                    .iter()
                    .flat_map(|kind| one[kind]["items"].as_array().into_iter().flatten())
                {
                    check(item["mode"].is_null(), "a mode of its own");
                }
            }
        }
        "persistentVolumeClaim" => {}
        other => check(false, &format!("kind {other}")),
    }
    found
}
