//! What the watches have seen: one in-memory copy of each kind, ordered by namespace and name.
//!
//! Reads never leave the process; a copy that is a moment old is as good as the truth a moment ago, and every change
//! brings another pass.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::ResourceExt;
use tokio::sync::watch;

use crate::identity::Key;

/// All objects of one kind that the watch selects.
///
/// An object that cannot be read is not one that is gone: it counts as it last was, if that is known, and is marked
/// otherwise, so that nobody takes its absence here for its end.
#[derive(Debug)]
pub struct Cache<K> {
    held: RwLock<Held<K>>,
    ready: watch::Sender<bool>,
}

#[derive(Debug)]
struct Held<K> {
    objects: BTreeMap<Key, Arc<K>>,
    unreadable: BTreeMap<Key, Arc<Unreadable>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            held: RwLock::new(Held {
                objects: BTreeMap::new(),
                unreadable: BTreeMap::new(),
            }),
            ready: watch::Sender::new(false),
        }
    }
}

/// An object that exists and does not match its schema.
#[derive(Debug)]
pub struct Unreadable {
    /// Its name.
    pub key: Key,
    /// Which of that name.
    pub uid: Option<String>,
    /// What is wrong with it.
    pub error: String,
    told: AtomicBool,
}

impl Unreadable {
    /// The object `key`, which cannot be read for this reason.
    pub const fn new(key: Key, uid: Option<String>, error: String) -> Self {
        Self {
            key,
            uid,
            error,
            told: AtomicBool::new(false),
        }
    }

    /// Whether it is still to be told; once.
    pub fn is_news(&self) -> bool {
        !self.told.swap(true, Ordering::Relaxed)
    }
}

/// One object, as a list has it.
#[derive(Debug)]
pub enum Listed<K> {
    /// As it is.
    Read(K),
    /// It exists; no more is known.
    Unreadable(Unreadable),
}

/// One object before and after a change.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// Which object.
    pub key: Key,
    /// As it was; none when it is new.
    pub old: Option<Arc<K>>,
    /// As it is; none when it is gone.
    pub new: Option<Arc<K>>,
    /// Before or after, it is there and nothing is known of it: whom it concerns is not known either.
    pub dark: bool,
}

impl<K> Change<K> {
    /// Both states that exist: whoever depended on the old one is as concerned as who depends on the new one.
    pub fn states(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.iter().chain(&self.new)
    }
}

impl<K: ResourceExt> Held<K> {
    /// Drops the mark; says whether nothing else was known of the object.
    fn lighten(&mut self, key: &Key) -> bool {
        self.unreadable.remove(key).is_some() && !self.objects.contains_key(key)
    }

    /// The last known state of an object that cannot be read any more.
    fn last(&self, unreadable: &Unreadable) -> Option<Arc<K>> {
        let last = self.objects.get(&unreadable.key)?;
        (last.uid() == unreadable.uid).then(|| Arc::clone(last))
    }

    /// Marks an object. The same mark as before is no news.
    fn mark(marks: &mut BTreeMap<Key, Arc<Unreadable>>, unreadable: Unreadable) {
        let told = marks.get(&unreadable.key).is_some_and(|before| {
            before.uid == unreadable.uid
                && before.error == unreadable.error
                && before.told.load(Ordering::Relaxed)
        });
        unreadable.told.store(told, Ordering::Relaxed);
        marks.insert(unreadable.key.clone(), Arc::new(unreadable));
    }
}

impl<K: ResourceExt> Cache<K> {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects in `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let first = Key::new(namespace, "");
        self.read()
            .objects
            .range(first..)
            .take_while(|(key, _)| &*key.namespace == namespace)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.read().objects.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.read().objects.is_empty()
    }

    /// What is wrong with the object of this name, if it cannot be read.
    pub fn unreadable(&self, key: &Key) -> Option<Arc<Unreadable>> {
        self.read().unreadable.get(key).cloned()
    }

    /// All objects that cannot be read.
    pub fn all_unreadable(&self) -> Vec<Arc<Unreadable>> {
        self.read().unreadable.values().cloned().collect()
    }

    /// What is wrong with the object of this name, if it exists and no state of it is known.
    pub fn unknown(&self, key: &Key) -> Option<Arc<Unreadable>> {
        let held = self.read();
        let unreadable = held.unreadable.get(key)?;
        (!held.objects.contains_key(key)).then(|| Arc::clone(unreadable))
    }

    /// Objects that exist, and of which no state is known.
    pub fn all_unknown(&self) -> Vec<Arc<Unreadable>> {
        let held = self.read();
        let unknown = held
            .unreadable
            .iter()
            .filter(|(key, _)| !held.objects.contains_key(*key));
        unknown.map(|(_, unreadable)| Arc::clone(unreadable)).collect()
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
        let (key, new) = (Key::of(&object), Arc::new(object));
        let mut held = self.write();
        let dark = held.lighten(&key);
        Change {
            old: held.objects.insert(key.clone(), Arc::clone(&new)),
            new: Some(new),
            key,
            dark,
        }
    }

    /// Takes in that one object cannot be read.
    pub fn put_unreadable(&self, unreadable: Unreadable) -> Change<K> {
        let key = unreadable.key.clone();
        let mut held = self.write();
        let last = held.last(&unreadable);
        let old = match &last {
            Some(last) => Some(Arc::clone(last)),
            // A namesake that took its place.
            None => held.objects.remove(&key),
        };
        Held::<K>::mark(&mut held.unreadable, unreadable);
        Change {
            key,
            old,
            dark: last.is_none(),
            new: last,
        }
    }

    /// Drops one object.
    pub fn remove(&self, key: &Key) -> Change<K> {
        let mut held = self.write();
        let dark = held.lighten(key);
        Change {
            key: key.clone(),
            old: held.objects.remove(key),
            new: None,
            dark,
        }
    }

    /// Replaces everything by a complete list, and tells what changed thereby.
    pub fn replace(&self, listed: Vec<Listed<K>>) -> Vec<Change<K>> {
        let mut changes = Vec::new();
        {
            let mut held = self.write();
            let mut fresh = Held {
                objects: BTreeMap::new(),
                unreadable: BTreeMap::new(),
            };
            for one in listed {
                match one {
                    Listed::Read(object) => {
                        fresh.objects.insert(Key::of(&object), Arc::new(object));
                    }
                    Listed::Unreadable(unreadable) => {
                        if let Some(last) = held.last(&unreadable) {
                            fresh.objects.insert(unreadable.key.clone(), last);
                        }
                        if let Some(before) = held.unreadable.get(&unreadable.key) {
                            fresh
                                .unreadable
                                .insert(unreadable.key.clone(), Arc::clone(before));
                        }
                        Held::<K>::mark(&mut fresh.unreadable, unreadable);
                    }
                }
            }
            let mut keys: Vec<&Key> = [&*held, &fresh]
                .into_iter()
                .flat_map(|state| state.objects.keys().chain(state.unreadable.keys()))
                .collect();
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                let (old, new) = (held.objects.get(key), fresh.objects.get(key));
                let (was, is) = (held.unreadable.get(key), fresh.unreadable.get(key));
                let same = match (old, new) {
                    (Some(old), Some(new)) => {
                        old.resource_version() == new.resource_version() && old.uid() == new.uid()
                    }
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                let told = match (was, is) {
                    (_, Some(is)) => is.told.load(Ordering::Relaxed),
                    (Some(_), None) => false,
                    (None, None) => true,
                };
                if !same || !told {
                    changes.push(Change {
                        key: key.clone(),
                        old: old.cloned(),
                        new: new.cloned(),
                        dark: (was.is_some() && old.is_none()) || (is.is_some() && new.is_none()),
                    });
                }
            }
            *held = fresh;
        }
        self.ready.send_replace(true);
        changes
    }

    fn read(&self) -> RwLockReadGuard<'_, Held<K>> {
        self.held.read().expect("no code that holds this lock can panic")
    }

    fn write(&self) -> RwLockWriteGuard<'_, Held<K>> {
        self.held.write().expect("no code that holds this lock can panic")
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

    fn listed(objects: Vec<ConfigMap>) -> Vec<Listed<ConfigMap>> {
        objects.into_iter().map(Listed::Read).collect()
    }

    fn broken(name: &str, uid: Option<&str>) -> Unreadable {
        Unreadable::new(Key::new("a", name), uid.map(str::to_owned), "because".into())
    }

    #[test]
    fn what_cannot_be_read_any_more_counts_as_it_last_was() {
        let cache = Cache::default();
        cache.replace(listed(vec![config_map("a", "x", "1")]));
        let key = Key::new("a", "x");
        let change = cache.put_unreadable(broken("x", None));
        assert!(change.old.is_some() && change.new.is_some() && !change.dark);
        assert!(cache.unreadable(&key).unwrap().is_news());
        // Nor does a list end it, and it is no news.
        assert!(
            cache
                .replace(vec![Listed::Unreadable(broken("x", None))])
                .is_empty()
        );
        assert!(!cache.unreadable(&key).unwrap().is_news());
        assert!(cache.get(&key).is_some() && cache.unknown(&key).is_none());
        // What it last was says nothing of another object of that name.
        let change = cache.put_unreadable(broken("x", Some("other")));
        assert!(change.old.is_some() && change.new.is_none() && change.dark);
        assert!(cache.get(&key).is_none() && cache.unknown(&key).is_some());
        let change = cache.put(config_map("a", "x", "3"));
        assert!(change.dark && cache.all_unreadable().is_empty());
    }

    #[test]
    fn what_was_never_read_is_told_when_it_comes_and_when_it_goes() {
        let cache = Cache::<ConfigMap>::default();
        let changes = cache.replace(vec![Listed::Unreadable(broken("x", None))]);
        assert!(changes.len() == 1 && changes[0].dark && changes[0].states().next().is_none());
        assert_eq!(cache.all_unknown().len(), 1);
        let gone = cache.replace(Vec::new());
        assert!(gone.len() == 1 && gone[0].dark);
        assert!(cache.all_unknown().is_empty());
        cache.put_unreadable(broken("x", None));
        assert!(cache.remove(&Key::new("a", "x")).dark);
        assert!(cache.all_unreadable().is_empty());
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
        assert_eq!(cache.replace(listed(first)).len(), 3);
        assert!(cache.is_ready());
        let second = vec![
            config_map("a", "same", "1"),
            config_map("a", "moved", "2"),
            config_map("a", "new", "1"),
        ];
        let mut changes: Vec<(String, bool, bool)> = cache
            .replace(listed(second))
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
