//! The program. All of it is in the library; here is only the outermost net.

use berth_init::{early, run};

fn main() {
    early::guard(|| run::main(early::main_stage(early::initrd_stage())));
}
