//! See the library.

fn main() -> std::process::ExitCode {
    berth_ctl::main()
}
