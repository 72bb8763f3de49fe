//! Instructions by family: what an oracle on real silicon cannot show (faults, restarts, modes), and a
//! few results that explain the rules.

mod mov;
mod shift;
mod stack;
mod string;
