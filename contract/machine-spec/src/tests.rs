//! Sizes, CPU descriptions and validation.

use super::*;

#[test]
fn sizes_are_read_and_written_as_people_do() {
    for (text, bytes, shown) in [
        ("128M", 128 << 20, "128M"),
        ("2GiB", 2 << 30, "2G"),
        ("512kib", 512 << 10, "512K"),
        ("4097", 4097, "4097"),
        ("0", 0, "0"),
        ("8T", 8 << 40, "8T"),
    ] {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{text}");
    }
}

#[test]
fn a_size_that_is_none_is_refused_with_its_text() {
    for text in ["", "M", "-1", "12X", "99999999999T", "1.5G", "12 MB", "１２M"] {
        assert_eq!(text.parse::<Size>(), Err(SpecError::SizeSyntax(text.to_owned())));
    }
}

#[test]
fn a_cpu_is_read_back_as_it_was_written() {
    for text in ["host", "x86-64-v2,+aes,-popcnt", "x86-64-v4", "host,vendor=AuthenticAMD,+aes"] {
        assert_eq!(text.parse::<CpuSpec>().unwrap().to_string(), text);
    }
    assert!(matches!("pentium".parse::<CpuSpec>(), Err(SpecError::CpuModel(_))));
    assert!(matches!("host,vendor=Cyrix".parse::<CpuSpec>(), Err(SpecError::CpuVendor(_))));
    assert!(matches!("host,aes".parse::<CpuSpec>(), Err(SpecError::CpuFeature(_))));
    assert!(matches!("host,+".parse::<CpuSpec>(), Err(SpecError::CpuFeature(_))));
    assert!(matches!("host,é".parse::<CpuSpec>(), Err(SpecError::CpuFeature(_))));
}

#[test]
fn the_default_machine_is_valid() {
    assert_eq!(MachineSpec::default().validate(), Ok(()));
}

#[test]
fn each_wrong_value_is_named() {
    let wrong = |change: fn(&mut MachineSpec)| {
        let mut spec = MachineSpec::default();
        change(&mut spec);
        spec.validate().unwrap_err()
    };
    assert_eq!(wrong(|s| s.cpus = 0), SpecError::Cpus(0));
    assert_eq!(wrong(|s| s.cpus = 256), SpecError::Cpus(256));
    assert_eq!(wrong(|s| s.name = "a b".into()), SpecError::Name("a b".into()));
    assert_eq!(wrong(|s| s.memory = Size::from_bytes(1)), SpecError::Memory(Size::from_bytes(1)));
    assert_eq!(wrong(|s| s.initrd = Some("x".into())), SpecError::InitrdWithoutKernel);
    assert_eq!(wrong(|s| s.append = "x".into()), SpecError::AppendWithoutKernel);
    assert_eq!(wrong(|s| s.timeout = Some(0)), SpecError::Timeout);
}
