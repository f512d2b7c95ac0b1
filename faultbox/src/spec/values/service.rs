//! A declared service and its interfaces, as specs see them.

use std::{fmt, hash::Hash, sync::Arc};

use allocative::Allocative;
use starlark::{
    collections::StarlarkHasher,
    values::{
        Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, ValueLike,
        starlark_value,
    },
};

use crate::spec::{
    Interface, Protocol, Service,
    context::Misses,
    suggest::{did_you_mean, nearest, quoted},
};

use super::{StepValue, never_frozen};

/// What every interface has beside its steps.
const INTERFACE_ATTRIBUTES: &[&str] = &[
    "addr",
    "host",
    "internal_addr",
    "name",
    "port",
    "protocol",
    "proxy_addr",
    "proxy_host",
    "proxy_port",
];

/// Where every interface listens, as seen from the run's own network namespace.
const HOST: &str = "localhost";

/// What `service()` returns.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct ServiceValue {
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) service: Arc<Service>,
    #[allocative(skip)]
    #[trace(static)]
    pub(in crate::spec) misses: Arc<Misses>,
}

impl ServiceValue {
    /// The interface whose steps can be called on the service itself.
    fn shorthand(&self) -> Option<&Interface> {
        match self.service.interfaces.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|it| it.name == "default"),
        }
    }

    fn interface(&self, name: &str) -> Option<InterfaceValue> {
        let index = self.service.interfaces.iter().position(|it| it.name == name)?;
        let (service, misses) = (self.service.clone(), self.misses.clone());
        Some(InterfaceValue { service, index, misses })
    }

    fn find<'v>(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        if let Some(interface) = self.interface(attribute) {
            return Some(heap.alloc(interface));
        }
        if attribute == "name" {
            return Some(heap.alloc(&*self.service.name));
        }
        let interface = self.shorthand()?;
        StepValue::of(&self.service, interface, attribute).map(|step| heap.alloc(step))
    }

    /// Why there is no such attribute.
    fn miss(&self, attribute: &str) -> String {
        let Service { name, interfaces, .. } = &*self.service;
        let offers = |it: &&Interface| it.protocol.steps().contains(&attribute);
        match self.shorthand() {
            Some(only) if is_step(attribute) => no_method(name, only, attribute),
            None if let Some(first) = interfaces.iter().find(offers) => {
                let names: Vec<_> = interfaces.iter().map(|it| &*it.name).collect();
                let (names, first) = (names.join(", "), &first.name);
                format!(
                    "service {name:?} has several interfaces ({names}); \
                     write {name}.{first}.{attribute}(...)"
                )
            }
            _ => {
                let attributes = self.dir_attr();
                let near = did_you_mean(attribute, attributes.iter().map(String::as_str));
                let available = attributes.join(", ");
                let hint = if near.is_empty() { format!("; available: {available}") } else { near };
                format!("service {name:?} has no {}{hint}", quoted(attribute))
            }
        }
    }
}

/// Whether interfaces of some protocol have such a step.
fn is_step(name: &str) -> bool {
    Protocol::ALL.iter().any(|(_, protocol)| protocol.steps().contains(&name))
}

fn no_method(service: &str, interface: &Interface, method: &str) -> String {
    let Interface { name, protocol, .. } = interface;
    let (protocol, available) = (protocol.name(), protocol.steps().join(", "));
    format!(
        "{service}.{name} ({protocol}) has no method {}; available: {available}",
        quoted(method)
    )
}

impl fmt::Display for ServiceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service({:?})", self.service.name)
    }
}

#[starlark_value(type = "service", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for ServiceValue {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        let found = self.find(attribute, heap);
        if found.is_none() {
            self.misses.note(attribute, self.miss(attribute));
        }
        found
    }

    fn has_attr(&self, attribute: &str, heap: Heap<'v>) -> bool {
        self.find(attribute, heap).is_some()
    }

    fn dir_attr(&self) -> Vec<String> {
        let interfaces = self.service.interfaces.iter().map(|it| &*it.name);
        let steps = self.shorthand().map_or(&[][..], |it| it.protocol.steps());
        std::iter::once("name")
            .chain(interfaces)
            .chain(steps.iter().copied())
            .map(str::to_owned)
            .collect()
    }

    // Equality is identity, which is the evaluator's default: names are unique anyway.
    fn write_hash(&self, hasher: &mut StarlarkHasher) -> starlark::Result<()> {
        self.service.name.hash(hasher);
        Ok(())
    }
}
never_frozen!(ServiceValue);

/// What `service.interface` is.
#[derive(Debug, ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct InterfaceValue {
    #[allocative(skip)]
    #[trace(static)]
    service: Arc<Service>,
    /// Which of the service's interfaces.
    index: usize,
    #[allocative(skip)]
    #[trace(static)]
    misses: Arc<Misses>,
}

impl InterfaceValue {
    fn interface(&self) -> &Interface {
        &self.service.interfaces[self.index]
    }

    fn find<'v>(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        let interface = self.interface();
        Some(match attribute {
            // Where a consumer has to look elsewhere, its environment says so: see the runner.
            "internal_addr" if self.service.source.is_container() => {
                heap.alloc(format!("{}:{}", self.service.name, interface.port))
            }
            "addr" | "internal_addr" | "proxy_addr" => {
                heap.alloc(format!("{HOST}:{}", interface.port))
            }
            "host" | "proxy_host" => heap.alloc(HOST),
            "port" | "proxy_port" => heap.alloc(i32::from(interface.port)),
            "name" => heap.alloc(&*interface.name),
            "protocol" => heap.alloc(interface.protocol.name()),
            step => heap.alloc(StepValue::of(&self.service, interface, step)?),
        })
    }

    /// Why there is no such attribute.
    fn miss(&self, attribute: &str) -> String {
        let (service, interface) = (&*self.service.name, self.interface());
        let near = nearest(attribute, INTERFACE_ATTRIBUTES.iter().copied());
        if near.is_empty() || is_step(attribute) {
            return no_method(service, interface, attribute);
        }
        let (name, attribute, near) = (&interface.name, quoted(attribute), near.join(", "));
        format!("{service}.{name} has no {attribute}; did you mean: {near}?")
    }
}

impl fmt::Display for InterfaceValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service.name, self.interface().name)
    }
}

#[starlark_value(type = "interface_ref", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for InterfaceValue {
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        let found = self.find(attribute, heap);
        if found.is_none() {
            self.misses.note(attribute, self.miss(attribute));
        }
        found
    }

    fn has_attr(&self, attribute: &str, heap: Heap<'v>) -> bool {
        self.find(attribute, heap).is_some()
    }

    fn dir_attr(&self) -> Vec<String> {
        let steps = self.interface().protocol.steps();
        INTERFACE_ATTRIBUTES.iter().chain(steps).map(|it| (*it).to_owned()).collect()
    }

    // Each `db.main` is a new value; they are equal when they mean the same.
    fn equals(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(other.downcast_ref::<Self>().is_some_and(|other| {
            Arc::ptr_eq(&self.service, &other.service) && self.index == other.index
        }))
    }

    fn write_hash(&self, hasher: &mut StarlarkHasher) -> starlark::Result<()> {
        (&self.service.name, self.index).hash(hasher);
        Ok(())
    }
}
never_frozen!(InterfaceValue);
