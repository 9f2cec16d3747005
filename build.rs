//! Links the addon against Node-API if the `binding` feature is on, for the whole life of the process.

fn main() {
    if std::env::var_os("CARGO_FEATURE_BINDING").is_some() {
        napi_build::setup();
        // Node unloads an addon with the last worker that uses it. A lookup of a host may return later than that, and
        // its thread needs its code. Other systems than those with ELF keep an image that has thread-local variables.
        let is_elf = std::env::var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "unix")
            && std::env::var("CARGO_CFG_TARGET_VENDOR").is_ok_and(|vendor| vendor != "apple");
        if is_elf {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
    }
}
