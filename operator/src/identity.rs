//! Which object: the key by which both kinds are looked up, and the UID that tells an object from its namesake.

use std::fmt;
use std::sync::Arc;

use kube::ResourceExt;

/// Name of a namespaced object. Sorts by namespace, then by name; prints as `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl Key {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object. What has no namespace has an empty one here.
    pub fn of<K: ResourceExt>(object: &K) -> Self {
        Self::new(object.namespace().unwrap_or_default(), object.name_any())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An object that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where it stands.
    pub key: Key,
    /// What tells it from a later object of the same name.
    pub uid: String,
}

impl Identity {
    /// The identity of an object; none if it never was in an API server.
    pub fn of<K: ResourceExt>(object: &K) -> Option<Self> {
        let uid = object.uid().filter(|uid| !uid.is_empty())?;
        let key = Key::of(object);
        (!key.namespace.is_empty() && !key.name.is_empty()).then_some(Self { key, uid })
    }
}
