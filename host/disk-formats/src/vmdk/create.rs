//! Making VMDK images.
//!
//! | subformat | files | extents |
//! |---|---|---|
//! | `monolithicSparse` | one | sparse, the descriptor within it |
//! | `streamOptimized` | one | the same, its grains compressed and written once |
//! | `monolithicFlat` | a descriptor, `NAME-flat` | one, as it is |
//! | `twoGbMaxExtentSparse` | a descriptor, `NAME-s001` … | sparse, of 2 GiB each |
//! | `twoGbMaxExtentFlat` | a descriptor, `NAME-f001` … | as they are, of 2 GiB each |
//!
//! The caller makes the files beside the image: a format opens none by itself ([`CreateRequest::make_file`]).

use super::sparse;
use crate::little::{random_uuid, u32_at};
use kezhan_block::{BlockError, CreateRequest, HostOffset, Result, Storage};
use std::path::Path;

/// Sectors of an extent where the disk is split.
const SPLIT: u64 = (2 << 30) / 512;

/// Options that images of this format take.
const OPTIONS: [&str; 8] = [
    "subformat",
    "adapter_type",
    "hwversion",
    "toolsversion",
    "compat6",
    "zeroed_grain",
    "preallocation",
    "size",
];

/// How the files of a subformat are made.
struct Shape {
    name: &'static str,
    flat: bool,
    split: bool,
    stream: bool,
}

const SHAPES: [Shape; 5] = [
    Shape { name: "monolithicSparse", flat: false, split: false, stream: false },
    Shape { name: "monolithicFlat", flat: true, split: false, stream: false },
    Shape { name: "twoGbMaxExtentSparse", flat: false, split: true, stream: false },
    Shape { name: "twoGbMaxExtentFlat", flat: true, split: true, stream: false },
    Shape { name: "streamOptimized", flat: false, split: false, stream: true },
];

/// Makes an image.
///
/// # Errors
/// Options that are not valid; the storage's and the host's.
pub fn create(file: &dyn Storage, request: &CreateRequest) -> Result<()> {
    request.expect_only("vmdk", &OPTIONS)?;
    let wanted = request.option("subformat").unwrap_or(SHAPES[0].name);
    let Some(shape) = SHAPES.iter().find(|shape| shape.name == wanted) else {
        let names: Vec<&str> = SHAPES.iter().map(|shape| shape.name).collect();
        let option = format!("subformat={wanted}");
        return Err(BlockError::option(option, format!("give one of {}", names.join(", "))));
    };
    if request.flag("compat6", false)? && request.option("hwversion").is_some() {
        return Err(BlockError::option("hwversion", "is 6 with compat6=on; leave it out"));
    }
    if shape.flat && request.backing_file.is_some() {
        return Err(BlockError::option("backing_file", "flat VMDK images have none"));
    }
    if shape.flat && request.flag("zeroed_grain", false)? {
        return Err(BlockError::option("zeroed_grain", "flat VMDK images have no grains"));
    }
    let sectors = request.size.div_ceil(512);
    let sparse =
        sparse::New { zeroes: request.flag("zeroed_grain", false)?, compressed: shape.stream };
    if !shape.flat && !shape.split {
        let line = format!("RW {sectors} SPARSE \"{}\"\n", plain(file.name()));
        let text = descriptor(shape, request, &line)?;
        return sparse::create(file, sectors, &sparse, &text);
    }
    let lines = extents(file, request, shape, (sectors, &sparse))?;
    let text = descriptor(shape, request, &lines)?;
    file.set_size(text.len() as u64)?;
    file.write_at(HostOffset(0), text.as_bytes())?;
    file.flush()
}

/// Makes the files of the extents; gives the lines that name them.
fn extents(
    file: &dyn Storage,
    request: &CreateRequest,
    shape: &Shape,
    (sectors, sparse): (u64, &sparse::New),
) -> Result<String> {
    let make = request.make_file.ok_or_else(|| {
        BlockError::option(format!("subformat={}", shape.name), "needs files beside the image")
    })?;
    let (mut lines, mut done) = (String::new(), 0);
    for index in 1_u32.. {
        let count = if shape.split { SPLIT.min(sectors - done) } else { sectors };
        let name = extent_name(file.name(), shape, index);
        let extent = make(&Path::new(file.name()).with_file_name(&name))?;
        if shape.flat {
            extent.set_size(count * 512)?;
            lines += &format!("RW {count} FLAT \"{name}\" 0\n");
        } else {
            sparse::create(&*extent, count, sparse, "")?;
            lines += &format!("RW {count} SPARSE \"{name}\"\n");
        }
        done += count;
        if done >= sectors {
            break;
        }
    }
    Ok(lines)
}

/// `disk.vmdk` has `disk-s001.vmdk`.
fn extent_name(image: &str, shape: &Shape, index: u32) -> String {
    let name = plain(image);
    let (stem, ending) = match name.rsplit_once('.') {
        Some((stem, ending)) => (stem, format!(".{ending}")),
        None => (&name[..], String::new()),
    };
    match (shape.flat, shape.split) {
        (true, false) => format!("{stem}-flat{ending}"),
        (true, true) => format!("{stem}-f{index:03}{ending}"),
        (false, _) => format!("{stem}-s{index:03}{ending}"),
    }
}

/// The file's own name, without what would end it in a descriptor.
fn plain(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).replace('"', "")
}

/// The text ("The Text Descriptor").
fn descriptor(shape: &Shape, request: &CreateRequest, extents: &str) -> Result<String> {
    let adapter = request.option("adapter_type").unwrap_or("ide");
    if !["ide", "buslogic", "lsilogic", "legacyESX"].contains(&adapter) {
        let what = "give ide, buslogic, lsilogic or legacyESX";
        return Err(BlockError::option(format!("adapter_type={adapter}"), what));
    }
    let heads: u64 = if adapter == "ide" { 16 } else { 255 };
    let cylinders = request.size.div_ceil(512) / (63 * heads);
    let hardware = match request.option("hwversion") {
        Some(version) => version,
        None if request.flag("compat6", false)? => "6",
        None => "4",
    };
    let (parent, hint) = parent(request)?;
    let tools = request.option("toolsversion").unwrap_or("2147483647");
    Ok(format!(
        "# Disk DescriptorFile\nversion=1\nCID={cid:08x}\nparentCID={parent:08x}\ncreateType=\"{kind}\"\n{hint}\n\
         # Extent description\n{extents}\n\
         # The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"{hardware}\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"{adapter}\"\n\
         ddb.toolsVersion = \"{tools}\"\n",
        cid = u32_at(&random_uuid(), 0),
        kind = shape.name,
    ))
}

/// The content identifier of the backing image, and the line that names it.
fn parent(request: &CreateRequest) -> Result<(u32, String)> {
    let Some(name) = &request.backing_file else { return Ok((u32::MAX, String::new())) };
    if request.backing_format.as_deref().is_some_and(|format| format != "vmdk") {
        return Err(BlockError::option("backing_fmt", "VMDK images stand on VMDK images alone"));
    }
    let below = match &request.backing {
        Some(file) => super::describe(&**file)?,
        None => None,
    };
    let below = below.ok_or_else(|| {
        BlockError::option(format!("backing_file={name}"), "is not there, or no VMDK image")
    })?;
    Ok((below.cid, format!("parentFileNameHint=\"{}\"\n", name.replace('"', ""))))
}
