//! Port and memory accesses, shutdown, kicks.

use crate::Case;
use crate::kit::*;
use iced_x86::code_asm::*;
use kezhan_hypervisor::testkit::Access::{ReadMemory, ReadPort, WriteMemory, WritePort};
use kezhan_hypervisor::{DescriptorTable, Exit, Hypervisor};
use std::sync::mpsc;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("port_accesses_keep_their_size_and_value", ports),
        Case::new("string_port_accesses_come_one_by_one", string_ports),
        Case::new("memory_accesses_keep_their_size_and_value", registers),
        Case::new("read_modify_write_of_a_register_reads_then_writes", modify_register),
        Case::new("string_accesses_to_registers_come_one_by_one", string_registers),
        Case::new("a_triple_fault_is_a_shutdown", triple_fault),
        Case::new("a_kick_ends_a_spinning_guest", kick_spinning),
        Case::new("a_kick_ends_a_halted_guest", kick_halted),
        Case::new("a_kick_before_run_is_not_lost", kick_early),
        Case::new("each_of_many_kicks_ends_a_run", many_kicks),
        Case::new("a_kick_from_inside_an_access_completes_the_access_first", kick_inside),
        Case::new("a_halted_guest_uses_no_host_cpu", halt_sleeps),
    ]
}

fn ports(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(eax, 0x1234_5678_u32)?;
        a.out(0x10, al)?;
        a.out(0x11, ax)?;
        a.out(0x12, eax)?;
        a.mov(edx, 0xabcd_u32)?;
        a.out(dx, al)?;
        for (n, size) in [(0, 1), (1, 2), (2, 4)] {
            a.mov(rax, u64::MAX)?;
            match size {
                1 => a.in_(al, dx)?,
                2 => a.in_(ax, dx)?,
                _ => a.in_(eax, dx)?,
            }
            a.mov(qword_ptr(DATA + 8 * n), rax)?;
        }
        Ok(())
    });
    for value in [0x11, 0x2222, 0x3333_3333] {
        guest.bench.seen.answer(value);
    }
    guest.run();
    let wanted = [
        WritePort(0x10, 0x78, 1),
        WritePort(0x11, 0x5678, 2),
        WritePort(0x12, 0x1234_5678, 4),
        WritePort(0xabcd, 0x78, 1),
        ReadPort(0xabcd, 1),
        ReadPort(0xabcd, 2),
        ReadPort(0xabcd, 4),
    ];
    assert_eq!(guest.accesses(), wanted);
    assert_eq!(guest.result(0), 0xffff_ffff_ffff_ff11);
    assert_eq!(guest.result(1), 0xffff_ffff_ffff_2222);
    assert_eq!(guest.result(2), 0x3333_3333);
}

fn string_ports(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rax, 0x8877_6655_4433_2211_u64)?;
        a.mov(qword_ptr(DATA), rax)?;
        a.mov(edx, 0x300_u32)?;
        for size in [1, 2, 4] {
            a.mov(esi, DATA as u32)?;
            a.mov(ecx, 2_u32)?;
            match size {
                1 => a.rep().outsb()?,
                2 => a.rep().outsw()?,
                _ => a.rep().outsd()?,
            }
        }
        a.mov(edi, DATA as u32 + 8)?;
        a.mov(ecx, 3_u32)?;
        a.rep().insw()
    });
    for value in [0xaaaa, 0xbbbb, 0xcccc] {
        guest.bench.seen.answer(value);
    }
    guest.run();
    let wanted = [
        WritePort(0x300, 0x11, 1),
        WritePort(0x300, 0x22, 1),
        WritePort(0x300, 0x2211, 2),
        WritePort(0x300, 0x4433, 2),
        WritePort(0x300, 0x4433_2211, 4),
        WritePort(0x300, 0x8877_6655, 4),
        ReadPort(0x300, 2),
        ReadPort(0x300, 2),
        ReadPort(0x300, 2),
    ];
    assert_eq!(guest.accesses(), wanted);
    assert_eq!(guest.result(1), 0xcccc_bbbb_aaaa);
}

fn registers(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, REGISTERS)?;
        a.mov(rax, 0x8877_6655_4433_2211_u64)?;
        a.mov(byte_ptr(rbx + 1), al)?;
        a.mov(word_ptr(rbx + 2), ax)?;
        a.mov(dword_ptr(rbx + 4), eax)?;
        a.mov(qword_ptr(rbx + 8), rax)?;
        a.movzx(eax, byte_ptr(rbx + 1))?;
        a.mov(qword_ptr(DATA), rax)?;
        a.movsx(rax, word_ptr(rbx + 2))?;
        a.mov(qword_ptr(DATA + 8), rax)?;
        a.mov(eax, dword_ptr(rbx + 4))?;
        a.mov(qword_ptr(DATA + 16), rax)?;
        a.mov(rax, qword_ptr(rbx + 8))?;
        a.mov(qword_ptr(DATA + 24), rax)
    });
    for value in [0x12, 0x8001, 0x1234_5678, 0x1234_5678_9abc_def0] {
        guest.bench.seen.answer(value);
    }
    guest.run();
    let wanted = [
        WriteMemory(REGISTERS + 1, 0x11, 1),
        WriteMemory(REGISTERS + 2, 0x2211, 2),
        WriteMemory(REGISTERS + 4, 0x4433_2211, 4),
        WriteMemory(REGISTERS + 8, 0x8877_6655_4433_2211, 8),
        ReadMemory(REGISTERS + 1, 1),
        ReadMemory(REGISTERS + 2, 2),
        ReadMemory(REGISTERS + 4, 4),
        ReadMemory(REGISTERS + 8, 8),
    ];
    assert_eq!(guest.accesses(), wanted);
    let results: Vec<u64> = (0..4).map(|n| guest.result(n)).collect();
    assert_eq!(results, [0x12, 0xffff_ffff_ffff_8001, 0x1234_5678, 0x1234_5678_9abc_def0]);
}

fn modify_register(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rbx, REGISTERS)?;
        a.or(dword_ptr(rbx), 0x10)
    });
    guest.bench.seen.answer(0x8000_0001);
    guest.run();
    assert_eq!(
        guest.accesses(),
        [ReadMemory(REGISTERS, 4), WriteMemory(REGISTERS, 0x8000_0011, 4)]
    );
}

fn string_registers(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.mov(rdi, REGISTERS)?;
        a.mov(eax, 7_u32)?;
        a.mov(ecx, 3_u32)?;
        a.rep().stosd()?;
        a.mov(rsi, REGISTERS)?;
        a.mov(edi, DATA as u32)?;
        a.mov(ecx, 2_u32)?;
        a.rep().movsd()
    });
    guest.bench.seen.answer(0x11);
    guest.bench.seen.answer(0x22);
    guest.run();
    let wanted = [
        WriteMemory(REGISTERS, 7, 4),
        WriteMemory(REGISTERS + 4, 7, 4),
        WriteMemory(REGISTERS + 8, 7, 4),
        ReadMemory(REGISTERS, 4),
        ReadMemory(REGISTERS + 4, 4),
    ];
    assert_eq!(guest.accesses(), wanted);
    assert_eq!(guest.result(0), 0x22_0000_0011);
}

fn triple_fault(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| a.ud2());
    let mut vcpu = guest.boot();
    let mut state = vcpu.state().unwrap();
    state.system.idtr = DescriptorTable { base: 0, limit: 0 };
    vcpu.set_state(&state).unwrap();
    assert_eq!(guest.go(vcpu.as_mut()), Exit::Shutdown);
}

fn spin(a: &mut CodeAssembler) -> Code {
    let mut forever = a.create_label();
    a.set_label(&mut forever)?;
    a.inc(qword_ptr(DATA))?;
    a.jmp(forever)
}

fn halt(a: &mut CodeAssembler) -> Code {
    let mut forever = a.create_label();
    a.set_label(&mut forever)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(forever)
}

fn kick_after(guest: &Guest, delay: Duration) {
    let mut vcpu = guest.boot();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(delay);
            guest.partition.kick(0);
        });
        guest.run_until_kicked(vcpu.as_mut());
    });
}

fn kick_spinning(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, spin);
    kick_after(&guest, Duration::from_millis(20));
    assert!(guest.result(0) > 0, "the guest ran");
}

fn kick_halted(engine: &dyn Hypervisor) {
    kick_after(&Guest::new(engine, halt), Duration::from_millis(20));
}

fn kick_early(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, spin);
    guest.partition.kick(0);
    let mut vcpu = guest.boot();
    guest.run_until_kicked(vcpu.as_mut());
    guest.partition.kick(0);
    guest.run_until_kicked(vcpu.as_mut());
    assert_eq!(guest.result(0), 0, "the guest did not run");
}

fn many_kicks(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, spin);
    let mut vcpu = guest.boot();
    let (returned, returns) = mpsc::channel();
    let lost = std::thread::scope(|scope| {
        let kicker = scope.spawn(|| {
            let late = (0..300).find(|_| {
                guest.partition.kick(0);
                let late = returns.recv_timeout(Duration::from_secs(10)).is_err();
                if late {
                    guest.partition.kick(0);
                }
                late
            });
            drop(returns);
            guest.partition.kick(0);
            late
        });
        loop {
            guest.run_until_kicked(vcpu.as_mut());
            if returned.send(()).is_err() {
                break kicker.join().unwrap();
            }
        }
    });
    assert_eq!(lost, None, "the number of the kick that was lost");
}

fn kick_inside(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, |a| {
        a.out(0x70, al)?;
        a.mov(dword_ptr(DATA), 1)?;
        spin(a)
    });
    guest.on_port(0x70, |partition| partition.kick(0));
    let mut vcpu = guest.boot();
    guest.run_until_kicked(vcpu.as_mut());
    assert_eq!(vcpu.state().unwrap().general.rip, CODE + 2, "behind the OUT");
    assert_eq!(guest.result(0), 0);
}

fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills a struct of ours.
    #[expect(unsafe_code, reason = "the standard library has no thread CPU clock")]
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn halt_sleeps(engine: &dyn Hypervisor) {
    let guest = Guest::new(engine, halt);
    let before = thread_cpu_time();
    kick_after(&guest, Duration::from_millis(400));
    let used = thread_cpu_time() - before;
    assert!(used < Duration::from_millis(100), "{used:?} of host CPU in 400 ms of HLT");
}
