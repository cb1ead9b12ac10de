//! How a reader is written down.

/// Files of which what is damaged is left out, or made again.
pub const FORGIVEN: [&str; 3] = ["metrics.jsonl", "00000_stats.json", "00000.tar"];

/// A test for each line: number and name, the file, its structure, valid contents, what lies beside it, and what reads
/// it.
macro_rules! readers {
    ($($number:literal $name:ident: $file:literal, $structure:ident, $valid:expr, $beside:expr, $read:expr;)*) => {
        $(
            #[test]
            fn $name() {
                crate::fuzz(&crate::Reader {
                    name: stringify!($name),
                    number: $number,
                    file: $file,
                    structure: crate::mutate::Structure::$structure,
                    valid: $valid,
                    beside: $beside,
                    read: $read,
                    forgives: crate::readers::table::FORGIVEN.contains(&$file),
                });
            }
        )*
    };
}
