//! What an image or a port speaks.

use crate::spec::Protocol;

/// Words in names of images, what they speak, and where.
const IMAGES: &[(&str, &str, u16)] = &[
    ("postgres", "postgres", 5432),
    ("postgis", "postgres", 5432),
    ("timescale", "postgres", 5432),
    ("mysql", "mysql", 3306),
    ("mariadb", "mysql", 3306),
    ("redis", "redis", 6379),
    ("valkey", "redis", 6379),
    ("mongo", "mongodb", 27017),
    ("kafka", "kafka", 9092),
    ("redpanda", "kafka", 9092),
    ("nats", "nats", 4222),
    ("rabbitmq", "amqp", 5672),
    ("memcached", "memcached", 11211),
    ("nginx", "http", 80),
    ("httpd", "http", 80),
    ("caddy", "http", 80),
    ("traefik", "http", 80),
];

/// Ports that say by themselves what is spoken there.
const PORTS: &[(u16, &str)] = &[
    (5432, "postgres"),
    (3306, "mysql"),
    (6379, "redis"),
    (27017, "mongodb"),
    (9092, "kafka"),
    (4222, "nats"),
    (5672, "amqp"),
    (11211, "memcached"),
    (50051, "grpc"),
];

/// What is spoken on a port of an image; both may be unknown.
pub(super) fn protocol(image: Option<&str>, port: u16) -> &'static str {
    let by_port = PORTS.iter().find(|(it, _)| *it == port).map(|(_, protocol)| *protocol);
    match image.and_then(known_image) {
        Some((protocol, own)) if port == own => protocol,
        // The management port of a broker is for browsers; any other may be its own, moved.
        Some((protocol, _)) if !is_web(port) => by_port.unwrap_or(protocol),
        _ => by_port.unwrap_or("http"),
    }
}

/// Where an image listens when nothing else is said.
pub(super) fn default_port(image: &str) -> Option<u16> {
    known_image(image).map(|(_, port)| port)
}

/// The protocol as this version has it: those that it does not know are spoken over TCP.
pub(super) fn spoken(protocol: &str) -> &'static str {
    let known = Protocol::ALL.iter().find(|(name, _)| *name == protocol);
    known.map_or("tcp", |(name, _)| name)
}

fn is_web(port: u16) -> bool {
    matches!(port, 80 | 443 | 3000 | 8000 | 8080 | 9090 | 15672)
}

fn known_image(image: &str) -> Option<(&'static str, u16)> {
    // `registry:5000/team/postgres-ha:16@sha256:…` is about `postgres-ha`.
    let image = image.split('@').next().unwrap_or(image);
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split(':').next().unwrap_or(name).to_ascii_lowercase();
    let (_, protocol, port) = IMAGES.iter().find(|(word, ..)| name.contains(word))?;
    Some((protocol, *port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_says_what_is_spoken_then_the_port_then_http() {
        for (image, port, expected) in [
            (Some("postgres:16"), 5432, "postgres"),
            (Some("registry:5000/bitnami/PostgreSQL-ha@sha256:00"), 6000, "postgres"),
            (Some("rabbitmq:3-management"), 15672, "http"),
            (Some("rabbitmq:3-management"), 5672, "amqp"),
            (Some("company/api"), 6379, "redis"),
            (Some("company/api"), 8080, "http"),
            (Some("company/api"), 1234, "http"),
            (None, 50051, "grpc"),
            (Some("nginx"), 80, "http"),
        ] {
            assert_eq!(protocol(image, port), expected, "{image:?} {port}");
        }
        assert_eq!(default_port("valkey/valkey:8"), Some(6379));
        assert_eq!(default_port("company/api:latest"), None);
    }

    #[test]
    fn what_this_version_does_not_speak_is_tcp() {
        assert_eq!((spoken("http"), spoken("tcp"), spoken("smtp")), ("http", "tcp", "tcp"));
    }
}
