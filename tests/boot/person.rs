//! A person at the terminal of a guest without a disk.

use crate::desk::Desk;
use crate::guest::{Guest, PLAIN};
use libtest_mimic::{Failed, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        Trial::test(
            "a person gets a shell, works in it, and leaving it powers the machine off",
            || a_session(PLAIN),
        ),
        Trial::test("a person gets Debian's bash on the full kernel", || {
            a_session(Guest { kernel: "full", userland: "debian", ..PLAIN })
        }),
    ]
}

fn a_session(guest: Guest) -> Result<(), Failed> {
    let mut desk = Desk::sit_down(guest.command("")?)?;
    desk.wait_for("powers the machine off.")?;
    desk.wait_for("# ")?;
    // The answer is not in the line as typed, which the terminal echoes.
    desk.enter("echo $((6 * 7))-$(uname -s)-$(cat /proc/sys/kernel/hostname)")?;
    desk.wait_for("42-Linux-kezhan")?;
    // Ctrl-C is for who has the terminal. So who is to get it says that it has: before, it would be a key of the
    // shell's line editor, or meet the shell while it forks.
    desk.enter("sh -c \"echo sleep''ing; exec sleep 1000\"")?;
    desk.wait_for("sleeping")?;
    desk.press("\x03")?;
    desk.wait_for("# ")?;
    desk.enter("echo inter''rupted: $?")?;
    desk.wait_for("interrupted: 130")?;
    desk.enter("exit")?;
    desk.see_the_power_go_off()
}
