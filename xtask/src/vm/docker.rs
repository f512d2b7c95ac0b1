//! A Docker Engine in a guest: the host's own programs, started before the command, with all that it keeps in memory.

use std::{fmt, fmt::Write as _, str::FromStr};

use anyhow::{Result, ensure};
use serde_json::json;

use super::Kernel;
use crate::{images::Saved, setup};

/// How the guest's control groups are mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cgroups {
    /// Version 2 alone, at /sys/fs/cgroup.
    #[default]
    Unified,
    /// The controllers in version 1, with version 2 beside them at /sys/fs/cgroup/unified.
    Hybrid,
}

impl FromStr for Cgroups {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "unified" => Ok(Self::Unified),
            "hybrid" => Ok(Self::Hybrid),
            _ => Err("neither unified nor hybrid".to_owned()),
        }
    }
}

impl fmt::Display for Cgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unified => "unified",
            Self::Hybrid => "hybrid",
        })
    }
}

/// The engine that a guest starts before its command.
pub(crate) struct Docker {
    /// Images to load into it; the guest sees their files at the same paths.
    pub(crate) images: Vec<Saved>,
}

impl Docker {
    /// Installs what the guest will start, and refuses kernels that cannot run it.
    pub(super) fn prepare(kernel: &Kernel) -> Result<()> {
        // An engine needs overlay, bridge and veth, which stock kernels have as modules; a guest gets the kernel alone,
        // and no modules.
        ensure!(
            kernel.has_9p(),
            "Docker runs on kernel 6.1 only: {kernel} has overlay, bridge and veth as modules, and guests have none"
        );
        setup::docker()
    }

    /// The files that the guest's first process reads: what to run, and which images the engine is to have.
    pub(super) fn files(&self) -> [(&'static str, String); 4] {
        let (mut load, mut lay, mut repositories) = (String::new(), String::new(), json!({}));
        for image in &self.images {
            // The engine wants name and tag of the other name apart.
            let alias = image.alias.map_or_else(String::new, |alias| alias.replace(':', " "));
            let _ = writeln!(load, "{} {} {alias}", image.file.display(), image.name);
            let Some(flat) = &image.flat else { continue };
            let (rootfs, config) = (flat.rootfs.display(), flat.config.display());
            let _ = writeln!(lay, "{rootfs} {config} {} {}", flat.id, flat.layer);
            for name in [image.name].into_iter().chain(image.alias) {
                let repository = name.split(':').next().unwrap_or(name);
                repositories[repository][name] = format!("sha256:{}", flat.id).into();
            }
        }
        let repositories = json!({ "Repositories": repositories }).to_string();
        [
            ("docker", include_str!("docker.sh").to_owned()),
            ("images", load),
            ("flat-images", lay),
            ("repositories.json", repositories),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::Flat;

    #[test]
    fn an_image_is_laid_down_under_both_of_its_names_or_loaded() {
        let saved = |name, alias, flat| Saved { file: "/i.tar".into(), name, alias, flat };
        let flat = Flat {
            rootfs: "/r".into(),
            config: "/c".into(),
            id: "1d".to_owned(),
            layer: "1a".to_owned(),
        };
        let docker = Docker {
            images: vec![
                saved("faultbox/redis:7", Some("redis:7"), Some(flat)),
                saved("faultbox/static:qa", None, None),
            ],
        };
        let [_, (_, load), (_, lay), (_, repositories)] = docker.files();
        assert_eq!(load, "/i.tar faultbox/redis:7 redis 7\n/i.tar faultbox/static:qa \n");
        assert_eq!(lay, "/r /c 1d 1a\n");
        assert_eq!(
            repositories,
            r#"{"Repositories":{"faultbox/redis":{"faultbox/redis:7":"sha256:1d"},"redis":{"redis:7":"sha256:1d"}}}"#
        );
    }
}
