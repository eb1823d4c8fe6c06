//! The program. All of it is in the library; here is only the outermost net.

use berth_init::{early, run};

fn main() {
    early::guard(|| match early::stage() {
        early::Stage::Initrd => early::initrd_stage(),
        early::Stage::Main => run::main(early::main_stage()),
    })
}
