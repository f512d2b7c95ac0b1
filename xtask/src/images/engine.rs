//! What is asked of Docker, through its own client.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::recipe::Image;
use crate::run;

/// The label with the folder of specs/qa that an image was made from: what has it is ours.
const FOLDER: &str = "faultbox.image";
/// The label with the hash of all that went into an image.
const CONTENT: &str = "faultbox.content";

/// Fails if there is no engine to speak to.
pub(super) fn check() -> Result<()> {
    let mut command = Command::new("docker");
    command.args(["version", "--format", "{{.Server.Version}}"]);
    run::output(&mut command).map(drop).context(
        "no Docker Engine answers: start it (`service docker start`, or `dockerd` as root), and be in the group docker",
    )
}

/// An image as the engine has it.
#[derive(Clone, Debug)]
pub(super) struct Present {
    pub(super) id: String,
    /// The folder that it was made from; `None` if it is none of ours.
    pub(super) folder: Option<String>,
    /// The hash of what went into it.
    pub(super) content: Option<String>,
}

/// The engine's images under the names that we use.
pub(super) struct Images {
    by_name: HashMap<String, Present>,
}

impl Images {
    /// Asks for all names of the images at once.
    pub(super) fn look_up(images: &[&Image]) -> Result<Self> {
        let names = images.iter().flat_map(|image| [image.name].into_iter().chain(image.alias));
        // The client fails if one of the images is missing, and prints those that are there all the same.
        let output = Command::new("docker")
            .args(["image", "inspect"])
            .args(names)
            .stdin(Stdio::null())
            .output()
            .context("cannot start docker")?;
        Self::parse(&output.stdout)
    }

    fn parse(json: &[u8]) -> Result<Self> {
        let images: Vec<Value> =
            serde_json::from_slice(json).context("docker printed something that is not JSON")?;
        let mut by_name = HashMap::new();
        for image in &images {
            let text =
                |pointer: &str| image.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            let present = Present {
                id: text("/Id").context("docker printed an image without an Id")?,
                folder: text(&format!("/Config/Labels/{FOLDER}")),
                content: text(&format!("/Config/Labels/{CONTENT}")),
            };
            let names = image.get("RepoTags").and_then(Value::as_array).into_iter().flatten();
            for name in names.filter_map(Value::as_str) {
                by_name.insert(name.to_owned(), present.clone());
            }
        }
        Ok(Self { by_name })
    }

    /// The image of that name, if the engine has one.
    pub(super) fn get(&self, name: &str) -> Option<&Present> {
        self.by_name.get(name)
    }

    /// Whether one of the names is of the image with that Id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.by_name.values().any(|present| present.id == id)
    }

    /// Notes an image that was made just now.
    pub(super) fn insert(&mut self, image: &Image, id: &str, content: &str) {
        let present = Present {
            id: id.to_owned(),
            folder: Some(image.folder.to_owned()),
            content: Some(content.to_owned()),
        };
        self.by_name.insert(image.name.to_owned(), present);
    }
}

/// Builds the image from a folder with a Dockerfile; returns its Id.
pub(super) fn build(folder: &Path, image: &Image, content: &str) -> Result<String> {
    let mut command = Command::new("docker");
    command
        .args(["build", "--quiet", "--tag", image.name])
        .args(["--label", &format!("{FOLDER}={}", image.folder)])
        .args(["--label", &format!("{CONTENT}={content}")])
        .arg(folder);
    let id = run::output(&mut command)?.trim().to_owned();
    if !id.starts_with("sha256:") {
        bail!("`{}` printed no Id: {id}", run::display(&command));
    }
    Ok(id)
}

/// Gives an image a second name.
pub(super) fn tag(name: &str, alias: &str) -> Result<()> {
    run::output(Command::new("docker").args(["tag", name, alias])).map(drop)
}

/// Removes an image that has no name any more; one that a container uses stays until that is gone.
pub(super) fn remove(id: &str) {
    let _ = run::output(Command::new("docker").args(["rmi", id]));
}

/// Writes the image to a file.
pub(super) fn save(name: &str, file: &Path) -> Result<()> {
    run::output(Command::new("docker").args(["save", "--output"]).arg(file).arg(name)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_our_label_is_somebody_elses() {
        let json = br#"[
            {"Id": "sha256:1", "RepoTags": ["faultbox/redis:7", "redis:7"],
             "Config": {"Labels": {"faultbox.image": "redis", "faultbox.content": "ab"}}},
            {"Id": "sha256:2", "RepoTags": ["company/api:latest"], "Config": {"Labels": null}}]"#;
        let images = Images::parse(json).unwrap();
        let redis = images.get("redis:7").unwrap();
        assert_eq!((redis.id.as_str(), redis.content.as_deref()), ("sha256:1", Some("ab")));
        assert_eq!(images.get("company/api:latest").unwrap().folder, None);
        assert!(images.get("redis:6").is_none());
    }

    #[test]
    fn no_images_are_none() {
        assert!(Images::parse(b"[]\n").unwrap().get("redis:7").is_none());
    }
}
