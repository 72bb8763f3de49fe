//! `kezhan image info`

use crate::check::pretty;
use crate::error::Result;
use crate::open::Open;
use crate::{OutputFormat, size, snapshot};
use kezhan_block::{Image, Storage};
use kezhan_disk_formats::vmdk::VmdkDescription;
use kezhan_qcow2::{Compression, Qcow2, spec};
use serde_json::{Map, Value, json};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

/// Tell what an image is.
#[derive(Clone, Debug, clap::Args)]
pub struct InfoArgs {
    /// Format of the image
    #[arg(short, value_name = "FMT")]
    format: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: OutputFormat,
    /// Tell of the images below too
    #[arg(long)]
    backing_chain: bool,
    /// Open although another process writes
    #[arg(short = 'U', long)]
    force_share: bool,
    /// The image
    file: String,
}

impl InfoArgs {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let open = Open { for_check: true, ..Open::read(self.format.as_deref(), self.force_share) };
        let open = if self.backing_chain { open } else { open.alone() };
        let top = open.open(&self.file)?;
        let mut all = vec![describe(&top)?];
        let mut below = top.backing().cloned();
        while let Some(image) = below {
            all.push(describe(&image)?);
            below = image.backing().cloned();
        }
        match (self.output, self.backing_chain) {
            (OutputFormat::Json, true) => println!("{}", pretty(&Value::Array(all))),
            (OutputFormat::Json, false) => println!("{}", pretty(&all.swap_remove(0))),
            (OutputFormat::Human, _) => {
                let texts: Vec<String> = all.iter().map(human).collect();
                print!("{}", texts.join("\n"));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The JSON of one image.
pub fn describe(image: &Image) -> Result<Value> {
    let info = image.format().info();
    let mut object = Map::new();
    object.insert("children".into(), children(image)?);
    object.insert("virtual-size".into(), json!(image.size()));
    object.insert("filename".into(), json!(image.name()));
    object.insert("format".into(), json!(image.format().format_name()));
    object.insert("actual-size".into(), json!(image.file().occupied()?));
    object.insert("dirty-flag".into(), json!(info.dirty));
    if let Some(cluster) = info.cluster_size {
        object.insert("cluster-size".into(), json!(cluster));
    }
    if info.encrypted {
        object.insert("encrypted".into(), json!(true));
    }
    if let Some(reference) = image.reference() {
        object.insert("backing-filename".into(), json!(reference.target));
        object.insert("full-backing-filename".into(), json!(reference.path()));
        if let Some(format) = &reference.format {
            object.insert("backing-filename-format".into(), json!(format));
        }
    }
    if let Some(qcow2) = image.format().as_any().downcast_ref::<Qcow2>() {
        let snapshots = qcow2.snapshots()?;
        if !snapshots.is_empty() {
            let list = snapshots.iter().map(snapshot::describe).collect();
            object.insert("snapshots".into(), Value::Array(list));
        }
        let data = qcow2_specific(qcow2)?;
        object.insert("format-specific".into(), json!({"type": "qcow2", "data": data}));
    }
    if image.format().format_name() == "vmdk"
        && let Some(description) = kezhan_disk_formats::vmdk::describe(&**image.file())?
    {
        let beside = description.extents.iter().filter(|extent| extent.file != image.name());
        let more: u64 = beside.map(|extent| occupied(&extent.file)).sum();
        object.insert("actual-size".into(), json!(image.file().occupied()? + more));
        let data = vmdk_specific(&description);
        object.insert("format-specific".into(), json!({"type": "vmdk", "data": data}));
    }
    Ok(Value::Object(object))
}

/// Bytes that a file occupies on the host; none when it is not there.
fn occupied(file: &str) -> u64 {
    std::fs::metadata(file).map_or(0, |about| about.blocks() * 512)
}

fn vmdk_specific(description: &VmdkDescription) -> Value {
    let mut extents = Vec::new();
    for extent in &description.extents {
        let mut told = json!({
            "virtual-size": extent.size,
            "filename": extent.file,
            "format": extent.kind,
        });
        if let Some(grain) = extent.grain {
            told["cluster-size"] = json!(grain);
        }
        if extent.compressed {
            told["compressed"] = json!(true);
        }
        extents.push(told);
    }
    json!({
        "cid": description.cid,
        "parent-cid": description.parent_cid,
        "create-type": description.create_type,
        "extents": extents,
    })
}

fn children(image: &Image) -> Result<Value> {
    let node = |name: &str, storage: &dyn Storage| -> Result<Value> {
        Ok(json!({"name": name, "info": {
            "children": [],
            // In whole sectors, as disks are.
            "virtual-size": storage.size()?.next_multiple_of(512),
            "filename": storage.name(),
            "format": "file",
            "actual-size": storage.occupied()?,
            "format-specific": {"type": "file", "data": {}},
            "dirty-flag": false,
        }}))
    };
    let mut all = vec![node("file", &**image.file())?];
    if let Some(qcow2) = image.format().as_any().downcast_ref::<Qcow2>()
        && qcow2.layout().external
    {
        all.push(node("data-file", qcow2.data_file())?);
    }
    Ok(Value::Array(all))
}

fn qcow2_specific(qcow2: &Qcow2) -> Result<Value> {
    let (header, layout) = (qcow2.header(), qcow2.layout());
    let zstd = layout.compression == Compression::Zstd;
    let mut data = Map::new();
    data.insert("compat".into(), json!(if layout.v3 { "1.1" } else { "0.10" }));
    data.insert("compression-type".into(), json!(if zstd { "zstd" } else { "zlib" }));
    data.insert("refcount-bits".into(), json!(1 << layout.refcount_order));
    if !layout.v3 {
        return Ok(Value::Object(data));
    }
    data.insert("lazy-refcounts".into(), json!(header.compatible & spec::LAZY_REFCOUNTS != 0));
    data.insert("corrupt".into(), json!(header.incompatible & spec::CORRUPT != 0));
    data.insert("extended-l2".into(), json!(layout.extended));
    if let Some(name) = header.name_extension(spec::EXT_DATA_FILE) {
        data.insert("data-file".into(), json!(name));
        data.insert("data-file-raw".into(), json!(header.autoclear & spec::RAW_EXTERNAL != 0));
    }
    let bitmaps: Vec<Value> = qcow2.bitmap_list()?.iter().map(bitmap).collect();
    if !bitmaps.is_empty() {
        data.insert("bitmaps".into(), Value::Array(bitmaps));
    }
    Ok(Value::Object(data))
}

fn bitmap(info: &kezhan_qcow2::BitmapInfo) -> Value {
    let names = [(spec::BITMAP_IN_USE, "in-use"), (spec::BITMAP_AUTO, "auto")];
    let flags: Vec<&str> =
        names.iter().filter(|(bit, _)| info.flags & bit != 0).map(|(_, name)| *name).collect();
    json!({"name": info.name, "granularity": 1u64 << info.granularity_bits, "flags": flags})
}

/// The text of one image, from its JSON.
fn human(info: &Value) -> String {
    let number = |key: &str| info[key].as_u64().unwrap_or(0);
    let virtual_size = number("virtual-size");
    let mut out = format!(
        "image: {}\nfile format: {}\nvirtual size: {} ({virtual_size} bytes)\ndisk size: {}\n",
        text(&info["filename"]),
        text(&info["format"]),
        size::human(virtual_size),
        size::human(number("actual-size")),
    );
    if info["encrypted"] == true {
        out += "encrypted: yes\n";
    }
    if info.get("cluster-size").is_some() {
        out += &format!("cluster_size: {}\n", number("cluster-size"));
    }
    if info["dirty-flag"] == true {
        out += "cleanly shut down: no\n";
    }
    if let Some(backing) = info.get("backing-filename") {
        out += &backing_lines(info, backing);
    }
    if let Some(Value::Array(snapshots)) = info.get("snapshots") {
        out += &snapshot::table(snapshots);
    }
    if let Some(Value::Object(data)) = info.get("format-specific").map(|f| &f["data"])
        && !data.is_empty()
    {
        out += "Format specific information:\n";
        out += &lines(&Value::Object(data.clone()), 4);
    }
    for child in info["children"].as_array().into_iter().flatten() {
        out += &child_lines(child);
    }
    out
}

fn backing_lines(info: &Value, backing: &Value) -> String {
    let full = &info["full-backing-filename"];
    let mut out = format!("backing file: {}", text(backing));
    if full != backing {
        out += &format!(" (actual path: {})", text(full));
    }
    out.push('\n');
    if let Some(format) = info.get("backing-filename-format") {
        out += &format!("backing file format: {}\n", text(format));
    }
    out
}

fn child_lines(child: &Value) -> String {
    let (info, length) = (&child["info"], child["info"]["virtual-size"].as_u64().unwrap_or(0));
    format!(
        "Child node '/{}':\n    filename: {}\n    protocol type: file\n    file length: {} ({length} bytes)\n    disk size: {}\n",
        text(&child["name"]),
        text(&info["filename"]),
        size::human(length),
        size::human(info["actual-size"].as_u64().unwrap_or(0)),
    )
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A tree as indented lines; dashes in names become spaces.
fn lines(value: &Value, indent: usize) -> String {
    let pad = " ".repeat(indent);
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(key, v)| (key.replace('-', " "), v)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(i, v)| (format!("[{i}]"), v)).collect(),
        _ => Vec::new(),
    };
    let mut out = String::new();
    for (key, value) in entries {
        if value.is_object() || value.is_array() {
            out += &format!("{pad}{key}:\n{}", lines(value, indent + 4));
        } else {
            out += &format!("{pad}{key}: {}\n", text(value));
        }
    }
    out
}
