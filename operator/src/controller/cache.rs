//! What the watches have seen: one in-memory copy of each kind, ordered by namespace and name.
//!
//! Reads never leave the process; a copy that is a moment old is as good as the truth a moment ago, and every change
//! brings another pass.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock, RwLockReadGuard};

use kube::ResourceExt;
use tokio::sync::watch;

use crate::identity::Key;

/// All objects of one kind that the watch selects.
#[derive(Debug)]
pub struct Cache<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    ready: watch::Sender<bool>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            ready: watch::Sender::new(false),
        }
    }
}

/// One object before and after a change.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// As it was; none when it is new.
    pub old: Option<Arc<K>>,
    /// As it is; none when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// Both states that exist: whoever depended on the old one is as concerned as who depends on the new one.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

impl<K: ResourceExt> Cache<K> {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().get(key).cloned()
    }

    /// All objects in `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Key::new(namespace, "");
        self.read()
            .range(first..)
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().is_empty()
    }

    /// Waits until the first complete list has come in.
    pub async fn ready(&self) {
        let mut ready = self.ready.subscribe();
        // The sender lives as long as the cache, so waiting cannot fail while `self` is borrowed.
        let _closed = ready.wait_for(|ready| *ready).await;
    }

    /// Whether the first complete list has come in.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Takes in one object.
    pub fn put(&self, object: K) -> Change<K> {
        let new = Arc::new(object);
        let old = self
            .objects
            .write()
            .expect("no code that holds this lock can panic")
            .insert(Key::of(&*new), Arc::clone(&new));
        Change { old, new: Some(new) }
    }

    /// Drops one object.
    pub fn remove(&self, key: &Key) -> Change<K> {
        let old = self
            .objects
            .write()
            .expect("no code that holds this lock can panic")
            .remove(key);
        Change { old, new: None }
    }

    /// Replaces everything by a complete list, and tells what changed thereby.
    pub fn replace(&self, objects: Vec<K>) -> Vec<Change<K>> {
        let fresh: BTreeMap<Key, Arc<K>> = objects
            .into_iter()
            .map(|object| (Key::of(&object), Arc::new(object)))
            .collect();
        let mut changes = Vec::new();
        {
            let mut held = self
                .objects
                .write()
                .expect("no code that holds this lock can panic");
            for (key, new) in &fresh {
                let old = held.get(key).cloned();
                let same = old.as_ref().is_some_and(|old| {
                    old.resource_version() == new.resource_version() && old.uid() == new.uid()
                });
                if !same {
                    changes.push(Change {
                        old,
                        new: Some(Arc::clone(new)),
                    });
                }
            }
            for (key, old) in held.iter() {
                if !fresh.contains_key(key) {
                    changes.push(Change {
                        old: Some(Arc::clone(old)),
                        new: None,
                    });
                }
            }
            *held = fresh;
        }
        self.ready.send_replace(true);
        changes
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Key, Arc<K>>> {
        self.objects
            .read()
            .expect("no code that holds this lock can panic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    fn config_map(namespace: &str, name: &str, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some(namespace.into()),
                name: Some(name.into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_namespace_is_not_mistaken_for_one_it_begins_with() {
        let cache = Cache::default();
        for (namespace, name) in [("a", "1"), ("a", "2"), ("ab", "1"), ("a-b", "1"), ("", "1")] {
            cache.put(config_map(namespace, name, "1"));
        }
        let names: Vec<String> = cache.in_namespace("a").iter().map(|o| o.name_any()).collect();
        assert_eq!(names, ["1", "2"]);
    }

    #[test]
    fn a_fresh_list_tells_what_is_new_changed_and_gone() {
        let cache = Cache::default();
        assert!(!cache.is_ready());
        let first = vec![
            config_map("a", "same", "1"),
            config_map("a", "moved", "1"),
            config_map("a", "gone", "1"),
        ];
        assert_eq!(cache.replace(first).len(), 3);
        assert!(cache.is_ready());
        let second = vec![
            config_map("a", "same", "1"),
            config_map("a", "moved", "2"),
            config_map("a", "new", "1"),
        ];
        let mut changes: Vec<(String, bool, bool)> = cache
            .replace(second)
            .iter()
            .map(|c| {
                (
                    c.states().next().unwrap().name_any(),
                    c.old.is_some(),
                    c.new.is_some(),
                )
            })
            .collect();
        changes.sort();
        assert_eq!(
            changes,
            [
                ("gone".into(), true, false),
                ("moved".into(), true, true),
                ("new".into(), false, true)
            ]
        );
    }
}
