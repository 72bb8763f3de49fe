use super::*;
use std::path::Path;
use tempfile::TempDir;

/// A host as a tree of files. Starts as an Intel host on which everything is well.
struct FakeHost(TempDir);

impl FakeHost {
    fn good() -> FakeHost {
        let host = FakeHost(tempfile::tempdir().unwrap());
        host.cpu("GenuineIntel", "fpu vmx sse2");
        host.set("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n");
        host.set("/proc/modules", "kvm_intel 380928 0 - Live 0x0\nkvm 1146880 1 kvm_intel, Live 0x0\nbridge 1 0 - Live 0x0\n");
        host.set("/dev/kvm", "");
        host.set("/dev/net/tun", "");
        host.set("/proc/self/status", "Name:\tkezhan\nCapEff:\t000001ffffffffff\n");
        host.set("/etc/group", "root:x:0:\nkvm:x:106:inn\n");
        host.set("/sys/module/kvm_intel/parameters/nested", "Y\n");
        host.set("/proc/sys/user/max_user_namespaces", "30000\n");
        host.set("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
        host.set("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
        host.set("/sys/kernel/mm/ksm/run", "1\n");
        host
    }

    fn cpu(&self, vendor: &str, flags: &str) {
        let text = format!(
            "processor\t: 0\nvendor_id\t: {vendor}\nmodel name\t: Some CPU\nflags\t\t: {flags}\n"
        );
        self.set("/proc/cpuinfo", &text);
    }

    fn set(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.0.path().join(path.trim_start_matches('/'))).unwrap();
    }

    fn examine(&self, kvm: KvmReport) -> Report {
        examine(&HostRoot::new(self.0.path()), kvm)
    }

    fn check(&self, kvm: KvmReport, name: &str) -> Check {
        let report = self.examine(kvm);
        report.checks.into_iter().find(|check| check.name == name).expect("such a check")
    }
}

fn good_kvm() -> KvmReport {
    KvmReport {
        api_version: Some(12),
        capabilities: vec![("KVM_CAP_SPLIT_IRQCHIP".to_owned(), 1)],
        runs_guests: Some(true),
        instructions_per_second: Some(2_000_000_000),
        ..KvmReport::default()
    }
}

#[test]
fn a_good_host_has_nothing_to_mend_and_takes_kvm() {
    let report = FakeHost::good().examine(good_kvm());
    for check in &report.checks {
        assert!(check.state == State::Good && check.mend.is_empty(), "{check:?}");
    }
    assert_eq!(report.engine, "kvm");
}

#[test]
fn a_host_without_io_uring_is_told_so_with_the_command_that_allows_it() {
    let host = FakeHost::good();
    host.set("/proc/sys/kernel/io_uring_disabled", "2\n");
    let check = host.check(good_kvm(), "io_uring");
    assert_eq!(check.state, State::Hint);
    assert!(check.mend[0].ends_with("kernel.io_uring_disabled=0"), "{check:?}");
}

#[test]
fn virtualisation_switched_off_in_the_bios_is_named_as_that_bios_names_it() {
    let host = FakeHost::good();
    host.cpu("GenuineIntel", "fpu sse2");
    let check = host.check(KvmReport::default(), "cpu");
    assert_eq!(check.state, State::Fault);
    assert!(check.mend[0].contains("BIOS") && check.mend[0].contains("VT-x"), "{check:?}");
    host.cpu("AuthenticAMD", "fpu sse2");
    assert!(host.check(KvmReport::default(), "cpu").mend[0].contains("SVM"));
}

#[test]
fn a_host_that_is_a_guest_points_at_the_outer_host() {
    let host = FakeHost::good();
    host.cpu("GenuineIntel", "fpu hypervisor sse2");
    let check = host.check(KvmReport::default(), "cpu");
    assert!(check.mend[0].contains("nested=1"), "{check:?}");
}

#[test]
fn a_module_that_is_not_loaded_is_mended_by_modprobe() {
    let host = FakeHost::good();
    host.set("/proc/modules", "kvm 1 0 - Live 0x0\n");
    host.remove("/sys/module/kvm_intel/parameters/nested");
    std::fs::remove_dir_all(host.0.path().join("sys/module")).unwrap();
    host.set(
        "/lib/modules/6.1.0-13-amd64/modules.dep",
        "kernel/arch/x86/kvm/kvm-intel.ko.xz: kernel/arch/x86/kvm/kvm.ko.xz\n",
    );
    let check = host.check(KvmReport::default(), "module for CPU");
    assert_eq!(
        (check.state, check.mend.as_slice()),
        (State::Fault, &["sudo modprobe kvm_intel".to_owned()][..])
    );
    assert_eq!(check.found, "kvm_intel: not loaded");
}

#[test]
fn a_built_in_module_counts_as_loaded() {
    let host = FakeHost::good();
    host.set("/proc/modules", "");
    host.set("/lib/modules/6.1.0-13-amd64/modules.builtin", "kernel/arch/x86/kvm/kvm.ko\n");
    assert_eq!(host.check(good_kvm(), "module kvm").found, "kvm: built in");
}

#[test]
fn a_device_closed_to_the_user_is_mended_by_its_group() {
    let host = FakeHost::good();
    let kvm = KvmReport { refused: Some("Permission denied".to_owned()), ..KvmReport::default() };
    let path = host.0.path().join("dev/kvm");
    std::os::unix::fs::chown(&path, None, Some(106)).unwrap();
    chmod(&path, 0o660);
    let check = host.check(kvm.clone(), "/dev/kvm");
    assert_eq!(check.mend, ["sudo usermod -aG kvm $USER, then log in again"]);
    chmod(&path, 0o600);
    let check = host.check(kvm, "/dev/kvm");
    assert!(check.mend[0].contains("chmod 660"), "{check:?}");
    assert!(check.found.contains("Permission denied"), "{check:?}");
}

fn chmod(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_missing_device_is_a_fault_and_soft_is_taken() {
    let host = FakeHost::good();
    host.remove("/dev/kvm");
    let kvm = KvmReport { refused: Some("No such file".to_owned()), ..KvmReport::default() };
    let report = host.examine(kvm.clone());
    assert_eq!(report.engine, "soft");
    assert_eq!(host.check(kvm, "/dev/kvm").found, "missing");
}

#[test]
fn a_kvm_that_cannot_run_stock_kernels_is_named_with_its_speed() {
    let kvm = KvmReport {
        runs_guests: Some(false),
        instructions_per_second: Some(3_800_000),
        failing: vec!["int3".to_owned(), "cmpxchg16b".to_owned()],
        ..good_kvm()
    };
    let check = FakeHost::good().check(kvm, "probe guest");
    assert_eq!(check.state, State::Fault);
    assert!(check.found.starts_with("ring 0 at 3.8 million"), "{check:?}");
    assert!(check.found.contains("int3 cmpxchg16b"), "{check:?}");
}

#[test]
fn closed_user_namespaces_are_opened_by_the_switch_that_closes_them() {
    let host = FakeHost::good();
    host.set("/proc/sys/kernel/unprivileged_userns_clone", "0\n");
    let check = host.check(good_kvm(), "user namespaces");
    assert_eq!(check.mend, ["sudo sysctl -w kernel.unprivileged_userns_clone=1"]);
}

#[test]
fn an_empty_tree_is_examined_without_a_panic_and_every_fault_has_its_mend() {
    let tree = tempfile::tempdir().unwrap();
    let report = examine(&HostRoot::new(tree.path()), KvmReport::default());
    for check in report.checks.iter().filter(|check| check.state == State::Fault) {
        assert!(!check.mend.is_empty(), "{check:?}");
    }
    let text = report.to_string();
    assert!(text.contains("!!  /dev/kvm"), "{text}");
    assert!(serde_json::to_value(&report).unwrap()["checks"].is_array());
}

#[test]
fn without_the_right_to_make_networks_the_ways_around_it_are_told() {
    let host = FakeHost::good();
    assert_eq!(host.check(good_kvm(), "networks").state, State::Good);
    host.set("/proc/self/status", "CapEff:\t0000000000000000\n");
    let check = host.check(good_kvm(), "networks");
    assert_eq!(check.state, State::Hint);
    assert!(check.mend[1].contains("ip tuntap add"), "{check:?}");
}
