//! An image as one folder of files, so that a guest's engine need not unpack it.
//!
//! Loading an image takes an engine in emulation as long as a minute: each layer is a start of a program of 75 MB, and
//! all bytes are hashed and unpacked. The guest's engine is given the same as if it had done that before: the files of
//! the image as its only layer, which stay where this machine has them, and the few notes that say so.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::run;

/// An image whose files are in a folder.
pub(crate) struct Flat {
    /// Where its files are.
    pub(crate) rootfs: PathBuf,
    /// Its settings, as the engine keeps them.
    pub(crate) config: PathBuf,
    /// The Id of the image: the hash of its settings, in hexadecimal.
    pub(crate) id: String,
    /// The Id of its only layer, in hexadecimal.
    pub(crate) layer: String,
}

/// The names of the files in the image's folder.
const ROOTFS: &str = "rootfs";
const CONFIG: &str = "config";
const IDS: &str = "ids";

impl Flat {
    /// Unpacks what `docker save` has written of an image into a folder.
    ///
    /// Only root can: files have owners.
    pub(super) fn make(saved: &Path, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let layers = folder.join("layers");
        let rootfs = folder.join(ROOTFS);
        for folder in [&layers, &rootfs] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
        }
        unpack(saved, &layers)?;
        let manifest = json_in(&layers.join("manifest.json"))?;
        let manifest = manifest.get(0).context("the image's manifest is empty")?;
        let names = manifest["Layers"].as_array().context("the image's manifest has no layers")?;
        for layer in names.iter().filter_map(Value::as_str) {
            unpack(&layers.join(layer), &rootfs)?;
        }
        // A layer says with such a file that one below it is gone. None of ours takes anything away.
        let gone = run::output(Command::new("find").arg(&rootfs).args(["-name", ".wh.*"]))?;
        ensure!(gone.is_empty(), "a layer of {} takes files away: {gone}", saved.display());

        let config = manifest["Config"].as_str().context("the image's manifest has no settings")?;
        let mut config = json_in(&layers.join(config))?;
        // Any name will do for the layer, as long as it is another when the files are others.
        let path = folder.join(CONFIG);
        fs::write(&path, config["rootfs"].to_string())?;
        let layer = sha256(&path)?;
        config["rootfs"] = json!({ "type": "layers", "diff_ids": [format!("sha256:{layer}")] });
        config["history"] = json!([{ "created_by": "cargo xtask images" }]);
        fs::write(&path, config.to_string())?;
        let id = sha256(&path)?;
        fs::remove_dir_all(&layers)?;
        fs::write(folder.join(IDS), format!("{id} {layer}"))?;
        Ok(())
    }

    /// What [`Flat::make`] has left in the folder, if it has.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let ids = fs::read_to_string(folder.join(IDS)).ok()?;
        let (id, layer) = ids.split_once(' ')?;
        Some(Self {
            rootfs: folder.join(ROOTFS),
            config: folder.join(CONFIG),
            id: id.to_owned(),
            layer: layer.to_owned(),
        })
    }
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "-xpf"]).arg(archive).arg("-C").arg(folder);
    run::output(&mut tar).map(drop)
}

fn json_in(file: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", file.display()))
}

fn sha256(file: &Path) -> Result<String> {
    let line = run::output(Command::new("sha256sum").arg("--").arg(file))?;
    let hash = line.split(' ').next().filter(|hash| hash.len() == 64);
    Ok(hash.context("sha256sum printed no hash")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_file() {
        let file = std::env::temp_dir().join(format!("xtask-sha256-{}", std::process::id()));
        fs::write(&file, "abc").unwrap();
        let hash = sha256(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
