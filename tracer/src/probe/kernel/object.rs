//! A second view of the object: aya's own gives no program away before it has loaded it.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use aya::{Ebpf, maps::Map};
use aya_obj::Object;

use super::{OBJECT, ProbeError, sys};

/// A second view of the object, relocated against the maps that aya made, and its type information in the kernel.
pub(super) fn relocate(ebpf: &Ebpf) -> Result<(Object, OwnedFd), ProbeError> {
    let damaged = |what: &dyn std::fmt::Display| ProbeError::Object(what.to_string());
    let mut object = Object::parse(OBJECT).map_err(|error| damaged(&error))?;
    let features = aya::features();
    let btf_features = features
        .btf()
        .ok_or_else(|| damaged(&"this kernel does not take BPF type information"))?;
    let btf = object
        .fixup_and_sanitize_btf(btf_features)
        .map_err(|error| damaged(&error))?
        .ok_or_else(|| damaged(&"it has no type information"))?
        .to_bytes();
    let btf = sys::load_btf(&btf).map_err(|source| ProbeError::Verifier {
        program: "(type information)".to_owned(),
        source,
        log: String::new(),
    })?;
    let text = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    let definitions: Vec<_> = object
        .maps
        .iter()
        .map(|(name, map)| (name.clone(), map.clone()))
        .collect();
    let mut maps = Vec::with_capacity(definitions.len());
    for (name, definition) in &definitions {
        let fd = ebpf
            .map(name)
            .and_then(map_fd)
            .ok_or_else(|| damaged(&format!("map {name} was not made")))?;
        maps.push((name.as_str(), fd, definition));
    }
    object
        .relocate_maps(maps.into_iter(), &text)
        .map_err(|error| damaged(&error))?;
    object
        .relocate_calls(&text)
        .map_err(|error| damaged(&error))?;
    object.sanitize_functions(features);
    Ok((object, btf))
}

/// The descriptor of a map, of the types the object has.
pub(super) fn map_fd(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::ArrayOfMaps(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}
