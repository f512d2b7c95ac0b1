//! An event of the log, as specs see it: `event["type"]` as well as `event.type` (language.md 1.13).

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use allocative::Allocative;
use starlark::{
    collections::StarlarkHasher,
    environment::{Methods, MethodsBuilder, MethodsStatic},
    starlark_module,
    values::{
        Heap, NoSerialize, ProvidesStaticType, StarlarkValue, Trace, Value, ValueError, ValueLike,
        dict::AllocDict, starlark_value,
    },
};

use crate::{
    spec::failure::Raised,
    trace::{Event, Log, rfc3339},
};

use super::never_frozen;

/// What every event has beside its fields.
const ATTRIBUTES: &[&str] =
    &["data", "event_type", "fields", "seq", "service", "timestamp", "type", "vector_clock"];

/// An event, by its place in the log: a test may hold a million of them.
#[derive(ProvidesStaticType, NoSerialize, Allocative, Trace)]
pub(in crate::spec) struct EventValue<'v> {
    #[allocative(skip)]
    #[trace(static)]
    log: Arc<Log>,
    index: usize,
    /// What it is compared with: `event.first` in `assert_before`.
    first: Option<Value<'v>>,
}

impl<'v> EventValue<'v> {
    pub(in crate::spec) fn new(log: &Arc<Log>, index: usize, first: Option<Value<'v>>) -> Self {
        Self { log: Arc::clone(log), index, first }
    }

    fn read<T>(&self, question: impl FnOnce(&Event) -> T) -> Option<T> {
        self.log.read(|events| events.get(self.index).map(question))
    }

    /// What it has under a name, be it of its own or a field.
    fn find(&self, name: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        match name {
            "seq" => self.read(|it| heap.alloc(it.seq)),
            "type" => self.read(|it| heap.alloc(it.type_name())),
            "event_type" => self.read(|it| heap.alloc(&*it.event_type())),
            "service" => self.read(|it| heap.alloc(&*it.service)),
            "timestamp" => {
                let time = self.read(|it| it.time)?;
                Some(heap.alloc(rfc3339(self.log.calendar(time))))
            }
            "fields" | "data" => self.read(|it| {
                let fields = it.fields();
                heap.alloc(AllocDict(fields.iter().map(|(name, text)| (*name, &**text))))
            }),
            "vector_clock" => {
                let service = self.read(|it| it.service.clone())?;
                let count = self.log.count_of_service(self.index);
                Some(heap.alloc(AllocDict([(service, count)])))
            }
            "first" => self.first,
            field => self.read(|it| it.field(field).map(|text| heap.alloc(&*text)))?,
        }
    }
}

impl fmt::Display for EventValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.read(|it| {
            let mut text = format!(
                "event(seq={}, type={:?}, service={:?}",
                it.seq,
                it.type_name(),
                it.service
            );
            for (name, value) in it.fields() {
                // Writing to a string cannot fail.
                let _ = write!(text, ", {name}={value:?}");
            }
            text + ")"
        });
        f.write_str(text.as_deref().unwrap_or("event(forgotten)"))
    }
}

impl fmt::Debug for EventValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[starlark_value(type = "event", ty_vtable_no_freeze)]
impl<'v> StarlarkValue<'v> for EventValue<'v> {
    /// A field that the event does not have is empty, so that conditions need not ask first.
    fn get_attr(&self, attribute: &str, heap: Heap<'v>) -> Option<Value<'v>> {
        Some(self.find(attribute, heap).unwrap_or_else(|| heap.alloc("")))
    }

    fn has_attr(&self, attribute: &str, heap: Heap<'v>) -> bool {
        self.find(attribute, heap).is_some()
    }

    fn dir_attr(&self) -> Vec<String> {
        let mut names: Vec<_> = ATTRIBUTES.iter().map(|it| (*it).to_owned()).collect();
        self.read(|it| names.extend(it.fields().iter().map(|(name, _)| (*name).to_owned())));
        names
    }

    fn at(&self, index: Value<'v>, heap: Heap<'v>) -> starlark::Result<Value<'v>> {
        let found = index.unpack_str().and_then(|name| self.find(name, heap));
        found.ok_or_else(|| ValueError::KeyNotFound(index.to_repr()).into())
    }

    fn is_in(&self, other: Value<'v>) -> starlark::Result<bool> {
        let Some(name) = other.unpack_str() else { return Ok(false) };
        Ok(ATTRIBUTES.contains(&name) || self.read(|it| it.field(name).is_some()) == Some(true))
    }

    fn equals(&self, other: Value<'v>) -> starlark::Result<bool> {
        Ok(other.downcast_ref::<EventValue>().is_some_and(|it| it.index == self.index))
    }

    fn write_hash(&self, hasher: &mut StarlarkHasher) -> starlark::Result<()> {
        std::hash::Hash::hash(&self.index, hasher);
        Ok(())
    }

    fn get_methods() -> Option<&'static Methods> {
        static METHODS: MethodsStatic = MethodsStatic::new("event", methods);
        Some(METHODS.methods())
    }
}
never_frozen!(EventValue<'v>);

#[starlark_module]
fn methods(builder: &mut MethodsBuilder) {
    /// What is there under a name, or else the default.
    fn get<'v>(
        this: Value<'v>,
        #[starlark(require = pos)] key: Value<'v>,
        #[starlark(require = pos)] default: Option<Value<'v>>,
        heap: Heap<'v>,
    ) -> starlark::Result<Value<'v>> {
        let Some(name) = key.unpack_str() else {
            let kind = key.get_type();
            return Err(
                Raised::error(format!("event.get(): a name is a string, not {kind}")).into()
            );
        };
        let event = this.downcast_ref::<EventValue>();
        let found = event.and_then(|it| it.find(name, heap));
        Ok(found.or(default).unwrap_or_else(Value::new_none))
    }
}
