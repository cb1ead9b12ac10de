use std::process::ExitCode;

fn main() -> ExitCode {
    stablerep::cli::main()
}
