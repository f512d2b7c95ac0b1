//! Networks, and who is found in them by which name.

use std::{net::Ipv4Addr, path::Path};

use super::{Scene, cli, not_tested};
use crate::docker::NewContainer;

#[test]
fn a_network_is_the_bridge_that_it_says() {
    let Some(scene) = Scene::new("bridge") else { return };
    let docker = &scene.docker;
    let network = scene.network();
    for name in [&network.name, &network.id] {
        assert_eq!(docker.network(name).unwrap(), network);
    }
    let (first, bits) = network.subnet;
    let mask = u32::MAX << (32 - u32::from(bits));
    assert_eq!(u32::from(network.gateway) & mask, u32::from(first), "{network:?}");
    let container = scene.start(&scene.shell("a", &network, "sleep 60"));
    assert!(Path::new("/sys/class/net").join(&network.bridge).exists(), "{network:?}");
    let [address] = container.networks[0].addresses[..] else { panic!("{container:?}") };
    let address: Ipv4Addr = address.to_string().parse().unwrap();
    assert_eq!(u32::from(address) & mask, u32::from(first), "{network:?}");
    let Err(error) = docker.remove_network(&network.id) else {
        // It takes the container out.
        return not_tested("this is podman").unwrap_or_default();
    };
    assert!(error.to_string().starts_with("Docker cannot remove network "), "{error}");
    docker.remove(&container.id).unwrap();
    docker.remove_network(&network.id).unwrap();
    docker.remove_network(&network.id).unwrap();
    assert!(docker.network(&network.id).unwrap_err().is_missing());
    // The one that Docker brings along has a name of its own; podman has other ones.
    match docker.network("bridge") {
        Ok(default) => assert_eq!(default.bridge, "docker0"),
        Err(error) => assert!(error.is_missing(), "{error}"),
    }
    let error = docker.network("host").unwrap_err();
    assert!(error.to_string().contains("network host is no bridge") || error.is_missing());
}

#[test]
fn containers_find_each_other_by_alias() {
    let Some(scene) = Scene::new("names") else { return };
    let network = scene.network();
    let api = NewContainer {
        aliases: vec!["api".to_owned()],
        ..scene.shell("a", &network, "echo hello > /index.html; httpd -f -p 8080")
    };
    scene.start(&api);
    let script = "i=0; while [ $i -lt 50 ]; do wget -qO- http://api:8080/ && exit 0; \
                  i=$((i+1)); sleep 0.1; done; exit 1";
    let client = scene.start(&scene.shell("b", &network, script));
    assert_eq!(scene.exit_code(&client.id), 0);
    assert_eq!(cli(&["logs", &client.id]).last().unwrap(), "hello");
}

#[test]
fn a_network_that_is_shared_is_seen_through() {
    let Some(scene) = Scene::new("shared") else { return };
    let network = scene.network();
    let lender = scene.start(&scene.shell("a", &network, "sleep 60"));
    let label = format!("faultbox.session={}", scene.session);
    let run = |mode: &str| {
        let arguments = ["run", "-d", "--label", &label, "--network", mode, &scene.image];
        let id = cli(&arguments).pop().expect("docker run");
        scene.docker.inspect(&id).unwrap()
    };
    let borrower = run(&format!("container:{}", lender.id));
    assert_eq!(borrower.networks, lender.networks);
    assert!(!borrower.shares_host_network);
    let host = run("host");
    assert!(host.shares_host_network);
    assert!(host.networks.iter().all(|it| it.addresses.is_empty()), "{:?}", host.networks);
}
