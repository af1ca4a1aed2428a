//! The objects, their versions, who owns which field, and what happened to them in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fields::{self, Path};

/// Where an object is: plural and group of its kind, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// `PLURAL` or `PLURAL.GROUP`.
    pub resource: String,
    /// Its namespace; empty for what has none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Place {
    pub fn new(resource: &str, namespace: &str, name: &str) -> Self {
        Self {
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// Why a request is refused: HTTP code, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub u16, pub &'static str, pub String);

pub fn conflict(message: impl Into<String>) -> Refusal {
    Refusal(409, "Conflict", message.into())
}

pub fn not_found(place: &Place) -> Refusal {
    Refusal(
        404,
        "NotFound",
        format!("{} {:?} not found", place.resource, place.name),
    )
}

/// One change, as watches tell it.
#[derive(Clone, Debug)]
pub struct Event {
    pub version: u64,
    pub place: Place,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

/// Fields by manager.
type Owners = BTreeMap<String, BTreeSet<Path>>;

#[derive(Default)]
pub struct Store {
    objects: BTreeMap<Place, Value>,
    owners: BTreeMap<Place, Owners>,
    pub version: u64,
    uids: u64,
    pub events: Vec<Event>,
}

/// Preconditions of a deletion.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub version: Option<String>,
}

impl Store {
    pub fn get(&self, place: &Place) -> Option<&Value> {
        self.objects.get(place)
    }

    pub fn of_resource<'a>(&'a self, resource: &'a str) -> impl Iterator<Item = (&'a Place, &'a Value)> {
        self.objects
            .iter()
            .filter(move |(place, _)| place.resource == resource)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Place, &Value)> {
        self.objects.iter()
    }

    /// `POST`.
    pub fn create(&mut self, place: &Place, manager: &str, mut object: Value) -> Result<Value, Refusal> {
        if self.objects.contains_key(place) {
            return Err(Refusal(
                409,
                "AlreadyExists",
                format!("{} {:?} already exists", place.resource, place.name),
            ));
        }
        if has_status(&place.resource) {
            fields::remove(&mut object, &path(&["status"]));
        }
        let owned = fields::leaves(&object);
        self.owners.insert(
            place.clone(),
            Owners::from([(format!("Update {manager}"), owned)]),
        );
        self.put_new(place, object)
    }

    fn put_new(&mut self, place: &Place, mut object: Value) -> Result<Value, Refusal> {
        one_controller(&object)?;
        self.uids += 1;
        let metadata = metadata(&mut object);
        metadata.insert(
            "uid".into(),
            json!(format!("00000000-0000-0000-0000-{:012}", self.uids)),
        );
        metadata.insert("name".into(), json!(place.name));
        if !place.namespace.is_empty() {
            metadata.insert("namespace".into(), json!(place.namespace));
        }
        // One second apart, as an API server's clock would have it.
        let created =
            jiff::Timestamp::from_second(1_800_000_000 + i64::try_from(self.uids).unwrap()).unwrap();
        metadata.insert("creationTimestamp".into(), json!(created.to_string()));
        metadata.insert("generation".into(), json!(1));
        default(&place.resource, &mut object);
        Ok(self.commit(place, None, object))
    }

    /// `PUT`, with the version as precondition.
    pub fn replace(&mut self, place: &Place, mut object: Value) -> Result<Value, Refusal> {
        let old = self.objects.get(place).cloned().ok_or_else(|| not_found(place))?;
        let wanted = object["metadata"]["resourceVersion"].clone();
        if !wanted.is_null() && wanted != old["metadata"]["resourceVersion"] {
            return Err(conflict("the object has been modified"));
        }
        keep_identity(&old, &mut object);
        Ok(self.change(place, old, object))
    }

    /// Server-side apply, forced.
    pub fn apply(
        &mut self,
        place: &Place,
        sub: Option<&str>,
        manager: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let uid = &patch["metadata"]["uid"];
        let Some(old) = self.objects.get(place).cloned() else {
            if !uid.is_null() || sub.is_some() {
                return Err(if sub.is_some() {
                    not_found(place)
                } else {
                    conflict("uid given, and no such object")
                });
            }
            let mut object = patch.clone();
            fields::remove(&mut object, &path(&["status"]));
            let owned = fields::leaves(&object);
            self.owners
                .insert(place.clone(), Owners::from([(format!("Apply {manager}"), owned)]));
            return self.put_new(place, object);
        };
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return Err(conflict("uid mismatch"));
        }
        let in_scope = |path: &Path| match sub {
            Some("status") => path.first().is_some_and(|first| first == "status"),
            _ => path
                .first()
                .is_none_or(|first| first != "status" || !has_status(&place.resource)),
        };
        let wanted: BTreeSet<Path> = fields::leaves(patch).into_iter().filter(in_scope).collect();
        let owners = self.owners.entry(place.clone()).or_default();
        let me = format!(
            "Apply {manager}{}",
            sub.map(|sub| format!(" {sub}")).unwrap_or_default()
        );
        let mine = owners.remove(&me).unwrap_or_default();
        let mut object = old.clone();
        for gone in mine.difference(&wanted) {
            let shared = owners.values().any(|theirs| theirs.contains(gone));
            if !shared {
                fields::remove(&mut object, gone);
            }
        }
        for path in &wanted {
            let value = fields::get(patch, path).cloned().unwrap_or(Value::Null);
            for theirs in owners.values_mut() {
                if fields::get(&object, path) != Some(&value) {
                    theirs.remove(path);
                }
            }
            fields::set(&mut object, path, value);
        }
        owners.insert(me, wanted);
        keep_identity(&old, &mut object);
        default(&place.resource, &mut object);
        one_controller(&object)?;
        Ok(self.change(place, old, object))
    }

    /// JSON merge patch, as `manager`.
    pub fn merge(
        &mut self,
        place: &Place,
        sub: Option<&str>,
        manager: &str,
        patch: &Value,
    ) -> Result<Value, Refusal> {
        let old = self.objects.get(place).cloned().ok_or_else(|| not_found(place))?;
        let uid = &patch["metadata"]["uid"];
        if !uid.is_null() && *uid != old["metadata"]["uid"] {
            return Err(conflict("uid mismatch"));
        }
        let version = &patch["metadata"]["resourceVersion"];
        if !version.is_null() && *version != old["metadata"]["resourceVersion"] {
            return Err(conflict("the object has been modified"));
        }
        let mut object = old.clone();
        fields::merge(&mut object, patch);
        match sub {
            // The status subresource of a pod takes annotations, and leaves the spec as it was.
            Some(_) => object["spec"] = old["spec"].clone(),
            None if has_status(&place.resource) => object["status"] = old["status"].clone(),
            None => {}
        }
        for part in ["spec", "status"] {
            if object[part].is_null() {
                fields::remove(&mut object, &path(&[part]));
            }
        }
        let touched: BTreeSet<Path> = fields::leaves(patch);
        let owners = self.owners.entry(place.clone()).or_default();
        for theirs in owners.values_mut() {
            theirs.retain(|path| {
                !touched.contains(path) || fields::get(&object, path) == fields::get(&old, path)
            });
        }
        owners
            .entry(format!("Update {manager}"))
            .or_default()
            .extend(touched);
        keep_identity(&old, &mut object);
        one_controller(&object)?;
        Ok(self.change(place, old, object))
    }

    /// `DELETE`; garbage collection follows at once.
    pub fn delete(&mut self, place: &Place, preconditions: &Preconditions) -> Result<Value, Refusal> {
        let old = self.objects.get(place).cloned().ok_or_else(|| not_found(place))?;
        let differs = |wanted: &Option<String>, field: &str| {
            wanted
                .as_ref()
                .is_some_and(|wanted| old["metadata"][field] != json!(wanted))
        };
        if differs(&preconditions.uid, "uid") || differs(&preconditions.version, "resourceVersion") {
            return Err(conflict("the precondition does not hold"));
        }
        if let Some(ending) = self.ends_gracefully(place, &old) {
            return Ok(ending);
        }
        self.remove(place, old)
    }

    fn remove(&mut self, place: &Place, old: Value) -> Result<Value, Refusal> {
        self.objects.remove(place);
        self.owners.remove(place);
        self.version += 1;
        self.events.push(Event {
            version: self.version,
            place: place.clone(),
            old: Some(old.clone()),
            new: None,
        });
        self.collect_garbage(&old["metadata"]["uid"])?;
        Ok(old)
    }

    /// What the object with this UID owned: it goes when no other owner is left, and else loses the reference.
    fn collect_garbage(&mut self, uid: &Value) -> Result<(), Refusal> {
        let owned: Vec<Place> = self
            .objects
            .iter()
            .filter(|(_, object)| owners_of(object).iter().any(|owner| owner["uid"] == *uid))
            .map(|(place, _)| place.clone())
            .collect();
        for place in owned {
            // An earlier one of these may have taken it along.
            let Some(old) = self.objects.get(&place).cloned() else {
                continue;
            };
            let alive: Vec<Value> = owners_of(&old)
                .into_iter()
                .filter(|owner| {
                    self.objects
                        .values()
                        .any(|object| object["metadata"]["uid"] == owner["uid"])
                })
                .collect();
            if alive.is_empty() {
                self.delete(&place, &Preconditions::default())?;
            } else {
                let mut object = old.clone();
                object["metadata"]["ownerReferences"] = Value::Array(alive);
                self.change(&place, old, object);
            }
        }
        Ok(())
    }

    /// Whether a deletion only begins: a pod is given time to end.
    fn ends_gracefully(&mut self, place: &Place, old: &Value) -> Option<Value> {
        if place.resource != "pods" {
            return None;
        }
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Some(old.clone());
        }
        let mut object = old.clone();
        metadata(&mut object).insert("deletionTimestamp".into(), json!("2027-01-01T00:00:00Z"));
        Some(self.change(place, old.clone(), object))
    }

    /// What the kubelet does when a pod has ended.
    pub fn remove_pod(&mut self, place: &Place) -> Result<Value, Refusal> {
        let old = self.objects.get(place).cloned().ok_or_else(|| not_found(place))?;
        self.remove(place, old)
    }

    fn change(&mut self, place: &Place, old: Value, mut object: Value) -> Value {
        if object == old {
            return old;
        }
        if object["spec"] != old["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(1) + 1;
            metadata(&mut object).insert("generation".into(), json!(generation));
        }
        self.commit(place, Some(old), object)
    }

    fn commit(&mut self, place: &Place, old: Option<Value>, mut object: Value) -> Value {
        self.version += 1;
        metadata(&mut object).insert("resourceVersion".into(), json!(self.version.to_string()));
        self.objects.insert(place.clone(), object.clone());
        self.events.push(Event {
            version: self.version,
            place: place.clone(),
            old,
            new: Some(object.clone()),
        });
        object
    }
}

fn owners_of(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    let object = object.as_object_mut().expect("an object");
    object
        .entry("metadata")
        .or_insert_with(|| json!({}))
        .as_object_mut()
        .expect("metadata is an object")
}

/// What no write can change.
fn keep_identity(old: &Value, object: &mut Value) {
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "generation",
        "resourceVersion",
    ] {
        let value = old["metadata"][field].clone();
        if value.is_null() {
            metadata(object).remove(field);
        } else {
            metadata(object).insert(field.into(), value);
        }
    }
    for field in ["apiVersion", "kind"] {
        object[field] = old[field].clone();
    }
}

/// The API server refuses a second controlling owner.
fn one_controller(object: &Value) -> Result<(), Refusal> {
    let owners = object["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if owners
        .iter()
        .filter(|owner| owner["controller"] == json!(true))
        .count()
        > 1
    {
        return Err(Refusal(422, "Invalid", "only one controller is permitted".into()));
    }
    Ok(())
}

fn has_status(resource: &str) -> bool {
    [
        "deployments.apps",
        "pods",
        "mcpgateways.portcullis.dev",
        "mcpservers.portcullis.dev",
    ]
    .contains(&resource)
}

/// The only default that matters here: a Deployment has one replica unless somebody says otherwise.
fn default(resource: &str, object: &mut Value) {
    if resource == "deployments.apps" && object["spec"]["replicas"].is_null() {
        object["spec"]["replicas"] = json!(1);
    }
}

pub fn path(parts: &[&str]) -> Path {
    parts.iter().map(|part| (*part).to_owned()).collect()
}
