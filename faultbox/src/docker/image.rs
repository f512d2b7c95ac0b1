//! Images: looked for here first, and pulled only if they are not.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{errors::Error, models::CreateImageInfo, query_parameters::CreateImageOptions};
use futures_util::StreamExt as _;

use super::{Docker, DockerError, client::Late, error::one_line};

/// How long a pull may take.
const PULLING: Duration = Duration::from_secs(120);
/// How often progress is said.
const ROUND: Duration = Duration::from_secs(2);

impl Docker {
    /// Makes sure that an image is here. Only if it is missing, it is pulled, by what Docker
    /// itself may read without an account.
    pub(crate) fn ensure_image(&self, image: &str, say: &dyn Fn(&str)) -> Result<(), DockerError> {
        if !is_reference(image) {
            return Err(DockerError::NoImage(image.to_owned()));
        }
        let asked = self.api.inspect_image(image);
        match self.block(self.answer(|| format!("look for image {image}"), asked)) {
            Err(error) if error.is_missing() => self.pull(image, say),
            result => result.map(drop),
        }
    }

    fn pull(&self, image: &str, say: &dyn Fn(&str)) -> Result<(), DockerError> {
        say(&format!("image {image} not found locally, pulling it"));
        let not_pulled = |why: String| DockerError::NotPulled { image: image.to_owned(), why };
        let options = CreateImageOptions {
            from_image: Some(one_of_all(image)),
            ..CreateImageOptions::default()
        };
        let work = async {
            let mut news = Box::pin(self.api.create_image(Some(options), None, None));
            let mut progress = Progress::new();
            while let Some(one) = news.next().await {
                if let Some(text) = progress.note(&one?) {
                    say(&format!("pulling {image}: {text}"));
                }
            }
            Ok(())
        };
        match self.block_within(PULLING, work) {
            Ok(Ok(())) => {
                say(&format!("pulled {image}"));
                Ok(())
            }
            Ok(Err(error)) => Err(not_pulled(match error {
                Error::DockerResponseServerError { message, .. } => one_line(&message),
                Error::DockerStreamError { error } => one_line(&error),
                error => one_line(&error.to_string()),
            })),
            Err(late @ Late::Limit(_)) => {
                Err(not_pulled(format!("{late}; run docker pull {image} before")))
            }
            Err(late) => Err(not_pulled(late.to_string())),
        }
    }
}

/// Whether this can name an image: what Docker allows, so that none can be another path of the API.
pub(super) fn is_reference(text: &str) -> bool {
    let is_fine = |it: char| it.is_ascii_alphanumeric() || "_.-/:@".contains(it);
    text.chars().all(is_fine)
        && text.split('/').all(|it| it.starts_with(|it: char| it.is_ascii_alphanumeric()))
}

/// The image with its tag: without one, Docker would pull all tags.
fn one_of_all(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// How much of all layers has been loaded.
struct Progress {
    layers: HashMap<String, (i64, i64)>,
    said: Instant,
}

impl Progress {
    fn new() -> Self {
        Self { layers: HashMap::new(), said: Instant::now() }
    }

    /// Takes note of news; returns what to say, if it is time to.
    fn note(&mut self, news: &CreateImageInfo) -> Option<String> {
        // Docker tells of unpacking in the same way.
        if news.status.as_deref() == Some("Downloading")
            && let (Some(id), Some(detail)) = (&news.id, &news.progress_detail)
        {
            let numbers = (detail.current.unwrap_or(0), detail.total.unwrap_or(0));
            self.layers.insert(id.clone(), numbers);
        }
        if self.said.elapsed() < ROUND {
            return None;
        }
        self.said = Instant::now();
        let megabytes = |bytes: i64| bytes as f64 / 1e6;
        let current: i64 = self.layers.values().map(|it| it.0).sum();
        let total: i64 = self.layers.values().map(|it| it.1).sum();
        Some(format!("{:.1} of {:.1} MB", megabytes(current), megabytes(total)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_tag_the_latest_is_meant() {
        for (image, expected) in [
            ("redis", "redis:latest"),
            ("redis:7", "redis:7"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("a/b@sha256:12", "a/b@sha256:12"),
        ] {
            assert_eq!(one_of_all(image), expected);
        }
    }

    #[test]
    fn a_reference_is_no_path() {
        for image in ["redis:7", "company/api:latest", "localhost:5000/a_b-c.d/e"] {
            assert!(is_reference(image), "{image}");
        }
        for image in ["", "../x", "a/../b", "a//b", "a b", "a?b", "/a", "a/"] {
            assert!(!is_reference(image), "{image}");
        }
    }
}
