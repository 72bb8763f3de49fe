//! Everything but KVM: networks, isolation, memory.

use super::{Check, ModuleState};
use crate::HostRoot;

pub(super) fn all(host: &HostRoot) -> Vec<Check> {
    let mut checks =
        vec![tun(host), bridge(host), networks(host), user_namespaces(host), cgroups(host)];
    checks.push(io_uring(host));
    checks.extend(memory(host));
    checks.push(transparent_huge_pages(host));
    checks.push(huge_pages(host));
    checks.push(same_page_merging(host));
    checks
}

fn tun(host: &HostRoot) -> Check {
    const NAME: &str = "tun";
    let state = ModuleState::of(host, "tun");
    if host.has("/dev/net/tun") {
        return Check::good(NAME, "/dev/net/tun, for --net tap");
    }
    Check::fault(
        NAME,
        format!("/dev/net/tun missing, module {state}: no --net tap; --net user works without"),
        &["sudo modprobe tun"],
    )
}

fn bridge(host: &HostRoot) -> Check {
    const NAME: &str = "bridge";
    let state = ModuleState::of(host, "bridge");
    let found = format!("module {state}");
    match state {
        ModuleState::Loaded | ModuleState::BuiltIn => Check::good(NAME, found),
        ModuleState::Available => {
            Check::hint(NAME, format!("{found}: wanted by --net bridge"), &["sudo modprobe bridge"])
        }
        ModuleState::Absent => {
            Check::hint(NAME, format!("{found}: no --net bridge; --net user works without"), &[])
        }
    }
}

/// Whether networks can be made here (capabilities(7): CAP_NET_ADMIN is bit 12), and how to do without.
fn networks(host: &HostRoot) -> Check {
    const NAME: &str = "networks";
    const NET_ADMIN: u64 = 1 << 12;
    let status = host.read("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    if effective.unwrap_or(0) & NET_ADMIN != 0 {
        return Check::good(NAME, "kezhan net create and --net bridge may be used");
    }
    Check::hint(
        NAME,
        "no CAP_NET_ADMIN: no kezhan net create, no --net bridge; --net user works without",
        &[
            "sudo kezhan net create NAME",
            "sudo ip tuntap add dev TAP mode tap user $USER && sudo ip link set TAP master kz-NAME up, \
             then --net tap=TAP",
        ],
    )
}

/// namespaces(7); the second file is Debian's, the third Ubuntu's.
fn user_namespaces(host: &HostRoot) -> Check {
    const NAME: &str = "user namespaces";
    const SWITCHES: [(&str, &str, &str); 3] = [
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ];
    if !host.has("/proc/sys/user/max_user_namespaces") {
        return Check::hint(NAME, "not in this kernel", &[]);
    }
    let off = SWITCHES.iter().find(|(file, bad, _)| host.read(file).as_deref() == Some(*bad));
    match off {
        None => Check::good(NAME, "open to ordinary users"),
        Some((file, bad, setting)) => Check::hint(
            NAME,
            format!("{file} is {bad}: closed to ordinary users"),
            &[&format!("sudo sysctl -w {setting}")],
        ),
    }
}

/// io_uring(7); the switch is there since Linux 6.6. A filter of system calls forbids it too, as containers have one.
fn io_uring(host: &HostRoot) -> Check {
    const NAME: &str = "io_uring";
    const SWITCH: &str = "/proc/sys/kernel/io_uring_disabled";
    if let Some(value) = host.read(SWITCH).filter(|value| value != "0") {
        return Check::hint(
            NAME,
            format!("{SWITCH} is {value}: disks have few requests with the host at a time"),
            &["sudo sysctl -w kernel.io_uring_disabled=0"],
        );
    }
    if host.is_this_one() && !kezhan_block::has_io_uring() {
        let found = "forbidden to this process: disks have few requests with the host at a time";
        return Check::hint(NAME, found, &[]);
    }
    Check::good(NAME, "for disks with many requests in flight")
}

/// cgroups(7).
fn cgroups(host: &HostRoot) -> Check {
    const NAME: &str = "cgroups";
    match host.read("/sys/fs/cgroup/cgroup.controllers") {
        Some(controllers) if !controllers.is_empty() => {
            Check::good(NAME, format!("version 2: {controllers}"))
        }
        Some(_) => Check::hint(NAME, "version 2, no controllers: machines cannot be limited", &[]),
        None => Check::hint(
            NAME,
            "no version 2: machines cannot be limited",
            &["start the host with systemd.unified_cgroup_hierarchy=1"],
        ),
    }
}

fn memory(host: &HostRoot) -> Option<Check> {
    let memory = host.memory()?;
    let (total, available) = (memory.total >> 20, memory.available >> 20);
    Some(Check::good("memory", format!("{available} of {total} MiB available")))
}

/// Linux Documentation/admin-guide/mm/transhuge.rst.
fn transparent_huge_pages(host: &HostRoot) -> Check {
    const NAME: &str = "THP";
    const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let mend = format!("echo madvise | sudo tee {FILE}");
    match host.read(FILE) {
        None => Check::hint(NAME, "not in this kernel", &[]),
        Some(modes) if modes.contains("[never]") => {
            Check::hint(NAME, format!("{modes}: guests pay for more page faults"), &[&mend])
        }
        Some(modes) => Check::good(NAME, modes),
    }
}

/// Linux Documentation/admin-guide/mm/hugetlbpage.rst.
fn huge_pages(host: &HostRoot) -> Check {
    let count = host.read("/proc/sys/vm/nr_hugepages").unwrap_or_else(|| "0".to_owned());
    Check::good("huge pages", format!("{count} reserved"))
}

/// Linux Documentation/admin-guide/mm/ksm.rst.
fn same_page_merging(host: &HostRoot) -> Check {
    const NAME: &str = "KSM";
    match host.read("/sys/kernel/mm/ksm/run").as_deref() {
        None => Check::hint(NAME, "not in this kernel", &[]),
        Some("1") => Check::good(NAME, "on: equal pages of machines are shared"),
        Some(_) => Check::hint(
            NAME,
            "off: equal pages of machines are not shared",
            &["echo 1 | sudo tee /sys/kernel/mm/ksm/run"],
        ),
    }
}
