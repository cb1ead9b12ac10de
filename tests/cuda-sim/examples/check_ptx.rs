//! Parses PTX files and says what each kernel needs, or why the module is refused: `check_ptx FILE…`.

use cuda_sim::ptx::Module;

fn main() {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = true;
                continue;
            }
        };
        match Module::parse(&text) {
            Ok(module) => {
                for k in &module.kernels {
                    println!(
                        "{path}: {}: {} bytes of parameters, {} shared, {} local, {} rows",
                        k.name,
                        k.param_bytes,
                        k.static_shared,
                        k.local_bytes,
                        k.rows()
                    );
                }
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                failed = true;
            }
        }
    }
    std::process::exit(i32::from(failed));
}
