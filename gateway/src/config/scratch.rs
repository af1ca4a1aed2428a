//! Directories for tests: made as the kubelet makes its mounts, removed at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of its own.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portcullis-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path.canonicalize().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Mounts a volume, or replaces its content in one step, as the kubelet does: the files stand in a directory with
    /// a new name, `..data` points to it and is renamed over, and each file is a link through `..data`.
    pub(crate) fn mount(&self, volume: &str, files: &[(&str, &str)]) -> PathBuf {
        use std::os::unix::fs::symlink;
        let mount = self.0.join(volume);
        let stamp = format!("..2026_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let real = mount.join(&stamp);
        fs::create_dir_all(&real).unwrap();
        let old = fs::read_link(mount.join("..data")).ok();
        for (name, text) in files {
            fs::create_dir_all(real.join(name).parent().unwrap()).unwrap();
            fs::write(real.join(name), text).unwrap();
        }
        symlink(&stamp, mount.join("..data_tmp")).unwrap();
        fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
        let mut wanted: Vec<&str> = files
            .iter()
            .filter_map(|(name, _)| name.split('/').next())
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        for name in &wanted {
            if fs::symlink_metadata(mount.join(name)).is_err() {
                symlink(format!("..data/{name}"), mount.join(name)).unwrap();
            }
        }
        for entry in fs::read_dir(&mount).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if !name.starts_with("..") && !wanted.contains(&name.as_str()) {
                fs::remove_file(mount.join(name)).unwrap();
            }
        }
        if let Some(old) = old {
            fs::remove_dir_all(mount.join(old)).unwrap();
        }
        mount
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap_or_default();
    }
}

/// A valid configuration that names `session.key` and whatever `more` adds.
pub(crate) fn config_text(more: &str) -> String {
    format!(
        "formatVersion: 1\n\
         gateway: {{name: main, namespace: default, publicHost: 'localhost:8080', profile: Development}}\n\
         listen: {{public: {{address: '127.0.0.1:0', plaintext: {{reason: a test}}}}}}\n\
         auth: {{anonymous: {{reason: a test}}}}\n{more}"
    )
}
