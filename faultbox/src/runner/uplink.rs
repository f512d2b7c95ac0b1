//! The wire between the programs of a run, in a network namespace of their own, and the bridge of
//! its containers: `veth(4)`.

use std::{
    fs::File,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::AsRawFd,
    thread,
};

use nix::{
    net::if_::if_nametoindex,
    sched::{CloneFlags, setns},
};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, new_connection};

use crate::docker::Network;

/// How many runs at once can have an address of their own in one network.
const ADDRESSES: u32 = 200;

/// Connects the network namespace `inside` to the bridge of a network, which is in the namespace
/// `outside`. Returns its address there. The wire is gone with either namespace.
///
/// `number` tells runs that share a network apart. Needs `CAP_NET_ADMIN` in both, and
/// `CAP_SYS_ADMIN`.
pub(crate) fn plug(
    network: &Network,
    number: u32,
    name: &str,
    inside: &File,
    outside: &File,
) -> io::Result<Ipv4Addr> {
    let address = address(network.subnet, number);
    let (near, far) = (format!("{name}n"), format!("{name}f"));
    let prefix = network.subnet.1;
    // Made inside, so that nothing is left in the machine's own namespace by whoever is killed
    // before it is moved there.
    within(inside, async |handle| {
        handle.link().add(LinkVeth::new(&near, &far).build()).execute().await?;
        let index = index(&near)?;
        handle.address().add(index, IpAddr::V4(address), prefix).execute().await?;
        let away = LinkUnspec::new_with_name(&far).setns_by_fd(outside.as_raw_fd()).build();
        handle.link().change(away).execute().await?;
        handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await
    })?;
    within(outside, async |handle| {
        let bridge = index(&network.bridge)?;
        let plugged = LinkUnspec::new_with_name(&far).controller(bridge).up().build();
        handle.link().change(plugged).execute().await
    })?;
    Ok(address)
}

/// One of the last addresses of a network, because Docker gives the first.
fn address((first, bits): (Ipv4Addr, u8), number: u32) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(u32::from(bits)).unwrap_or(0);
    let last = u32::from(first) | hosts;
    Ipv4Addr::from(last - 1 - number % ADDRESSES.min(hosts / 2).max(1))
}

fn index(name: &str) -> Result<u32, rtnetlink::Error> {
    if_nametoindex(name).map_err(|_| {
        let text = format!("there is no network interface {name}");
        rtnetlink::Error::NamespaceError(text)
    })
}

/// Talks to the kernel about the network of a namespace, on a thread that is there for nothing
/// else.
fn within<F>(namespace: &File, talk: impl FnOnce(Handle) -> F + Send) -> io::Result<()>
where
    F: Future<Output = Result<(), rtnetlink::Error>>,
{
    let work = || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = new_connection()?;
            tokio::spawn(connection);
            talk(handle).await.map_err(io::Error::other)
        })
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("uplink".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug in faultbox: panic")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_last_ones_and_differ() {
        let subnet = ("172.18.0.0".parse().unwrap(), 16);
        assert_eq!(address(subnet, 0).to_string(), "172.18.255.254");
        assert_eq!(address(subnet, 1).to_string(), "172.18.255.253");
        let small = ("10.0.0.0".parse().unwrap(), 29);
        for number in 0..9 {
            let last = address(small, number).octets()[3];
            assert!((4..=6).contains(&last), "{last}");
        }
    }
}
