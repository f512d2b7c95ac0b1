//! Which kernel a guest runs, and where its image comes from.

use std::{
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, bail};

use super::debian::Archive;
use crate::project::Project;

/// A kernel as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// 6.1 with `CONFIG_FUNCTION_ERROR_INJECTION`: programs can be put on system calls themselves.
    ErrorInjection,
    /// Debian's 6.12: programs can be put on `security_*` functions only.
    Stock6_12,
    /// Debian's 7.1 or newer: programs can be put on system calls without error injection.
    Stock7,
    /// Any other image, with all files in its initramfs.
    Image(PathBuf),
}

/// The kernels that the in-kernel tests run on, in that order.
pub(crate) const TESTED: [Kernel; 3] = [Kernel::ErrorInjection, Kernel::Stock7, Kernel::Stock6_12];

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "6.1" => Ok(Self::ErrorInjection),
            "6.12" => Ok(Self::Stock6_12),
            "7.2" => Ok(Self::Stock7),
            _ if Path::new(text).is_file() => Ok(Self::Image(text.into())),
            _ => Err("neither 6.1, 6.12 or 7.2 nor the file of a kernel image".to_owned()),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ErrorInjection => f.write_str("6.1"),
            Self::Stock6_12 => f.write_str("6.12"),
            Self::Stock7 => f.write_str("7.2"),
            Self::Image(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Kernel {
    /// Whether the kernel can mount the host's files; the others get theirs in the initramfs.
    pub(super) fn has_9p(&self) -> bool {
        *self == Self::ErrorInjection
    }

    /// The image if it is on this machine already.
    pub(crate) fn present(&self, project: &Project) -> Option<PathBuf> {
        if let Self::Image(path) = self {
            return Some(path.clone());
        }
        folders(project).iter().find_map(|folder| {
            let mut fitting: Vec<_> = fs::read_dir(folder)
                .ok()?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| {
                    path.file_name().and_then(OsStr::to_str).is_some_and(|name| self.is_named(name))
                })
                .collect();
            fitting.sort();
            fitting.pop()
        })
    }

    /// The image, fetched first if need be.
    ///
    /// # Errors
    /// If it can be neither found nor fetched. 6.1 is never built on the side: that takes a quarter of an hour.
    pub(crate) fn image(&self, project: &Project) -> Result<PathBuf> {
        if let Some(path) = self.present(project) {
            return Ok(path);
        }
        let (suite, series): (_, fn(&Release) -> bool) = match self {
            Self::Stock6_12 => ("bookworm-backports", |r| (r.major, r.minor) == (6, 12)),
            Self::Stock7 => ("sid", |r| r.major == 7 && r.minor >= 1),
            Self::ErrorInjection => bail!(
                "there is no image of kernel 6.1 with error injection in {}: `cargo xtask vm kernel` builds it (about 15 minutes)",
                folders(project)
                    .iter()
                    .map(|f| f.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" or ")
            ),
            Self::Image(path) => bail!("there is no kernel image {}", path.display()),
        };
        self.fetch(project, suite, series)
    }

    /// Whether an image of that name is this kernel: `bzImage-6.1-…`, not `bzImage-6.12…`.
    fn is_named(&self, name: &str) -> bool {
        let Some(release) = name.strip_prefix("bzImage-").and_then(Release::parse) else {
            return false;
        };
        match self {
            Self::ErrorInjection => {
                (release.major, release.minor) == (6, 1) && name.contains("error-injection")
            }
            Self::Stock6_12 => (release.major, release.minor) == (6, 12),
            Self::Stock7 => release.major == 7 && release.minor >= 1,
            Self::Image(_) => false,
        }
    }

    /// Takes the newest fitting image out of Debian's packages; nothing is installed.
    fn fetch(&self, project: &Project, suite: &str, fits: fn(&Release) -> bool) -> Result<PathBuf> {
        let folder = own_folder(project);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        eprintln!("vm: fetching kernel {self} from Debian's {suite}: it is not on this machine");
        let archive = Archive::open(&project.scratch().join("apt"), suite)?;
        let mut packages: Vec<(Release, String)> = archive
            .packages("linux-")?
            .into_iter()
            .filter_map(|name| Some((cloud_release(&name)?, name)))
            .filter(|(release, _)| fits(release))
            .collect();
        packages.sort();
        let mut tried = Vec::new();
        // The image is in linux-image-* or, lately, in linux-binary-*; the package of the other name has none.
        for (_, package) in packages.iter().rev().take(4) {
            if let Some((image, release)) = image_in(&archive.unpack(package)?) {
                let kept = folder.join(format!("bzImage-{release}"));
                fs::rename(&image, &kept).with_context(|| {
                    format!("cannot move {} to {}", image.display(), kept.display())
                })?;
                eprintln!("vm: {} comes from the package {package}", kept.display());
                archive.close();
                return Ok(kept);
            }
            tried.push(package.as_str());
        }
        bail!("Debian's {suite} has no image of kernel {self} (looked at: {})", tried.join(", "))
    }
}

/// The image in an unpacked package, and its release: /boot/vmlinuz-RELEASE, or /usr/lib/modules/RELEASE/vmlinuz.
fn image_in(unpacked: &Path) -> Option<(PathBuf, String)> {
    let names = |folder: &str| {
        fs::read_dir(unpacked.join(folder)).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.path(), entry.file_name().into_string().ok()?))
        })
    };
    names("boot")
        .find_map(|(path, name)| Some((path, name.strip_prefix("vmlinuz-")?.to_owned())))
        .or_else(|| {
            names("usr/lib/modules")
                .map(|(path, release)| (path.join("vmlinuz"), release))
                .find(|(image, _)| image.is_file())
        })
}

/// Where kernels that were built or fetched are kept.
pub(super) fn own_folder(project: &Project) -> PathBuf {
    project.scratch().join("kernels")
}

/// Where images are looked for: `FAULTBOX_VM_KERNELS`, shared/vm beside the project or further up, and our own folder.
fn folders(project: &Project) -> Vec<PathBuf> {
    let named = env::var_os("FAULTBOX_VM_KERNELS").map(PathBuf::from);
    let shared = project
        .root()
        .ancestors()
        .skip(1)
        .map(|folder| folder.join("shared/vm"))
        .find(|folder| folder.is_dir());
    named.into_iter().chain(shared).chain([own_folder(project)]).collect()
}

/// A kernel's release, in the order of release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Release {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Release {
    /// Reads the numbers at the start: `6.12.95-debian-cloud`, `6.1-error-injection`.
    fn parse(text: &str) -> Option<Self> {
        let numbers = text.split(|c: char| !c.is_ascii_digit() && c != '.').next()?;
        let mut numbers = numbers.split('.').map(str::parse);
        Some(Self {
            major: numbers.next()?.ok()?,
            minor: numbers.next()?.ok()?,
            patch: numbers.next().and_then(Result::ok).unwrap_or(0),
        })
    }
}

/// The release of a package with a cloud kernel's image: `linux-image-6.12.95+deb12-cloud-amd64`.
fn cloud_release(package: &str) -> Option<Release> {
    let rest =
        package.strip_prefix("linux-image-").or_else(|| package.strip_prefix("linux-binary-"))?;
    Release::parse(rest.strip_suffix("-cloud-amd64")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_belongs_to_one_kernel() {
        let cases = [
            ("bzImage-6.1-error-injection", Some(Kernel::ErrorInjection)),
            ("bzImage-6.12.95-debian-cloud", Some(Kernel::Stock6_12)),
            ("bzImage-7.2.13-debian-cloud", Some(Kernel::Stock7)),
            ("bzImage-6.1.0-56-cloud-amd64", None),
            ("bzImage-7.0.13-cloud-amd64", None),
            ("bzImage-", None),
            ("README.md", None),
        ];
        for (name, expected) in cases {
            let owners: Vec<_> =
                TESTED.into_iter().filter(|kernel| kernel.is_named(name)).collect();
            assert_eq!(owners, expected.into_iter().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn releases_are_ordered_as_numbers() {
        let release = |name| cloud_release(name).unwrap();
        assert!(
            release("linux-image-6.12.95+deb12-cloud-amd64")
                < release("linux-image-6.12.117+deb12-cloud-amd64")
        );
        assert!(
            release("linux-binary-7.2.13+deb14-cloud-amd64")
                > release("linux-image-7.1.13+deb14-cloud-amd64")
        );
    }

    #[test]
    fn only_packages_with_a_cloud_image_count() {
        for name in [
            "linux-image-cloud-amd64",
            "linux-headers-6.12.95+deb12-cloud-amd64",
            "linux-image-6.12.95+deb12-amd64",
            "linux-image-6.12.95-cloud-amd64-dbg",
        ] {
            assert_eq!(cloud_release(name), None, "{name}");
        }
    }

    #[test]
    fn an_unknown_kernel_is_refused() {
        assert!("5.4".parse::<Kernel>().is_err());
        assert_eq!("6.12".parse(), Ok(Kernel::Stock6_12));
    }
}
