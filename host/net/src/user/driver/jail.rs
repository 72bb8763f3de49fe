//! The jail of the network's thread: the system calls that it needs, and no others (seccomp(2)).
//!
//! ```text
//!   spawn: filter built ──► thread: filter set, told ──► the guest's frames, the host's sockets
//!                                      └── not set: the network does not start
//! ```
//! The thread reads what a hostile guest and hostile hosts send. Whoever takes it over finds no files, no
//! programs and no memory that can be made executable: each other call fails with EPERM, so that a library
//! which tries one, as a panic does for its backtrace, goes on without. Sockets are of IPv4 and IPv6; those of
//! files, and the removal of a file, are for a thread that is on a named network.
//!
//! What needs more is done elsewhere: forwards are opened, and their files removed, by the thread that asks for
//! it; the host's list of name servers is read before the jail is closed.
//!
//! Rejected: killing the process at the first forbidden call. A machine would die of a library's whim, and the
//! guest could then choose the moment.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Calls that are allowed whatever their arguments.
const PLAIN: [libc::c_long; 53] = [
    // The sockets that there are.
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_recvmmsg,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_fcntl,
    libc::SYS_flock,
    // Waiting.
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    // A thread's life and death.
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_exit,
    // The whole process's, after a panic: the terminal is restored first.
    libc::SYS_exit_group,
    libc::SYS_tgkill,
    libc::SYS_kill,
];

/// ioctl(2) on a terminal, and the one that makes a socket not wait.
const IOCTLS: [u64; 4] = [libc::TCGETS, libc::TCSETS, libc::TCSETSW, libc::FIONBIO];

/// A filter, ready to be set.
pub(super) struct Jail(BpfProgram);

/// One argument's condition: equal, under a mask when there is one.
fn argument(index: u8, mask: Option<u64>, value: u64) -> io::Result<SeccompRule> {
    let operation = mask.map_or(SeccompCmpOp::Eq, SeccompCmpOp::MaskedEq);
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operation, value);
    SeccompRule::new(vec![condition.map_err(io::Error::other)?]).map_err(io::Error::other)
}

impl Jail {
    /// The filter of a network; `lan` is whether it is on a named one.
    pub(super) fn new(lan: bool) -> io::Result<Jail> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            PLAIN.into_iter().map(|call| (call, Vec::new())).collect();
        let mut families = vec![libc::AF_INET, libc::AF_INET6];
        if lan {
            families.push(libc::AF_UNIX);
            rules.insert(libc::SYS_unlink, Vec::new());
        }
        let family = |family: libc::c_int| argument(0, None, family as u64);
        let sockets: io::Result<Vec<_>> = families.into_iter().map(family).collect();
        rules.insert(libc::SYS_socket, sockets?);
        let ioctls: io::Result<Vec<_>> =
            IOCTLS.into_iter().map(|request| argument(1, None, request)).collect();
        rules.insert(libc::SYS_ioctl, ioctls?);
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            rules.insert(call, vec![argument(2, Some(libc::PROT_EXEC as u64), 0)?]);
        }
        let denied = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, denied, SeccompAction::Allow, TargetArch::x86_64);
        let program = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
        Ok(Jail(program))
    }

    /// Closes it around this thread, for good.
    pub(super) fn enter(&self) -> io::Result<()> {
        seccompiler::apply_filter(&self.0).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixDatagram;
    use std::process::Command;

    fn denied<T>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.raw_os_error() == Some(libc::EPERM))
    }

    #[test]
    fn a_jailed_thread_has_sockets_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            Jail::new(false).unwrap().enter().unwrap();
            TcpStream::connect(at).unwrap();
            assert!(denied(File::open("/etc/passwd")), "files");
            assert!(denied(File::create("/tmp/kezhan-jail")), "new files");
            assert!(denied(std::fs::remove_file("/tmp/kezhan-jail")), "removal");
            assert!(denied(Command::new("/bin/true").spawn()), "programs");
            assert!(denied(UnixDatagram::unbound()), "sockets of files");
            assert!(denied(std::fs::read_dir("/")), "folders");
            std::thread::Builder::new().spawn(|| ()).unwrap_err();
        });
        thread.join().unwrap();
        drop(listener);
    }

    #[test]
    fn one_on_a_named_network_has_sockets_of_files() {
        let thread = std::thread::spawn(|| {
            Jail::new(true).unwrap().enter().unwrap();
            UnixDatagram::unbound().unwrap();
            assert!(denied(File::open("/etc/passwd")), "files");
        });
        thread.join().unwrap();
    }
}
